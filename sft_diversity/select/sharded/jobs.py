"""Two-round greedy as jobs: each part leaves its candidates, then one job picks among them.

The jobs share the incidence, a mapped file, and each finds the pool at the diversity asked for by
itself: that needs the memory of a peeling (docs/scale.md). What is shared out is the greedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, parts, progress
from sft_diversity.core.errors import UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.parts import Part
from sft_diversity.select.compiled import Rows
from sft_diversity.select.config import LIMITS, SelectConfig
from sft_diversity.select.dial import Dial, make_dial
from sft_diversity.select.sharded.greedy import (
    Distributed,
    first_round,
    most_of,
    second_round,
    steps_of,
)
from sft_diversity.select.sharded.shards import split

STAGE = "select-part"
VERSION = 1
FILE = "candidates.npy"
_CONSTRAINTS = (*LIMITS, "max_per_kind", "exclude", "quality")


def place(corpus: Path, options: Mapping[str, Any], part: Part, work: Path) -> Path:
    """Return the folder of a part's candidates; `options` is JSON of all that was asked for."""
    made_from = {"corpus": corpora.key(corpus), "options": dict(options)}
    return parts.place(work, "select", made_from, part)


def check(config: SelectConfig) -> None:
    """Refuse what two rounds cannot keep to.

    Raises
    ------
    UsageError
        If the subset is not filled by balance over kinds, or is constrained.
    """
    if not config.needs_incidence or config.fill != "balance":
        raise UsageError(
            "select: --part and --parts pick by balance over kinds; "
            "give --fill balance with a strategy of a level and objective kinds, or leave them out"
        )
    given = [name for name in _CONSTRAINTS if getattr(config, name) is not None]
    if given:
        raise UsageError(
            f"select: {given[0]} does not work with --part and --parts; leave out one of them"
        )


@dataclass(frozen=True)
class Rounds:
    """Two rounds over `of` parts, whose finished candidates are in the folder `near`."""

    of: int
    near: Path
    index: Path

    def pick(
        self, dial: Dial, config: SelectConfig, say: Callable[[str], None] = progress.say
    ) -> Distributed:
        """Return the picks; see `choose`."""
        return choose(self.index, self.near, dial, config, self.of, say)


def candidates_part(
    index: Path,
    out: Path,
    config: SelectConfig,
    part: Part,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Write the candidates of one part of the pool to `out`; return its manifest.

    Parameters
    ----------
    index : Path
        The finished incidence of the strategy.
    out : Path
        See `place`.

    Raises
    ------
    UsageError, DataError
        See `check`, `split`, `make_dial`.
    """
    check(config)
    draft = folder.open_draft(out, _work(index, config, part))
    say(f"select: part {part}, {draft.state}, {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, STAGE)
    whole = incidence.load(index)
    rows = _candidates(whole, make_dial(whole, config.size), config, part)
    with draft.writing(FILE) as path, path.open("wb") as handle:
        np.save(handle, rows)
    return draft.commit(
        result={"part": str(part), "candidates": len(rows)}, seeds={"seed": config.seed}
    )


def choose(
    index: Path,
    near: Path,
    dial: Dial,
    config: SelectConfig,
    of: int,
    say: Callable[[str], None] = progress.say,
) -> Distributed:
    """Return the second round's picks among the candidates of `of` parts.

    What no finished part in the folder `near` holds is found here, so the result is that of
    `distributed_greedy`, whichever parts were run and where.
    """
    whole = incidence.load(index)
    done = {
        part: path
        for part, path in parts.finished(near, STAGE).items()
        if part.of == of and _serves(path, _work(index, config, part))
    }
    say(f"select: {len(done):,} of {of:,} parts are finished")
    shards = split(whole, of)
    pool = dial.peeling.pool(dial.step(config.diversity))
    edges = [shard.first for shard in shards[1:]]
    pools = [
        rows - shard.first
        for shard, rows in zip(shards, np.split(pool, np.searchsorted(pool, edges)), strict=True)
    ]
    given = []
    for number, shard in enumerate(shards, 1):
        path = done.get(Part(number, of))
        rows = (
            _candidates(whole, dial, config, Part(number, of))
            if path is None
            else np.load(path / FILE, allow_pickle=False)
        )
        given.append(rows - shard.first)
    return second_round(shards, pools, given, whole.n_kinds, config.size, seed=config.seed)


def _candidates(whole: Incidence, dial: Dial, config: SelectConfig, part: Part) -> Rows:
    """Return the rows of the whole that a part gives, in pick order."""
    shard = split(whole, part.of)[part.number - 1]
    pool = dial.peeling.pool(dial.step(config.diversity))
    inside = pool[(pool >= shard.first) & (pool < shard.first + shard.n_samples)]
    picks = first_round(
        shard,
        inside - shard.first,
        whole.n_kinds,
        most_of(config.size, part.of),
        steps_of("balance", config.size),
        config.seed,
        part.number - 1,
    )
    return picks + shard.first


def _work(index: Path, config: SelectConfig, part: Part) -> folder.Work:
    key = folder.contents_key(folder.read_manifest(index, "index"))
    asked = {name: getattr(config, name) for name in ("strategy", "diversity", "seed", "size")}
    return folder.Work(
        STAGE, VERSION, {"incidence": key}, {**asked, "part": part.number, "parts": part.of}
    )


def _serves(path: Path, work: folder.Work) -> bool:
    manifest = folder.read_manifest(path, STAGE)
    return manifest["key"] == work.key and not folder.verify(path)["faults"]
