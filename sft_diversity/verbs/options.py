"""From a verb to its command: arguments of the function, then an option for each of its config's.

A command's options are the fields of its config: name, type and help stand there.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sft_diversity.verbs import Verb

WORK = Path(".sftdiv")

# What verbs' arguments are called and do, where several have them.
ConfigFile: TypeAlias = Annotated[
    str | Path | None, typer.Option("--config", help="YAML file of options; flags override it.")
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and touch nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Work: TypeAlias = Annotated[
    str | Path, typer.Option(help="Folder for what is made on the way and reused.")
]
Corpus: TypeAlias = Annotated[
    str | Path, typer.Argument(help="Output folder of `sftdiv ingest`, `clean` or `rewrite`.")
]
CorpusOption: TypeAlias = Annotated[
    str | Path | None, typer.Option("--corpus", help="Where its corpus is.")
]
Out: TypeAlias = Annotated[str | Path, typer.Option(help="Folder to write.")]
OutOrNone: TypeAlias = Annotated[str | Path | None, typer.Option(help="Folder to write.")]
OutOrWork: TypeAlias = Annotated[
    str | Path | None, typer.Option("--out", help="Folder to write; default: in --work.")
]
Phases: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Restarts after warm-up, each with its length, peak, floor and phi: "
        '"0.6 phi=1, 0.4 peak=0.3 phi=5".',
    ),
]


def command(verb: Verb, finish: Callable[[Verb, Any, bool], None]) -> Any:
    """Return the command of a verb; `finish` is given its result and whether JSON is asked for."""
    function = verb.function()
    parameters = [
        _argument(parameter, verb)
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    names = [parameter.name for parameter in parameters]
    at = names.index("dry_run") + 1 if "dry_run" in names else len(names)
    parameters.insert(at, _keyword("as_json", AsJson, False))
    config = verb.config()
    fields = {} if config is None else config.model_fields
    parameters += [
        parameter
        for name, field in fields.items()
        if name not in names and (parameter := _option(name, field))
    ]
    sources = next((p for p in names if _is_sources(function, p)), None)

    def call(*, as_json: bool, **given: Any) -> None:
        given = {name: None if value == [] else value for name, value in given.items()}
        several = [] if sources is None else given.pop(sources) or []
        first = [given.pop(name) for name in positional if name in given]
        finish(verb, function(*first, *several, **given), as_json)

    positional = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    call.__name__, call.__doc__ = verb.name, verb.help
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(verb.name)(call)
    return typer.main.get_command(app)


def _is_sources(function: Callable[..., Any], name: str) -> bool:
    return inspect.signature(function).parameters[name].kind is inspect.Parameter.VAR_POSITIONAL


def _argument(parameter: inspect.Parameter, verb: Verb) -> inspect.Parameter:
    """Return a function's parameter as the command line takes it: a path, a list of sources."""
    kind, *told = get_args(parameter.annotation) or (parameter.annotation,)
    if get_origin(parameter.annotation) is not Annotated:
        kind, told = parameter.annotation, []
    forced = [one for one in told if isinstance(one, type)]  # a path would spoil a URL
    told, default = [one for one in told if one not in forced], parameter.default
    if parameter.kind is parameter.VAR_POSITIONAL:
        kind = list[forced[0] if forced else str]  # type: ignore[misc]
        kind, default = (kind, parameter.empty) if verb.least else (kind | None, None)
    else:
        kind = forced[0] if forced else _one_type(kind)
    return _keyword(parameter.name, Annotated[kind, *told] if told else kind, default)


def _one_type(kind: Any) -> Any:
    """Return the one type in which a value of several comes from a command line."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    options = get_args(kind)
    if str not in options:
        return kind
    chosen = Path if Path in options else str
    return chosen | None if type(None) in options else chosen


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _option(name: str, field: FieldInfo) -> inspect.Parameter | None:
    kind = _plain_type(field.annotation)
    if kind is None:
        return None
    text = (field.description or name).rstrip(".")
    if field.default not in (None, PydanticUndefined):
        text += f" [default: {str(field.default).lower() if kind is bool else field.default}]"
    flag = "--" + name.replace("_", "-")
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    annotation = Annotated[kind | None, typer.Option(*names, help=text, show_default=False)]  # type: ignore[valid-type]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _plain_type(annotation: Any) -> type | None:
    """Return int, float, bool or str for a field one flag can hold, else None."""
    options = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is Literal:
        kinds = {type(value) for value in get_args(annotation)}
        return kinds.pop() if len(kinds) == 1 else str
    if annotation in (int, float, bool, str):
        return annotation  # type: ignore[no-any-return]
    if annotation is Path:
        return str
    if get_origin(annotation) is Annotated:
        return _plain_type(get_args(annotation)[0])
    if options and get_origin(annotation) not in (list, dict, tuple):
        inner = {_plain_type(option) for option in options}
        return inner.pop() if len(inner) == 1 else (str if inner <= {int, float, str} else None)
    return None
