"""From a verb to its command: arguments of the function, then an option for each of its config's.

A command's options are the fields of its config: name, type and help stand there.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sft_diversity.core import progress
from sft_diversity.core.errors import UsageError
from sft_diversity.verbs import Verb, settings

WORK = Path(".sftdiv")
_SCALARS = (int, float, str)

# What verbs' arguments are called and do, where several have them.
ConfigFile: TypeAlias = Annotated[
    str | Path | None, typer.Option("--config", help="YAML file of options; flags override it.")
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and touch nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say keys and times too, and what libraries log.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="As in a --config file, or KEY.SUB=VALUE; repeatable."
    ),
]
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
    config = verb.config()
    of_shell: dict[str, Any] = {
        "as_json": (AsJson, False),
        "quiet": (Quiet, False),
        "verbose": (Verbose, False),
    }
    if config is not None:
        of_shell = {"set": (Set, None), **of_shell}
    parameters[at:at] = [_keyword(name, *what) for name, what in of_shell.items()]
    fields = {} if config is None else config.model_fields
    heads = () if config is None else config.GROUPS
    group_of = {name: head for head, several in heads for name in several}
    parameters += [
        parameter
        for name, field in fields.items()
        if name not in names and (parameter := _option(name, field))
    ]
    parameters = [_named(one, verb, group_of) for one in parameters]
    sources = next((p for p in names if _is_sources(function, p)), None)

    def call(**given: Any) -> None:
        given = {name: None if value == [] else value for name, value in given.items()}
        as_json = given["as_json"]
        with _loudness(given["quiet"], given["verbose"]):
            asked = settings.settled(verb, given)
            several = [] if sources is None else asked.pop(sources) or []
            first = [asked.pop(name) for name in positional if name in asked]
            finish(verb, function(*first, *several, **asked), as_json)

    positional = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    call.__name__, call.__doc__ = verb.name, verb.help
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=HELP,
    )
    app.command(verb.name, cls=_Grouped)(call)
    made: Any = typer.main.get_command(app)
    made.heads = [head for head, _ in heads]
    return made


#: How help is asked for.
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_LONGEST_CHOICE = 40  # characters; longer lists of choices stand in the text


class _Grouped(typer.core.TyperCommand):
    """A command whose help has its options under heads, in their order."""

    heads: Sequence[str] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        heads: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if parameter.param_type_name == "argument":
                head = "Arguments"
            else:
                head = getattr(parameter, "rich_help_panel", None) or "Options"
            if record is not None:
                heads.setdefault(head, []).append(record)
        for head in ["Arguments", "Options", *self.heads]:
            if head in heads:
                with formatter.section(head):
                    formatter.write_dl(heads[head])


def _named(
    parameter: inspect.Parameter, verb: Verb, group_of: Mapping[str, str]
) -> inspect.Parameter:
    """Give an option its head in help, and its variable where the function takes it itself."""
    kind, *told = get_args(parameter.annotation) or (parameter.annotation,)
    if get_origin(parameter.annotation) is not Annotated:
        kind, told = parameter.annotation, [typer.Option()]
    if not any(isinstance(one, typer.models.OptionInfo) for one in told):
        return parameter
    (info,) = [copy.copy(one) for one in told if isinstance(one, typer.models.OptionInfo)]
    info.rich_help_panel = group_of.get(parameter.name)
    if parameter.name in verb.arguments():
        info.envvar, info.show_envvar = settings.variable(verb.name, parameter.name), False
    return parameter.replace(annotation=Annotated[kind, info])


@contextlib.contextmanager
def _loudness(quiet: bool, verbose: bool) -> Iterator[None]:
    """Let this package say as much as is asked for; libraries speak where `verbose`."""
    if not (quiet or verbose):
        yield
        return
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict; give one")
    root, handler = logging.getLogger(), logging.StreamHandler()
    before = root.level
    if verbose:
        root.addHandler(handler)
        root.setLevel(logging.INFO)
    try:
        with progress.loudness(logging.WARNING if quiet else logging.DEBUG):
            yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


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
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    hidden = len("|".join(choices)) > _LONGEST_CHOICE
    if hidden:
        text += f"; one of {', '.join(choices)}"
    if field.default not in (None, "", PydanticUndefined):
        text += f" [default: {str(field.default).lower() if kind is bool else field.default}]"
    flag = "--" + name.replace("_", "-")
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    metavar = "<name>" if hidden else None
    annotation = Annotated[
        kind | None,  # type: ignore[valid-type]
        typer.Option(*names, help=text, show_default=False, metavar=metavar),
    ]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _plain_type(annotation: Any) -> Any:
    """Return int, float, bool, str or its choices for a field one flag can hold, else None."""
    options = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is Literal:
        kinds = {type(value) for value in get_args(annotation)}
        return annotation if kinds == {str} else str
    if annotation in (int, float, bool, str):
        return annotation
    if annotation is Path:
        return str
    if get_origin(annotation) is Annotated:
        return _plain_type(get_args(annotation)[0])
    if options and get_origin(annotation) not in (list, dict, tuple):
        inner = {_plain_type(option) for option in options}
        if len(inner) == 1:
            return inner.pop()
        return str if all(get_origin(one) is Literal or one in _SCALARS for one in inner) else None
    return None
