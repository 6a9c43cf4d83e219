"""`mcp`: what an assistant may ask of sftdiv, over the Model Context Protocol on stdin and stdout.

The tools are the Python functions. What they read lies below folders that the server was given,
what they write below its work folder; a path that leads elsewhere is refused.
"""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel, Field, ValidationError

from sft_diversity.core import corpus as corpora
from sft_diversity.core import extras, folder, parquet
from sft_diversity.core.config import TOKENIZER, faults_of
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.errors import Interrupted, SftdivError, UsageError
from sft_diversity.core.progress import quiet
from sft_diversity.ingestion.config import IngestConfig, Mapping
from sft_diversity.ingestion.files import sources_from
from sft_diversity.selection.config import CORPUS, ELIGIBLE, Strategy
from sft_diversity.selection.stage import STAGE
from sft_diversity.stages import store
from sft_diversity.verbs.measuring import measure
from sft_diversity.verbs.results import Result
from sft_diversity.verbs.sources import corpus_of, made_from

if TYPE_CHECKING:
    from mcp.server import MCPServer

_TEXT, _LISTED, _SHOWN = 300, 200, 20  # characters of a text, entries of a folder, samples at most
INSTRUCTIONS = """\
sftdiv picks exactly N samples of a pool of instruction-response data at a chosen diversity, 0 to
100 percent. Call `describe` first: without a path it says which folders can be read. `select` a
subset, look at its figures (kinds_covered of kinds_total; random_percent is where as many random
samples stand on the same dial), then `explain` a sample, `diff` two subsets, `measure` several."""


class Places:
    """The folders that may be read, and the one in which may be written.

    Attributes
    ----------
    roots : tuple of Path
        Resolved.
    work : Path
        The work folder of the verbs; what is beside it is theirs too.
    """

    def __init__(self, roots: Sequence[str | Path], work: str | Path) -> None:
        self.roots = tuple(_folder(root) for root in roots)
        self.work = Path(work).resolve() / ".sftdiv"

    def readable(self, path: str | Path) -> Path:
        """Return where a path leads; what is relative is looked for below each root.

        Raises
        ------
        UsageError
            If it is not there, leads out of the folders, or is a folder with a link that does.
        """
        for base in self.roots:
            try:
                place = (base / path).resolve(strict=True)
            except (OSError, ValueError, RuntimeError):  # not there, no path, a circle of links
                continue
            if self._holds(place):
                self._refuse_links_out(place)
                return place
        where = ", ".join(map(str, self.roots))
        raise UsageError(f"mcp: {str(path)!r} is nothing below {where}; name a path in there")

    def _holds(self, place: Path) -> bool:
        return any(place.is_relative_to(one) for one in (*self.roots, self.work.parent))

    def _refuse_links_out(self, place: Path) -> None:
        waiting, looked_at = [place], set[Path]()
        while waiting:
            above = waiting.pop()
            looked_at.add(above)
            for link in _links(above):
                target = link.resolve()
                if not self._holds(target):
                    raise UsageError(f"mcp: {link} is a link out of the folders; name another path")
                if target.is_dir() and target not in looked_at:
                    waiting.append(target)


def _folder(path: str | Path) -> Path:
    place = Path(path).resolve()
    if not place.is_dir():
        raise UsageError(f"mcp: {path} is no folder; name one with --root")
    return place


