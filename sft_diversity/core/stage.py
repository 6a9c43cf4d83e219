"""A stage declares what it makes and from what; `core.store` makes it, finds it, plans it.

A stage opens no folder, looks for no input, and does not know who calls it or what runs before it:
it names what it needs, and gets a `Job` whose inputs are there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from sft_diversity.core import progress, stopping
from sft_diversity.core.config import Config
from sft_diversity.core.drafts import Draft

C = TypeVar("C", bound=Config)
T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """A finished folder, or in a plan one that is to be made.

    Attributes
    ----------
    key : str or None
        What stands for its content in the identity of what is made of it; None: not known yet.
    rows : int
        Its samples, as far as they are known.
    there : bool
        Whether it is finished.
    """

    path: Path
    key: str | None
    rows: int = 0
    there: bool = True


class Ask(Protocol):
    """What `needs` tells the store; see `store.Asked`."""

    @property
    def dry(self) -> bool:
        """Whether nothing is to be made or fetched."""
        ...

    @property
    def inputs(self) -> Mapping[str, Made]:
        """What was asked for so far, by role; for estimates."""
        ...

    @property
    def work(self) -> Path:
        """The work folder."""
        ...

    @property
    def subject(self) -> str:
        """What the caller named where it is no corpus: a model, a subset."""
        ...

    def corpus(self) -> Made:
        """Read the corpus that the caller named."""
        ...

    def stage(self, role: str, stage: str, options: Mapping[str, Any]) -> Made:
        """Read what another stage makes of the same corpus, under the name `role`."""
        ...

    def rows(self, rows: int) -> None:
        """Say how many samples the output will have, where not those of the corpus."""
        ...

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """See `Job.once`."""
        ...

    def key(self, role: str, key: str | None) -> None:
        """Depend on something that is no output: a model, a tokenizer, a prompt, by its content.

        None: it is still to be fetched.
        """
        ...

    def tool(self, role: str, tool: str, options: Any) -> None:
        """Depend on a function that another room has, and get it as `Job.tools[role]`."""
        ...

    def resolve(self, **options: Any) -> None:
        """Let options count as they come out on this machine: `auto` is no content."""
        ...


@dataclass(frozen=True)
class Unit:
    """A piece of work whose output is one file: what a stopped run keeps, and a part is made of.

    `name` is that of the file in the stage's output, `rows` how many samples it is about.
    """

    name: str
    rows: int = 0
    what: Any = None


@dataclass(frozen=True)
class Result:
    """What the manifest says of an output besides its identity.

    `rows` accounts for rows (`folder.rows_account`); `figures` are equal between equal runs, `run`
    are not (seconds, device); `recipe` is how to make it again; `lineage` is what the store cannot
    know: folders among raw sources.
    """

    rows: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Job(Generic[C]):
    """One making of an output: its options, its inputs, and the draft to write into.

    Attributes
    ----------
    inputs : mapping of role to Made
        All there.
    units : sequence of Unit
        Of the whole output, in order.
    own : sequence of Unit
        Of this job: all, or those of its part.
    work : Path
        The work folder, for caches (answers, vectors).
    subject : str
        What the caller named where it is no corpus.
    tools : mapping of role to callable
        What `needs` asked for by `Ask.tool`.
    kept : dict
        What jobs of one store share in memory; see `once`.
    run : dict
        Facts for the manifest's `run` block that `each` learns.
    """

    config: C
    inputs: Mapping[str, Made]
    draft: Draft
    units: Sequence[Unit]
    own: Sequence[Unit]
    work: Path
    label: str
    say: Callable[[str], None]
    subject: str = ""
    tools: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    kept: dict[Hashable, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes, made once for all outputs that one store is asked for.

        `key` stands for all that it depends on; it is held in memory as long as the store is.
        """
        return once(self.kept, key, make)

    @property
    def corpus(self) -> Path:
        """The corpus that is read."""
        return self.inputs["corpus"].path

    def left(self) -> list[Unit]:
        """Return the units that are still to be made."""
        return [unit for unit in self.own if not self.draft.has(unit.name)]

    def todo(self, what: str = "shards") -> Iterator[Unit]:
        """Yield the units that are still to be made, with a bar and a safe point before each.

        Other processes may make some of them meanwhile: the whole and its parts work at once.
        """
        left = self.left()
        done = len(self.own) - len(left)
        with progress.progress(self.label, len(self.own), what, done) as bar:
            for unit in left:
                stopping.safe_point(self.label)
                if not self.draft.has(unit.name):
                    yield unit
                bar.advance()

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Yield a path to write; on success it becomes the output's file `name`."""
        return self.draft.writing(name)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a Parquet file of the output."""
        self.draft.write_table(name, table)

    def files(self) -> list[Path]:
        """Return the files of all units, in order."""
        return [self.draft.path / unit.name for unit in self.units]


def once(kept: dict[Hashable, Any], key: Hashable, make: Callable[[], T]) -> T:
    """Return `kept[key]`, made first if it is not there."""
    if key not in kept:
        kept[key] = make()
    found: T = kept[key]
    return found


def no_units(config: Any, inputs: Mapping[str, Made]) -> Sequence[Unit]:
    """Return none: the output is made in one go."""
    return ()


def no_work(job: Job[Any]) -> None:
    """Make no unit."""


def no_cost(config: Any, ask: Ask) -> Mapping[str, Any]:
    """Return the estimate of what costs next to nothing."""
    return {"seconds": 0.0, "bytes": 0}


def no_lines(manifest: Mapping[str, Any]) -> Iterable[str]:
    """Return none: the figures say it all."""
    return ()


def every_option(config: Config) -> Mapping[str, Any]:
    """Return a config as JSON."""
    return config.model_dump(mode="json")


@dataclass(frozen=True)
class Tool:
    """A function that a room lends to stages of other rooms.

    `load` is called when the function is first needed; `key` stands for what it computes, `facts`
    are what a lineage says of it.
    """

    key: str | None
    facts: Mapping[str, Any]
    load: Callable[[], Callable[..., Any]]


@dataclass(frozen=True)
class Stage(Generic[C]):
    """The declaration of a stage.

    Attributes
    ----------
    name : str
        Of the manifest's `stage`, and of its folder in the work folder.
    version : int
        Raised when the output for equal inputs and options changes.
    config : type
    needs : callable
        Names what is read (`Ask`), and refuses what this machine cannot do, before anything is
        made. It may be called without the corpus being there.
    join : callable
        Writes what the output has besides its units; returns what the manifest says.
    units, each : callables
        The pieces, known from options and inputs alone; and the making of a job's own (`Job.todo`).
    options : callable
        The options that decide the output, as JSON.
    cost : callable
        `seconds`, `bytes` and facts for a plan.
    label : callable
        How the person at the terminal is told whose progress it is.
    lines : callable
        What the person should hear of a finished output, from its manifest.
    """

    name: str
    version: int
    config: type[C]
    needs: Callable[[C, Ask], None]
    join: Callable[[Job[C]], Result]
    units: Callable[[C, Mapping[str, Made]], Sequence[Unit]] = no_units
    each: Callable[[Job[C]], None] = no_work
    options: Callable[[C], Mapping[str, Any]] = every_option
    cost: Callable[[C, Ask], Mapping[str, Any]] = no_cost
    label: Callable[[C], str] | None = None
    lines: Callable[[Mapping[str, Any]], Iterable[str]] = no_lines

    def said(self, config: C) -> str:
        """Return the label for some options."""
        return self.label(config) if self.label else self.name
