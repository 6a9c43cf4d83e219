"""The command line: the table of verbs as commands. Parse, call, show."""

from __future__ import annotations

import contextlib
import difflib
import errno
import gc
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sft_diversity.core import extras, progress, stopping
from sft_diversity.core.errors import Interrupted, SftdivError, UsageError, printable
from sft_diversity.verbs import PANELS, VERBS, Verb


class _Verbs(typer.core.TyperGroup):
    """The verbs by name; one is imported when it is called, none for the list of all."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in PANELS.values() for name in names]

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in VERBS:
            return super().get_command(ctx, name)
        from sft_diversity.verbs.options import command

        return command(VERBS[name], _finish)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], known, n=1)
            way_out = f"did you mean `{near[0]}`?" if near else "see `sftdiv --help`"
            raise UsageError(f"there is no verb `{args[0]}`; {way_out}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # which click would call "Aborted!"
            raise Interrupted("interrupted; run the same command to resume") from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        widest = max(map(len, self.list_commands(ctx)))
        for panel, names in PANELS.items():
            with formatter.section(panel):
                formatter.write_dl([(f"{name:{widest}}", _said_of(name)) for name in names])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        if incomplete[:1] == "-":
            return super().shell_complete(ctx, incomplete)
        from typer.core import CompletionItem  # type: ignore[attr-defined]

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=_said_of(name)) for name in names]


_RUN = "Run a recipe; further arguments are its own (`sftdiv run reference --help`)."
app = typer.Typer(
    cls=_Verbs,
    help="Select, fine-tune on, score and export diverse subsets of SFT data.",
    epilog="Every option of a verb's config has a variable too, SFTDIV_SELECT_SEED=3; flags go "
    "before --config, that before variables. `sftdiv VERB -h` tells of a verb.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _said_of(name: str) -> str:
    return VERBS[name].help if name in VERBS else _RUN


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


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"sftdiv {version('sft-diversity')}")
        raise typer.Exit


@app.callback()
def _callback(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Select, fine-tune on, score and export diverse subsets of SFT data."""


@app.command(
    "run",
    help=_RUN,
    context_settings={  # what comes behind the recipe is its own, -h too
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    },
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


#: New objects before Python looks for garbage, 700 of its own accord: PyTorch and its like make a
#: million that stay, which were looked through for a second of every start.
_OBJECTS = 10_000
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
    r"|Failed to launch worker thread"
)


def main() -> None:
    """Run the command line; what is no bug of ours becomes one line and an exit code."""
    stopping.install()
    gc.set_threshold(_OBJECTS)
    try:
        _none_empty(sys.argv[1:])
        sys.exit(app(standalone_mode=False))  # what it gives back is an exit code, or None
    except SftdivError as fault:
        _fail(str(fault), fault.exit_code)
    except typer.TyperException as fault:
        _refuse(fault)
    except typer.Abort:
        _leave(1)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command to resume", Interrupted.exit_code)
    except BrokenPipeError:  # of stdout: whoever read it has seen enough
        _leave(1)
    except MemoryError as fault:
        _out_of_memory(fault)
    except ModuleNotFoundError as fault:
        lacking = extras.missing_package(fault)
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


def _refuse(fault: typer.TyperException) -> NoReturn:
    """Say in a line what the parser found wrong, and of which verb; without arguments show help."""
    context = getattr(fault, "ctx", None)
    if type(fault).__name__ == "NoArgsIsHelpError":
        typer.echo(fault.format_message(), err=True)
        _leave(fault.exit_code)
    verb = "" if context is None or context.parent is None else f"{context.info_name}: "
    why = " ".join(fault.format_message().replace("Value error, ", "").split())
    _fail(f"{verb}{why[:1].lower()}{why[1:].rstrip('.')}; see `sftdiv {verb[:-2]} -h`", 2)


def _none_empty(words: list[str]) -> None:
    """Refuse an empty word: a variable of a script that is not set, it would mean this folder."""
    for before, word in zip(["", *words], words, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            at = word or before
            what = f"the value of {at.rstrip('=')}" if at.startswith("--") else "an argument"
            raise UsageError(f"{what} is empty; give one, or leave it out")


def _out_of_memory(fault: MemoryError) -> NoReturn:
    try:
        why = f" ({fault})" if str(fault) else ""
        _fail(f"memory ran out{why}; free some, or ask for less at a time", 1)
    except MemoryError:  # there is none for the words either
        os.write(2, _NO_MEMORY)
        os._exit(1)


_NO_MEMORY = b"error: memory ran out; free some, or ask for less at a time\n"


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