def _links(place: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(place):
        yield from (at for name in (*folders, *files) if (at := Path(here, name)).is_symlink())


class Tools:
    """The tools of a server, over its places; each returns JSON values.

    Parameters
    ----------
    tokenizer : str, optional
        Of the model to be trained.
    """

    def __init__(self, places: Places, tokenizer: str | None = None) -> None:
        self._places, self._tokenizer = places, tokenizer

    def describe(self, path: str = "", mapping: Mapping | None = None) -> Result:
        """Say what lies at a path: a corpus, a subset, another output, raw data, or a folder.

        Without a path: which folders can be read. Raw data is read whole, once; `mapping` says how
        to make a sample of a row in a format that is not recognised.
        """
        if not path:
            roots = map(str, self._places.roots)
            return {"folders": {root: _entries(Path(root)) for root in roots}}
        place = self._places.readable(path)
        stage = folder.stage_of(place)
        if place.is_dir() and stage is None:
            return {"path": str(place), "entries": _entries(place)}
        if stage is not None and stage not in (*corpora.MAKERS, STAGE):
            return {"output_of": stage, **folder.figures(folder.read_manifest(place), place)}
        if stage != STAGE:
            place = self._corpus([str(place)], mapping)
        told = folder.figures(folder.read_manifest(place), place)
        return {"output_of": folder.stage_of(place), **told, "samples": _samples(place, 3)}

    def select(
        self,
        data: str | list[str],
        size: Annotated[int, Field(description="samples to pick, exactly")],
        strategy: Strategy = "micro-response",
        diversity: Annotated[float, Field(description="percent of the dial's range")] = 100.0,
        seed: int = 0,
        objective: Literal["kinds", "entropy"] = "kinds",
        no_kind: Literal["out", "fill"] = "out",
        max_per_kind: int | None = None,
        match_length: Annotated[
            str | None, Field(description="corpus, eligible, or the path of a subset")
        ] = None,
        token_budget: int | None = None,
        quota: Annotated[str | None, Field(description="source=corpus, or COLUMN=V:0.5,W:0.5")] = (
            None
        ),
        must_include: Annotated[
            str | list[str] | None, Field(description="ids, or the path of a subset or of ids")
        ] = None,
        exclude: Annotated[
            str | list[str] | None, Field(description="ids, or the path of a subset or of ids")
        ] = None,
        quality: Annotated[
            str | None, Field(description="column with a score, or length; higher is better")
        ] = None,
        kinds_column: Annotated[
            str | None, Field(description="column of tags, for strategy own")
        ] = None,
        mapping: Mapping | None = None,
        show: Annotated[int, Field(ge=0, le=_SHOWN, description="picks to show")] = 5,
    ) -> Result:
        """Pick exactly `size` samples of raw data or a corpus; return figures, ids to ask about.

        The result's `out` is the subset's folder, for the other tools.
        """
        from sft_diversity.library import select

        sources = [str(self._places.readable(one)) for one in _several(data)]
        if mapping is not None:
            sources = [str(self._corpus(sources, mapping))]
        length = match_length
        if length not in (None, CORPUS, ELIGIBLE):
            length = str(self._places.readable(length))
        more: Result = {} if kinds_column is None else {"kinds_column": kinds_column}
        picked = select(
            *sources, size=size, strategy=strategy, diversity=diversity, seed=seed,
            objective=objective, no_kind=no_kind, max_per_kind=max_per_kind, match_length=length,
            token_budget=token_budget, quota=quota, must_include=self._ids(must_include),
            exclude=self._ids(exclude), quality=quality, tokenizer=self._tokenizer,
            work=self._places.work, **more,
        )  # fmt: skip
        return {**picked.as_dict(), "samples": _samples(picked.folder, show)}

    def explain(self, subset: str, id: str, corpus: str = "", work: str = "") -> Result:
        """Say why a sample is in a subset, or why it is not.

        Of a subset that this server did not make, `corpus` is where its corpus is and `work` the
        work folder that it was made with.
        """
        from sft_diversity.selection.explain import explain_sample

        place = self._places.readable(subset)
        return explain_sample(place, id, self._made_from(place, corpus, work))

    def diff(self, first: str, second: str, corpus: str = "", work: str = "") -> Result:
        """Say how two subsets of one corpus differ: rows, kinds, sources, figures.

        `corpus` and `work` are as in `explain`.
        """
        from sft_diversity.selection.explain import diff_subsets

        one, other = self._places.readable(first), self._places.readable(second)
        made = [self._made_from(place, corpus, work) for place in (one, other)]
        return diff_subsets(one, other, *made)

    def measure(self, data: str | list[str]) -> Result:
        """Measure the diversity of subsets, corpora or raw files, side by side, by component.

        Texts are embedded on the way, which takes a minute for some thousand.
        """
        sources = [self._places.readable(one) for one in _several(data)]
        return measure(*sources, work=self._places.work, tokenizer=self._tokenizer)

    def _corpus(self, sources: list[str], mapping: Mapping | None) -> Path:
        kept = store(self._places.work)
        if mapping is None:
            return corpus_of(kept, sources, {}).path
        read = {"format": "mapping", "mapping": mapping}
        mapped = [one.model_copy(update=read) for one in sources_from(sources)]
        return kept.get("ingest", IngestConfig(sources=mapped)).path

    def _ids(self, given: str | list[str] | None) -> str | list[str] | None:
        return str(self._places.readable(given)) if isinstance(given, str) else given

    def _made_from(self, subset: Path, corpus: str, work: str) -> dict[str, Path]:
        root = self._places.readable(work) if work else self._places.work
        self._places.readable(root.parent)  # what lies beside a work folder is looked at too
        return made_from(subset, root, self._places.readable(corpus) if corpus else None)


class _Arguments(BaseModel):
    """What of the tools' arguments has keys of its own."""

    mapping: Mapping | None = None


def _several(data: str | list[str]) -> list[str]:
    if not data:
        raise UsageError("mcp: no data is named; give a path")
    return [data] if isinstance(data, str) else data


def _entries(place: Path) -> list[str]:
    """Return names of a folder as a person lists it: folders end in /, ours say what made them."""
    names = []
    for path in sorted(place.iterdir())[:_LISTED]:
        made = folder.stage_of(path) if path.is_dir() and not path.is_symlink() else None
        names.append(path.name + ("/" if path.is_dir() else "") + (f" ({made})" if made else ""))
    return names


def _samples(place: Path, most: int) -> list[dict[str, str]]:
    """Return the first samples of a corpus or subset, long texts cut."""
    columns = ["id", "source", *COMPONENTS]
    for path in parquet.listed(place, "samples"):
        rows = parquet.read(path, columns).slice(0, most).to_pylist()
        return [{name: str(row[name])[:_TEXT] for name in columns} for row in rows]
    return []


def mcp(
    *,
    root: Annotated[
        list[Path], typer.Option(help="Folder whose data may be read; give it again for more.")
    ],
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for what is made; default: a temporary one, removed at the end."),
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help=f"Tokenizer {TOKENIZER}")] = None,
) -> None:
    """Serve the tools on stdin and stdout until the client closes them."""
    extras.require("mcp", "mcp: the server")
    with tempfile.TemporaryDirectory(prefix="sftdiv-mcp-") as scratch:
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
        tools = Tools(Places(root, scratch if work is None else work), tokenizer)
        _leave_by(signal.SIGTERM, signal.SIGINT, clean=scratch)
        server(tools).run("stdio")


