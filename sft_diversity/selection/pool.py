"""A corpus opened for selection: what subsets share is made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import arrow, vectors
from sft_diversity.core import corpus as corpora
from sft_diversity.core.corpus import Component
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import NO_ROWS, Floats, Rows
from sft_diversity.core.stage import once
from sft_diversity.core.vectors import Vectors
from sft_diversity.selection.config import LIMITS, SelectConfig
from sft_diversity.selection.constraints import (
    CorpusColumns,
    Eligible,
    make_eligible,
    make_limits,
)
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.entropy import EntropyDial, make_entropy_dial
from sft_diversity.selection.no_kind import draw_without_kind
from sft_diversity.selection.peeling import Peeling, peel
from sft_diversity.selection.problem import PickLimits

T = TypeVar("T")


class Tokens(Protocol):
    """One component's token pass over the corpus, as `core.tokens.TokenPass` reads it."""

    @property
    def incidence(self) -> Incidence:
        """All token types of every sample, with counts."""
        ...

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each sample, shape (n,)."""
        ...

    def take(self, rows: Rows) -> Incidence:
        """Return the incidence of `rows`, in that order."""
        ...


@dataclass
class Pool:
    """A corpus ready to select from: opened once, it serves any number of subsets.

    Peelings and dials are kept, so that a second diversity, fill or seed costs only its draws.

    Attributes
    ----------
    tokens : mapping of component to token pass
    incidence, indexed : Incidence and its figures
        Where the strategy needs one.
    embeddings : Path or None
    scores : float64 array, shape (n,), by name
        Quality scores made before.
    key : hashable
        Of all that the pool was opened with, among the pools that share `kept`.
    kept : dict
        What was made once: of the corpus for all pools of it, else for this pool.
    """

    corpus: Path
    tokens: Mapping[Component, Tokens]
    incidence: Incidence | None = None
    indexed: Mapping[str, Any] = field(default_factory=dict)
    embeddings: Path | None = None
    scores: Mapping[str, Floats] = field(default_factory=dict)
    key: Hashable = None
    kept: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Rows of the corpus."""
        return len(self.tokens["response"].lengths)

    @property
    def kinds(self) -> Incidence:
        """The incidence of a strategy that needs one."""
        assert self.incidence is not None
        return self.incidence

    @property
    def ids(self) -> pa.Array:
        """Sample ids of the corpus, ascending."""
        return self._of_corpus("ids", lambda: corpora.ids(self.corpus))

    @property
    def sources(self) -> pa.ChunkedArray:
        """Source of every sample."""
        return self._of_corpus("sources", lambda: corpora.read(self.corpus, ["source"])["source"])

    @property
    def columns(self) -> CorpusColumns:
        """What constraints are read from."""
        lengths = np.asarray(self.tokens["response"].lengths)
        return CorpusColumns(self.corpus, self.ids, lengths, self.scores)

    def take(self, rows: Rows) -> pa.Table:
        """Return the samples of `rows`, in that order; from the second time on out of memory."""
        again = ("taken", self.corpus) in self.kept
        self.kept["taken", self.corpus] = True
        if not again:
            return corpora.take(self.corpus, rows)
        samples = self._of_corpus("samples", lambda: corpora.read(self.corpus))
        return samples.take(arrow.numbers(np.asarray(rows, np.int64)))

    def _of_corpus(self, what: str, make: Callable[[], T]) -> T:
        return once(self.kept, (what, self.corpus), make)

    def points(self, component: Component) -> Vectors:
        """Return the unit vectors of a component, in corpus order."""
        place = self.embeddings
        assert place is not None
        return self._once("points", lambda: vectors.read_component(place, component)[1])

    def eligible(self, config: SelectConfig) -> Eligible | None:
        """Return which samples may be picked; None where no option restricts them."""
        key = ("eligible", *config.eligibility)
        if key[1:] == (None, None, None, None):
            return None
        return self._once(key, lambda: make_eligible(self.columns, config))

    def peeling(self, config: SelectConfig, *, free: bool = False) -> Peeling:
        """Return the peeling of the eligible samples, or (`free`) of all."""
        eligible = None if free else self.eligible(config)
        if eligible is None:
            return self._once("peeling", lambda: peel(self.kinds))
        return self._once(
            ("peeling", *config.eligibility), lambda: peel(self.kinds.only(eligible.mask))
        )

    def allowed(self, config: SelectConfig) -> Rows:
        """Return the rows that the options do not rule out, whether or not they hold a kind."""
        eligible = self.eligible(config)
        return np.arange(self.n_samples) if eligible is None else np.flatnonzero(eligible.mask)

    def empty(self, config: SelectConfig) -> Rows:
        """Return the rows of `allowed` that hold no kind."""
        rows = self.allowed(config)
        sizes = np.diff(self.kinds.indptr)
        empty: Rows = rows[sizes[rows] == 0]
        return empty

    def pickable(self, config: SelectConfig) -> Rows:
        """Return the rows that may be picked: eligible ones."""
        rows = self.allowed(config)
        if not config.needs_incidence or config.no_kind == "fill":
            return rows
        eligible = self.eligible(config)
        may = np.zeros(self.n_samples, np.bool_)
        may[rows] = True
        may[self.empty(config)] = False
        if eligible is not None:
            may[eligible.kept] = True
        return np.flatnonzero(may)

    def limits(self, config: SelectConfig) -> tuple[PickLimits, dict[str, Any]]:
        """Return what subsets of the eligible rows keep to, made once for equal options."""
        asked = tuple(getattr(config, name) for name in ("size", "max_per_kind", *LIMITS))
        by = (config.no_kind,) if config.needs_incidence else ()
        eligible = self.eligible(config)
        kept = NO_ROWS if eligible is None else eligible.kept
        return self._once(
            ("limits", *by, *asked, *config.eligibility),
            lambda: make_limits(self.columns, config, self.pickable(config), kept),
        )

    def drawn_without_kind(self, config: SelectConfig) -> Rows:
        """Return the picks that the dial does not rule: without a kind, and not kept."""
        if config.no_kind != "fill":
            return NO_ROWS
        rows, empty = self.allowed(config), self.empty(config)
        holding = np.setdiff1d(rows, empty, assume_unique=True)
        limits, _ = self.limits(config)
        return draw_without_kind(empty, holding, config.size, limits, config.seed)

    def dial(self, config: SelectConfig) -> tuple[Dial, dict[str, Any]]:
        """Return the range of the dial and how its limits read, made once for equal options.

        The dial rules the picks beside `drawn_without_kind`.
        """
        drawn = self.drawn_without_kind(config)
        size = config.size - len(drawn)

        def free() -> Dial:
            return self._once(("dial", size), lambda: Dial(self.peeling(config, free=True), size))

        names = ("size", "max_per_kind", *LIMITS, "no_kind")
        asked = tuple(getattr(config, name) for name in names)
        if self.eligible(config) is None and not any(asked[1:-1]):
            return free(), {}
        whole, said = self.limits(config)
        if len(drawn) and whole.total is not None:  # what is left of the total is the draw's
            asked = (*asked, config.seed)

        def limited() -> tuple[Dial, dict[str, Any]]:
            peeling, limits = self.peeling(config), whole.after(drawn)
            if limits.quotas is not None:  # peeled so that every pool can serve them
                peeling = peel(peeling.incidence, limits.quotas, limits.kept)
            return Dial(peeling, size, limits=limits, free=free()), said

        return self._once(("dial", *asked, *config.eligibility), limited)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        return once(self.kept, (self.key, key), make)

    def forget(self) -> None:
        """Drop what was made for sizes and limits; what is of all samples stays."""
        for key in [*self.kept]:
            if isinstance(key, tuple) and key[0] == self.key and isinstance(key[1], tuple):
                del self.kept[key]

    def entropy_dial(self, config: SelectConfig) -> EntropyDial:
        """Return the range of the entropy dial, made once for equal options."""
        eligible = self.eligible(config)
        counted = self.tokens[config.component].incidence
        mask = None if eligible is None else eligible.mask
        return self._once(
            ("entropy", config.component, config.size, config.min_tokens, *config.eligibility),
            lambda: make_entropy_dial(
                counted if mask is None else counted.only(mask),
                config.size,
                min_tokens=config.min_tokens,
            ),
        )
