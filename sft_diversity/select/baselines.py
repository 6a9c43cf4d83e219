"""Baselines: random, longest, and random with a given distribution of lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.seeding import generator
from sft_diversity.select.compiled import Floats, Ints, Rows

Lengths = npt.NDArray[np.integer]
BINS = 10


@dataclass(frozen=True)
class LengthMatch:
    """A random subset whose lengths are distributed as those of a reference.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows, in random order.
    edges : float64 array, shape (bins - 1,)
        Quantiles of the reference; bin b holds the lengths above edge b - 1, up to edge b.
    wanted, got : int64 arrays, shape (bins,)
        Picks per bin as the reference has them, and as they are.
    """

    rows: Rows
    edges: Floats
    wanted: Ints
    got: Ints

    @property
    def short_bins(self) -> Ints:
        """Bins that did not have enough rows; their share went to the nearest bins that had."""
        return np.flatnonzero(self.got < self.wanted)


def random_rows(rows: Rows, size: int, seed: int) -> Rows:
    """Draw `size` of `rows` uniformly; a smaller size gives a prefix.

    Raises
    ------
    UsageError, DataError
        If `size` is below 1 or above the number of rows.
    """
    _check(len(rows), size)
    return generator(seed, "select", "random").permutation(rows)[:size]


def longest_rows(lengths: Lengths, size: int) -> Rows:
    """Return the `size` rows of greatest length, longest first, ties by lowest row.

    Raises
    ------
    UsageError, DataError
        If `size` is below 1 or above the number of rows.
    """
    _check(len(lengths), size)
    return np.argsort(-np.asarray(lengths, np.int64), kind="stable")[:size]


def match_lengths(
    lengths: Lengths, reference: Lengths, size: int, seed: int, *, rows: Rows | None = None
) -> LengthMatch:
    """Draw rows at random so that each quantile bin of the reference gets its share.

    Parameters
    ----------
    lengths : int array, shape (n,)
        Length of every row, in any unit.
    reference : int array, shape (m,)
        Lengths to imitate, in the same unit.
    size : int
        Rows to draw.
    seed : int
    rows : int64 array, optional
        Rows that may be drawn; all by default.

    Returns
    -------
    LengthMatch
        Always exactly `size` rows: what a bin lacks comes from the bins nearest to it, the
        shorter of two equally near first, and `short_bins` tells which these were.

    Raises
    ------
    UsageError, DataError
        If `size` is below 1 or above the number of rows, or the reference is empty.

    Notes
    -----
    Ten bins between the deciles of the reference; equal deciles leave bins empty. Shares that are
    no whole numbers go by largest remainder. Within a bin the draw is uniform.
    """
    rows = np.arange(len(lengths)) if rows is None else rows
    _check(len(rows), size)
    if len(reference) == 0:
        raise DataError("select: match length has an empty reference; give a subset with samples")
    edges = np.quantile(reference, np.arange(1, BINS) / BINS)
    wanted = _shares(np.bincount(np.searchsorted(edges, reference), minlength=BINS), size)
    bins = np.searchsorted(edges, np.asarray(lengths)[rows])
    got = _spread(wanted, np.bincount(bins, minlength=BINS))
    rng = generator(seed, "select", "match length")
    parts = [rng.permutation(rows[bins == b])[: got[b]] for b in range(BINS)]
    return LengthMatch(rng.permutation(np.concatenate(parts)), edges, wanted, got)


def _shares(amounts: Ints, size: int) -> Ints:
    """Return whole numbers that sum to `size` in proportion to `amounts`: largest remainder."""
    exact = amounts * size
    shares: Ints = exact // amounts.sum()
    missing = size - int(shares.sum())
    shares[np.argsort(-(exact % amounts.sum()), kind="stable")[:missing]] += 1
    return shares


def _spread(wanted: Ints, present: Ints) -> Ints:
    """Return `wanted`, limited to what is present, the rest moved to the nearest bins."""
    got = np.minimum(wanted, present)
    for lacking in range(len(wanted)):
        missing = int(wanted[lacking] - min(wanted[lacking], present[lacking]))
        for near in sorted(range(len(wanted)), key=lambda b: (abs(b - lacking), b)):
            moved = min(missing, int(present[near] - got[near]))
            got[near] += moved
            missing -= moved
    return got


def _check(available: int, size: int) -> None:
    """Refuse a size that cannot be met."""
    if size < 1:
        raise UsageError(f"select: size is {size:,} but a subset has at least 1 sample")
    if size > available:
        raise DataError(
            f"select: size is {size:,} but only {available:,} samples are eligible; "
            "lower the size or add data"
        )
