"""Samples that hold no kind: their share of a subset (`--no-kind fill`), and where they lie."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sft_diversity.core import arrow
from sft_diversity.core.errors import DataError
from sft_diversity.core.kernels import NO_ROWS, Floats, Ints, Rows
from sft_diversity.core.seeding import generator
from sft_diversity.selection.problem import PickLimits, Problem, without_kinds

_HALVINGS = 60


def draw_without_kind(empty: Rows, holding: Rows, size: int, limits: PickLimits, seed: int) -> Rows:
    """Return the picks that hold no kind, beside those kept, uniformly at random.

    Parameters
    ----------
    empty, holding : int64 array
        Rows that may be picked and hold no kind, and those that hold one; rows kept among both.
    size : int
        N, the whole subset.
    limits : PickLimits
        What the whole subset keeps to.
    seed : int

    Returns
    -------
    int64 array
        round(N · share of `empty`) rows with those kept; where quotas leave no room for as many,
        or lack rows that hold a kind, the nearest number that they allow. How many each part of
        the quotas gives is the same for all seeds.

    Raises
    ------
    DataError
        If the limits cannot be met by all rows together, or no longer beside these picks.
    """
    free, others = limits.candidates(empty), limits.candidates(holding)
    n_kept = len(empty) - len(free)
    wanted = round(size * len(empty) / (len(empty) + len(holding))) - n_kept
    n = max(int(rows.max(initial=0)) for rows in (empty, holding)) + 1
    whole = Problem(without_kinds(n), np.concatenate([free, others]), size, limits)
    _refuse(whole)
    part, room = whole.parts()
    present = np.bincount(part[: len(free)], minlength=len(room))
    least = np.maximum(0, room - np.bincount(part[len(free) :], minlength=len(room)))
    numbers = shared_out(present, least, np.minimum(present, room), wanted)
    order = generator(seed, "select", "no kind").permutation(len(free))
    picks = [order[part[order] == at][:number] for at, number in enumerate(numbers) if number]
    drawn: Rows = free[np.concatenate(picks)] if picks else NO_ROWS
    left = Problem(whole.incidence, others, size - len(drawn), limits.after(drawn))
    _refuse(left)
    return drawn


def _refuse(problem: Problem) -> None:
    lacking = problem.lacking()
    if lacking:
        raise DataError(
            f"select: size is {problem.size:,} but, with samples that hold no kind taken in, "
            f"{lacking}; change the size or the limit, or leave out --no-kind fill"
        )


def shared_out(amounts: Ints, least: Ints, most: Ints, wanted: int) -> Ints:
    """Return whole numbers within their ends, in proportion to `amounts`, that add up to `wanted`.

    Where the ends do not allow `wanted`, to the nearest sum that they allow; each least is at most
    its most. Ties by position.
    """
    wanted = int(np.clip(wanted, least.sum(), most.sum()))

    def scaled(by: float) -> Floats:
        return np.clip(by * amounts, least, most)

    low, high = 0.0, 1.0 + float(most.max(initial=0))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if scaled(middle).sum() < wanted else (low, middle)
    exact = scaled(high)
    whole = np.floor(exact + 1e-9).astype(np.int64)
    missing = wanted - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return whole


def without_kind_by_source(
    sources: pa.ChunkedArray, empty: Rows, rows: Rows
) -> dict[str, dict[str, int]]:
    """Return how many of each source's samples hold no kind, of the sources that have any.

    Parameters
    ----------
    sources : string array, shape (n,)
        Source of every row.
    empty, rows : int64 array
        Those that hold no kind, among those that may else be picked.
    """
    encoded = sources.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    of_row = arrow.joined([pa.chunked_array([encoded.indices])], np.int32)
    without = np.bincount(of_row[empty], minlength=len(names))
    there = np.bincount(of_row[rows], minlength=len(names))
    return {
        names[at]: {"no_kind": int(without[at]), "samples": int(there[at])}
        for at in np.flatnonzero(without)
    }
