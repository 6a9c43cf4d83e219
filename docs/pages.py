"""What mkdocs makes of the package as it is: the commands' page, the changelog, links that hold.

`mkdocs.yml` names this file as its hook. Nothing here is read by the package.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import griffe
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import sft_diversity
from sft_diversity.verbs import VERBS, Verb
from sft_diversity.verbs.options import command

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "docs/notebooks"
_OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+((?:benchmarks|configs|data|tests|pipelines|sft_diversity|README|AGENTS)[^)]*)\)"
)
_COMMANDS = """\
# Commands

Most commands take `--config FILE.yaml` (flags go over it), `--dry-run` (print the plan, touch
nothing) and `--json` (one object on stdout): [what every command has](cli.md). In Python each is a
function of the same name and options: `sft_diversity.measure("subset", out="measures")`. What a
YAML file can say besides is listed below a command's options, with dots for keys inside keys.

"""
_SELECT = """\
# Select in Python

`import sft_diversity as sd`; everything here is in `sd`.

"""
_VERBS = """\
# The verbs in Python

Each command of the shell is a function: `import sft_diversity as sd`, then `sd.measure("subset")`.
Options beyond those in the signature are those of the [command](../commands.md), as keyword
arguments; `config` is a YAML file of them. They return what `--json` prints, as a dict. `sd.select`
is richer: [select](select.md).

"""
_TRAINING = """\
# Training pieces

For any training loop; `import sft_diversity as sd`. What the schedules look like is in
[schedules](../schedules.md).

"""


_PLAIN = {
    "int": "number",
    "float": "number",
    "str": "text",
    "bool": "yes or no",
    "Path": "path",
    "list[Path]": "paths",
    "list[str]": "texts",
    "dict": "keys and values",
}


class PlainTypes(griffe.Extension):
    """Shows `Annotated[str, ...]`, which the command line reads, as `str`."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Put the type in the place of what is said about it."""
        for parameter in func.parameters:
            note = parameter.annotation
            if isinstance(note, griffe.ExprSubscript) and str(note.left) == "Annotated":
                whole = note.slice
                inner = whole.elements[0] if isinstance(whole, griffe.ExprTuple) else whole
                parameter.annotation = inner


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of the package."""
    pages = {
        "commands.md": _COMMANDS + "\n".join(map(_verb, VERBS.values())),
        "changes.md": _changes(),
        **_python(),
        **{
            f"notebooks/{path.stem}.md": _notebook(path)
            for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        },
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Name files outside of docs/ by their path: the site does not hold them."""
    return _OUTSIDE.sub(r"\1 (`\2`)", markdown)


def _python() -> dict[str, str]:
    """Return the pages of what `sft_diversity` has, by where it is at home."""
    pages = {"select": _SELECT, "verbs": _VERBS, "training": _TRAINING}
    for name in sft_diversity.__all__:
        home = getattr(sft_diversity, name).__module__
        page = "training" if ".training." in home else "select"
        pages["verbs" if name in VERBS and name != "select" else page] += f"::: {home}.{name}\n"
    return {f"api/{page}.md": text for page, text in pages.items()}


def _notebook(path: Path) -> str:
    """Return a notebook as a page: its text, its code, and what it showed."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            parts.append(_shown(output.get("data", {"text/plain": output.get("text", "")})))
    title, _, rest = "\n\n".join(part for part in parts if part).partition("\n\n")
    return f"{title}\n\n*The notebook is `docs/notebooks/{path.name}`.*\n\n{rest}\n"


def _shown(data: dict[str, Any]) -> str:
    """Return what a cell showed, the richest form of it."""
    if "image/png" in data:
        return f"![What the cell drew](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:
        table = "".join(data["text/html"]).replace("\n", "")
        table = re.sub(r"<style.*?</style>|<small>.*?</small>|(?<=<table) [^>]*", "", table)
        return re.sub(r"(<thead>.*?</tr>).*?</thead>", r"\1</thead>", table).replace("&quot;", "")
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


def _changes() -> str:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](", "](../")
    return text.replace("](../docs/", "](").replace("](../http", "](http")


def _verb(verb: Verb) -> str:
    parsed = command(verb, lambda *_: None)
    taken = [p.name.upper() for p in parsed.params if p.param_type_name == "argument"]
    usage = " ".join(["sftdiv", verb.name, *taken])
    lines = [f"## {verb.name}", "", verb.help, "", "```text", usage, "```", ""]
    options = [p for p in parsed.params if p.param_type_name == "option" and p.name != "help"]
    config = verb.config()
    fields = {} if config is None else config.model_fields
    lines += ["| option | takes | what it does |", "| --- | --- | --- |"]
    for option in options:
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        field = fields.get(option.name)
        takes = _takes(field.annotation) if field is not None else _takes(option.bare_type())
        lines.append(
            f"| {names} | {'' if option.is_flag else takes} | {_cell(option.help or '')} |"
        )
    flags = {option.name for option in options}
    keys = [
        row for name, row in _keys(config) if name.partition(".")[0] not in flags or "." in name
    ]
    if keys:
        lines += ["", f'??? note "Further keys of a YAML file for `{verb.name}`"', ""]
        lines += ["    | key | takes | what it is |", "    | --- | --- | --- |", *keys]
    return "\n".join([*lines, ""])


def _keys(model: Any, under: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key of a config with its row of the table, those inside keys after them."""
    for name, field in {} if model is None else model.model_fields.items():
        key = f"{under}{name}"
        yield key, f"    | `{key}` | {_takes(field.annotation)} | {_cell(_about(field))} |"
        inner = _inner(field.annotation)
        if inner is not None:
            yield from _keys(inner, f"{key}.")


def _about(field: FieldInfo) -> str:
    text = (field.description or "").rstrip(".")
    plain = field.default not in (None, PydanticUndefined) and not isinstance(
        field.default, BaseModel
    )
    return f"{text} [default: {field.default}]" if plain and field.default not in ({}, []) else text


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((one for one in map(_inner, get_args(annotation)) if one is not None), None)


def _takes(annotation: Any) -> str:
    """Return a type as a person says it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_takes(one) for one in inner if one is not type(None)))
    if origin in (list, tuple):
        return f"list of {_takes(inner[0])}"
    if origin is not None and inner:
        return "keys and values" if origin is dict else _takes(inner[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys below"
    named = getattr(annotation, "__name__", str(annotation))
    return _PLAIN.get(named, named)


def _cell(text: str) -> str:
    """Return text that stands in a cell of a table as it is."""
    plain = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"\[default: (.*)\]$", r"(`\1` by default)", plain)
