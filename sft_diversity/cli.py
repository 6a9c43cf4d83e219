"""The command line: the table of verbs as commands. Parse, call, show."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sft_diversity.core import extras, progress, stopping
from sft_diversity.core.errors import Interrupted, SftdivError, UsageError, printable
from sft_diversity.verbs import VERBS, Verb


class _Verbs(typer.core.TyperGroup):
    """The verbs by name; one is imported when it is called, none for the list of all."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*VERBS, "run"]

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in VERBS:
            return super().get_command(ctx, name)
        from sft_diversity.verbs.options import command

        return command(VERBS[name], _finish)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [
            (name, _short(VERBS[name].help if name in VERBS else _RUN, formatter, self, ctx))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


_RUN = "Run a recipe; further arguments are its own (`sftdiv run reference --help`)."
app = typer.Typer(
    cls=_Verbs,
    help="Select, fine-tune on, score and export diverse subsets of SFT data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _short(text: str, formatter: Any, group: Any, ctx: Any) -> str:
    """Return the beginning of a text that fits beside the longest name, as click cuts it."""
    limit = formatter.width - 6 - max(map(len, group.list_commands(ctx)))
    words, taken = text.split(), ""
    for word in words:
        if len(taken) + len(word) + (3 if word != words[-1] else 0) > limit:
            return f"{taken.rstrip()}..."
        taken += f"{word} "
    return taken.rstrip()


def _finish(verb: Verb, result: Any, as_json: bool) -> None:
    """Print a result: one JSON object for machines, else what its room makes of it.

    A server has none: stdout was for its protocol.
    """
    if result is None:
        return
    if os.environ.get("RANK", "0") == "0":  # of several processes of a run the first speaks
        typer.echo(_json(result) if as_json else _shown(verb.shown(result)))
    if verb.failed(result):
        raise typer.Exit(1)


def _json(result: Any) -> str:
    """Return one line of JSON, in ASCII where a terminal would act on it as it is."""
    said = json.dumps(result, ensure_ascii=False)
    return said if said.isprintable() else json.dumps(result)


def _shown(text: str) -> str:
    """Return lines that a terminal shows as they are, whatever data is in them."""
    return "\n".join(map(printable, text.split("\n")))


@app.callback()
def _callback() -> None:
    """Select, fine-tune on, score and export diverse subsets of SFT data."""


@app.command(
    "run", help=_RUN, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def run_command(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="Name of a recipe of pipelines/, or a path.")],
) -> None:
    """Run a recipe: a file with a `main` that takes arguments."""
    import runpy

    from sft_diversity.core import resources

    shipped = resources.shipped("pipelines")
    path = Path(recipe) if recipe.endswith(".py") else shipped / f"{recipe}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped.glob("*.py")))
        raise UsageError(f"run: no recipe {recipe!r}; known: {known}, or give a path ending in .py")
    runpy.run_path(str(path))["main"](context.args)


#: What helps, by what the machine says; else it is one of many.
_WAYS_OUT: dict[int | None, str] = {
    errno.ENAMETOOLONG: "name another file or folder",
    errno.ENOTDIR: "a file lies where a folder should; name another",
    errno.EISDIR: "a folder lies where a file should; name another",
    errno.ELOOP: "its links lead in a circle; name another",
    errno.EMFILE: "raise `ulimit -n`",
}


#: As libraries written in Rust and C say it.
_OS_ERROR = re.compile(r"\(os error ([0-9]{1,3})\)")
_OUT_OF_MEMORY = re.compile(
    r"failed to map segment|[Cc]annot allocate memory|can't start new thread|\(os error 12\)"
)


def main() -> None:
    """Run the command line; what is no bug of ours becomes one line and an exit code."""
    stopping.install()
    try:
        _none_empty(sys.argv[1:])
        app()
    except SftdivError as fault:
        _fail(str(fault), fault.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command to resume", Interrupted.exit_code)
    except BrokenPipeError:  # of stdout: whoever read it has seen enough
        _leave(1)
    except MemoryError as fault:
        why = f" ({fault})" if str(fault) else ""
        _fail(f"memory ran out{why}; free some, or ask for less at a time", 1)
    except ModuleNotFoundError as fault:
        lacking = extras.explained(fault)
        if lacking is None:
            raise
        _fail(f"this needs {lacking}", UsageError.exit_code)
    except OSError as fault:  # the machine's doing, wherever it was met
        place = "" if fault.filename is None else f"{os.fsdecode(fault.filename)}: "
        way_out = _WAYS_OUT.get(fault.errno, "free space or rights, or a file gone?")
        _fail(f"{place}{fault.strerror or fault}; {way_out}", 1)
    except Exception as fault:
        told = _of_the_machine(str(fault))
        if told is None:
            raise
        _fail(told, 1)


def _of_the_machine(said: str) -> str | None:
    """Return what a library says of the machine in words of its own kinds of errors; else None."""
    brief = printable(" ".join(said.split()))[:300]
    if _OUT_OF_MEMORY.search(said):
        return f"memory ran out ({brief}); free some, or ask for less at a time"
    found = _OS_ERROR.search(said)
    return found and f"{os.strerror(int(found[1]))} ({brief}); free space or rights?"


def _none_empty(words: list[str]) -> None:
    """Refuse an empty word: a variable of a script that is not set, it would mean this folder."""
    for before, word in zip(["", *words], words, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            at = word or before
            what = f"the value of {at.rstrip('=')}" if at.startswith("--") else "an argument"
            raise UsageError(f"{what} is empty; give one, or leave it out")


def _fail(why: str, code: int) -> NoReturn:
    """Say in one line what is wrong, and exit."""
    progress.tell(f"error: {SftdivError(why)}")
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit; what stdout did not take is not tried again at the end of the interpreter."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