def _leave_by(*signals: int, clean: str) -> None:
    """End at once on a signal: what is made stays, as after a kill; the scratch folder goes."""

    def leave(number: int, _frame: Any) -> None:
        shutil.rmtree(clean, ignore_errors=True)
        os._exit(Interrupted.exit_code)

    for number in signals:
        signal.signal(number, leave)


def server(tools: Tools) -> MCPServer:
    """Return the server of the tools; it says what is wrong in one line, and works one by one."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    class OneLine(MCPServer):
        async def call_tool(self, name: str, arguments: Any, context: Any = None) -> Any:
            try:
                return await super().call_tool(name, arguments, context)
            except ToolError as fault:
                cause = fault.__cause__
                if not isinstance(cause, ValidationError):
                    raise
                raise ToolError(f"{name}: {faults_of(cause, _Arguments, arguments)}") from None

    made = OneLine(
        "sftdiv", instructions=INSTRUCTIONS, log_level="WARNING", version=version("sft-diversity")
    )
    one_at_a_time = threading.Lock()

    def told(tool: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(tool)
        def call(*arguments: Any, **options: Any) -> Result:
            try:
                with one_at_a_time, quiet():
                    return tool(*arguments, **options)
            except SftdivError as fault:
                raise ToolError(str(fault)) from fault
            except MemoryError:
                raise ToolError("memory ran out; ask for less at a time") from None
            except OSError as fault:
                raise ToolError(f"{fault.filename or ''}: {fault.strerror or fault}") from fault

        return call

    for tool in (tools.describe, tools.select, tools.explain, tools.diff, tools.measure):
        made.add_tool(told(tool), description=inspect.getdoc(tool))
    return made
