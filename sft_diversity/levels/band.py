"""The band of the micro level: how many samples may hold a token type that counts as a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sft_diversity.core.incidence import Incidence

AUTO = "auto"
_SMALL = 1_000  # samples; below this the lower end is a hundredth of them


class Band(NamedTuple):
    """Document frequencies from `low` to `high` samples, both ends in."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}:{self.high}"


PUBLISHED = Band(10, 500)


def parse(given: Any) -> Band | None:
    """Return the band that `LOW:HIGH` names; None for `auto`.

    Raises
    ------
    ValueError
        If it is neither, or LOW is below 1 or above HIGH.
    """
    if given == AUTO:
        return None
    if isinstance(given, int):  # YAML reads a bare 2:40 as a number to the base of 60
        raise ValueError('in YAML a band stands in quotes, "LOW:HIGH"')
    low, colon, high = str(given).partition(":")
    if not (colon and low.strip().isdecimal() and high.strip().isdecimal()):
        raise ValueError("must be auto or LOW:HIGH, two numbers of samples")
    band = Band(int(low), int(high))
    if not 1 <= band.low <= band.high:
        raise ValueError("LOW must be at least 1 and not above HIGH")
    return band


def within(samples: npt.NDArray[np.int64], band: Band) -> npt.NDArray[np.bool_]:
    """Return which document frequencies lie in the band, both ends included."""
    return (samples >= band.low) & (samples <= band.high)


def widened(blocks: Callable[[], Iterable[Incidence]], samples: npt.NDArray[np.int64]) -> Band:
    """Return the published band, widened upwards until four fifths of the samples hold a kind.

    Parameters
    ----------
    blocks : callable
        All token types of every sample, some rows at a time. The n samples that hold a token count.
    samples : int64 array, shape (n_kinds,)
        Document frequency of each token type.

    Returns
    -------
    Band
        From 10, or below 1,000 samples from max(2, n/100); to 500, or the first doubling of it at
        which four fifths of the n hold a kind, at most n.

    Notes
    -----
    The published band is made for answers of some length. Where most answers are a word or two,
    these words are held by more than 500 samples, and their samples would stand for nothing.
    Time O(nnz), memory one block and 8 bytes a sample.
    """
    n = sum(int(np.count_nonzero(np.diff(block.indptr))) for block in blocks())
    low = PUBLISHED.low if n >= _SMALL else max(2, n // 100)
    rarest = _rarest_from(blocks(), samples, low)
    high = PUBLISHED.high
    while high < n and 5 * np.count_nonzero(rarest <= high) < 4 * n:
        high = min(2 * high, n)
    return Band(low, high)


def _rarest_from(
    blocks: Iterable[Incidence], samples: npt.NDArray[np.int64], low: int
) -> npt.NDArray[np.int64]:
    """Return, for each sample that holds a token type of `low` samples or more, its rarest's."""
    none = np.iinfo(np.int64).max
    frequency = np.where(samples >= low, samples, none)
    found = [np.zeros(0, np.int64)]
    for block in blocks:
        starts = block.indptr[:-1][np.diff(block.indptr) > 0]
        if len(starts):
            found.append(np.minimum.reduceat(frequency[block.indices], starts))
    rarest = np.concatenate(found)
    return rarest[rarest < none]
