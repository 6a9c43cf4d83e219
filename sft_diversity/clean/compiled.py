"""Compiled kernels and the 64-bit mixing they share.

All stands in one file because numba's cache on disk watches the file of a function alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Hashes: TypeAlias = npt.NDArray[np.uint64]
Bounds: TypeAlias = npt.NDArray[np.int64]

_FNV_START = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_GOLD = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BASE = np.uint64(0xD1342543DE82EF95)
_RESPONSE = np.uint64(0x5851F42D4C957F2D)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


def compiled(function: Kernel) -> Kernel:
    """Compile `function` on its first call and keep the machine code between processes."""
    return cast(Kernel, numba.njit(cache=True, nogil=True)(function))


@compiled
def mixed(x: np.uint64) -> np.uint64:
    """Return 64 well-mixed bits (the finaliser of splitmix64)."""
    x = x + _GOLD
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@compiled
def word_hashes(raw: npt.NDArray[np.uint8], bounds: Bounds, symbols: bool) -> tuple[Hashes, Bounds]:
    """Return the hash of every word, and where each text's words start.

    A word is a run of ASCII letters, digits, `_` and bytes above 127; with `symbols`, every other
    printing ASCII character is a word of its own, else it only parts words.

    Parameters
    ----------
    raw : uint8 array
        The texts one after another, in UTF-8, folded.
    bounds : int64 array, shape (n + 1,)
        Text i is `raw[bounds[i]:bounds[i + 1]]`.
    """
    found = np.empty(len(raw), np.uint64)
    starts = np.zeros(len(bounds), np.int64)
    at = 0
    for text in range(len(bounds) - 1):
        inside = False
        value = _FNV_START
        for i in range(bounds[text], bounds[text + 1]):
            c = raw[i]
            if 97 <= c <= 122 or 48 <= c <= 57 or c == 95 or c >= 128 or 65 <= c <= 90:
                value = (value ^ np.uint64(c)) * _FNV_PRIME
                inside = True
                continue
            if inside:
                found[at] = mixed(value)
                at += 1
                inside = False
                value = _FNV_START
            if symbols and 32 < c < 127:
                found[at] = mixed((_FNV_START ^ np.uint64(c)) * _FNV_PRIME)
                at += 1
        if inside:
            found[at] = mixed(value)
            at += 1
        starts[text + 1] = at
    return found[:at].copy(), starts


@compiled
def shingle_sets(words: Hashes, starts: Bounds, size: int) -> tuple[Hashes, Bounds]:
    """Return the ascending set of shingles of every text, those of odd texts in another universe.

    A text of fewer than `size` words is one shingle. Texts come in pairs (instruction, response),
    so a pair's sets are disjoint and lie side by side: their union is one slice.
    """
    found = np.empty(len(words) + len(starts), np.uint64)
    bounds = np.zeros(len(starts), np.int64)
    at = 0
    for text in range(len(starts) - 1):
        first, last = starts[text], starts[text + 1]
        width = min(size, last - first)
        begin = at
        if width > 0:
            for i in range(first, last - width + 1):
                value = np.uint64(width)
                for j in range(i, i + width):
                    value = mixed(value ^ words[j])
                found[at] = value ^ _RESPONSE if text % 2 else value
                at += 1
            found[begin:at].sort()
            unique = begin
            for i in range(begin, at):
                if i == begin or found[i] != found[i - 1]:
                    found[unique] = found[i]
                    unique += 1
            at = unique
        bounds[text + 1] = at
    return found[:at].copy(), bounds


@compiled
def jaccard(values: Hashes, bounds: Bounds, a: int, b: int, least: float) -> float:
    """Return the lower of two samples' Jaccard similarities by component, or -1 below `least`.

    A component that both lack does not count; two samples without any shingle are not alike.
    """
    lowest = 2.0
    for part in range(2):
        i, i_end = bounds[2 * a + part], bounds[2 * a + part + 1]
        j, j_end = bounds[2 * b + part], bounds[2 * b + part + 1]
        n, m = i_end - i, j_end - j
        if n == 0 and m == 0:
            continue
        if min(n, m) < least * max(n, m) - 1e-9:
            return -1.0
        both = 0
        while i < i_end and j < j_end:
            if values[i] == values[j]:
                both += 1
                i += 1
                j += 1
            elif values[i] < values[j]:
                i += 1
            else:
                j += 1
        lowest = min(lowest, both / (n + m - both))
        if lowest < least:
            return -1.0
    return lowest if lowest <= 1.0 else -1.0


@compiled
def cosine(
    vectors: npt.NDArray[np.float32], more: npt.NDArray[np.float32], a: int, b: int
) -> float:
    """Return the lower cosine of two rows in one or two matrices of unit rows, in float64.

    Added up in one order, so that it is the same on every machine, unlike a matrix product.
    """
    total = 0.0
    for k in range(vectors.shape[1]):
        total += np.float64(vectors[a, k]) * np.float64(vectors[b, k])
    if len(more):
        other = 0.0
        for k in range(more.shape[1]):
            other += np.float64(more[a, k]) * np.float64(more[b, k])
        total = min(total, other)
    return total


@compiled
def root(parent: npt.NDArray[np.int32], row: int) -> int:
    """Return the root of `row`, halving the path to it."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row
