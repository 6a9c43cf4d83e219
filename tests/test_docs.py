"""What README and docs say to type is right: commands are parsed, code compiles, imports resolve.

A block's language says what is in it: `bash` holds commands, `console` a transcript with commands
behind `$ `, `python` code, `yaml` a config; anything else is only read. `test_blocks.py` runs them.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import runpy
import shlex
import textwrap
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sft_diversity.cluster import plan
from sft_diversity.core.errors import SftdivError
from sft_diversity.verbs import VERBS
from sft_diversity.verbs.options import command

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "AGENTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"bash", "console", "python", "text", "yaml"}
OTHERS = {"hf", "transformers"}  # programs that are not ours to check
OURS = ("benchmarks/", "configs/", "pipelines/", "docs/")  # what lies in every checkout
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, as PAGE:LINE, its language, and what is in it."""

    at: str
    language: str
    text: str
    info: str = ""  # what stands behind the language


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, those inside tabs too."""
    found, opened = [], None
    lines = page.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if opened is None:
            opened = number
        else:
            at = f"{page.relative_to(ROOT)}:{opened + 1}"
            language, _, info = lines[opened].strip("` ").partition(" ")
            text = textwrap.dedent("\n".join(lines[opened + 1 : number]))
            found.append(Block(at, language, text, info))
            opened = None
    assert opened is None, f"{page}:{opened} opens a block that nothing closes"
    return found


def commands(block: Block) -> list[list[str]]:
    """Return the words of each command of a block, without comments."""
    text = block.text
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


EVERY = [block for page in PAGES for block in blocks(page)]


# --- commands are parsed as the command line does it ---------------------------------------------


class Parsed(Exception):
    """A recipe has understood its arguments."""


def check(words: list[str]) -> None:
    """Refuse a command with a program, verb, option, target or file that is not there."""
    program, *rest = words
    rest = rest[: rest.index(">")] if ">" in rest else rest
    for word in rest:
        path = word.rpartition("=")[2]
        assert not path.startswith(OURS) or (ROOT / path).exists(), f"{path} is not there"
    if program == "sftdiv":
        check_sftdiv(rest)
    elif program == "make":
        targets = [word for word in rest if "=" not in word]  # the others are variables
        missing = [target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.M)]
        assert not missing, f"make has no {missing}"
    elif program == "accelerate":
        assert rest[0] == "launch"
        if "sft_diversity" in rest:
            check_sftdiv(rest[rest.index("sft_diversity") + 1 :])
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), rest[0]
    elif program == "pip":
        named = re.findall(r"(?:sft-diversity|\.)\[([^]]*)\]", " ".join(rest))
        unknown = {extra for one in named for extra in one.split(",")} - {*EXTRAS}
        assert not unknown, f"no extra is called {unknown}"
    else:
        assert program in OTHERS, f"what is {program}?"


def check_sftdiv(words: list[str]) -> None:
    verb, *rest = words
    if verb == "run":
        recipe = runpy.run_path(str(ROOT / "pipelines" / f"{rest[0]}.py"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
            with pytest.raises(Parsed):
                recipe["main"](rest[1:])
        return
    assert verb in VERBS, f"no verb {verb}"
    plan.parse(words)
    if verb == "submit":
        check_sftdiv(list(plan.checked(rest[rest.index("--") + 1 :])))


def parse_only(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    _, unknown = parser.parse_known_args(arguments)
    assert not unknown, unknown
    raise Parsed


def faults(told: Iterable[tuple[str, list[str]]]) -> list[str]:
    """Return what is wrong with commands, each with its place."""
    found = []
    for at, words in told:
        try:
            check(words)
        except (AssertionError, SftdivError, SystemExit) as fault:
            found.append(f"{at}: {shlex.join(words)}: {fault}")
    return found


def test_every_block_says_its_language():
    assert [block.at for block in EVERY if block.language not in LANGUAGES] == []


def test_commands_of_blocks_and_of_configs_are_as_the_command_line_takes_them():
    told = [(b.at, c) for b in EVERY if b.language in ("bash", "console") for c in commands(b)]
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        first = path.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")
        told += [(str(path.relative_to(ROOT)), shlex.split(first, comments=True))]
    assert len(told) > 60
    assert not (wrong := faults(told)), "\n".join(wrong)


def test_verbs_and_options_in_running_text_are_there():
    """Of `sftdiv VERB --option ...` between backquotes, however it is cut short."""
    wrong = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
        for said in re.findall(r"`sftdiv ([^`]+)`", text):
            verb, *words = said.split()
            if verb in ("run", "submit") or not verb.isalpha() or not verb.islower():
                continue
            known = options(verb) if verb in VERBS else set()
            asked = {word.partition("=")[0] for word in words if word.startswith("--")}
            if verb not in VERBS or asked - known - {"--"}:
                wrong.append(f"{page.relative_to(ROOT)}: sftdiv {said}")
    assert wrong == []


def options(verb: str) -> set[str]:
    parameters = command(VERBS[verb], lambda *_: None).params
    return {"--help"} | {one for p in parameters for one in (*p.opts, *p.secondary_opts)}


# --- code is compiled, and its imports resolved --------------------------------------------------


@pytest.mark.parametrize(
    "block", [b for b in EVERY if b.language == "python"], ids=lambda block: block.at
)
def test_python_compiles_and_imports_what_is_there(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
