"""What picks are compared with: the whole corpus, and as many random samples of the same pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import parquet
from sft_diversity.core.hashing import content_key
from sft_diversity.core.kernels import Rows
from sft_diversity.core.numbers import evenness
from sft_diversity.exploring.columns import Column
from sft_diversity.selection.choices import choose_rows, describe_picks
from sft_diversity.selection.config import EMBEDDED, SelectConfig
from sft_diversity.selection.pool import Pool
from sft_diversity.selection.problem import Problem

Told = dict[str, Any]
_DRAWN = {"diversity", "seed", "fill"}  # what a dial that was made serves all of
_BINS = 24  # of the histogram of lengths


def shape(config: SelectConfig) -> str:
    """Return a key of all options but those that a dial that was made serves all of."""
    drawn = set() if config.strategy in EMBEDDED else _DRAWN
    return content_key(config.model_dump(mode="json", exclude=drawn))


@dataclass(eq=False)
class Opened:
    """A pool, and where its incidence lies.

    Attributes
    ----------
    beside : dict
        What the corpus, and random samples within some limits, come to, by those limits.
    """

    pool: Pool
    index: Path | None
    beside: dict[str, Told] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> pa.Table:
        """The table of kinds."""
        assert self.index is not None
        return parquet.read(self.index / "kinds.parquet")

    @cached_property
    def names(self) -> list[str]:
        """The kinds' names."""
        found: list[str] = self.kinds["kind"].to_pylist()
        return found

    @cached_property
    def edges(self) -> npt.NDArray[np.int64]:
        """The bounds of the bins of response lengths, in tokens; the last is exclusive."""
        most = int(self.pool.tokens["response"].lengths.max(initial=1))
        inner = np.unique(np.geomspace(1, most + 1, _BINS).astype(np.int64))
        return np.concatenate([[0], inner])

    def compared(
        self, config: SelectConfig, rows: Rows, figures: Mapping[str, Any], sources: Column
    ) -> Told:
        """Return the same of picks, of the corpus and of random samples."""
        return {
            "picked": self._described(config, rows, figures, sources),
            "corpus": self._of_corpus(config, sources),
            "random": self._of_random(config, sources),
        }

    def _described(
        self, config: SelectConfig, rows: Rows, figures: Mapping[str, Any], sources: Column
    ) -> Told:
        pool = self.pool
        told: Told = {"kinds": None, "coverage": None, "evenness": None}
        if pool.incidence is not None and config.needs_incidence:
            if "kinds_covered" in figures:
                told["kinds"], told["evenness"] = figures["kinds_covered"], figures["evenness"]
            else:
                held = Problem(pool.kinds, rows, len(rows)).held(rows)
                told["kinds"] = int(np.count_nonzero(held))
                told["evenness"] = round(evenness(held), 6)
            told["coverage"] = round(told["kinds"] / max(1, pool.kinds.n_kinds), 6)
        means = ("entropy_bits", "instruction_tokens", "response_tokens")
        told |= {name: figures[name] for name in means}
        shares = np.bincount(sources.values[rows], minlength=len(sources.labels)) / len(rows)
        told["sources"] = dict(zip(sources.labels, shares.round(5).tolist(), strict=True))
        lengths = pool.tokens["response"].lengths[rows]
        told["lengths"] = np.histogram(lengths, self.edges)[0].tolist()
        return told

    def _of_corpus(self, config: SelectConfig, sources: Column) -> Told:
        key = f"corpus {config.component} {config.needs_incidence}"
        if key not in self.beside:
            rows = np.arange(len(sources.values))
            means = describe_picks(rows, self.pool.tokens, config.component)
            self.beside[key] = self._described(config, rows, means, sources)
        return self.beside[key]

    def _of_random(self, config: SelectConfig, sources: Column) -> Told:
        """Return what as many random samples within the same limits come to."""
        key = shape(config)
        if key not in self.beside:
            free = {"max_per_kind": None, "no_kind": "out", "objective": "kinds"}
            drawn = config.model_copy(update={"strategy": "random", "seed": 0, **free})
            rows, _ = choose_rows(self.pool, drawn)
            means = describe_picks(rows, self.pool.tokens, config.component)
            self.beside[key] = self._described(config, rows, means, sources)
        return self.beside[key]
