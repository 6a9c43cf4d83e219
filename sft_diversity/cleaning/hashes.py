"""Compiled loops over words: their hashes, shingles, band keys and n-grams."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.cleaning.compiled import Bounds, Hashes, Ints
from sft_diversity.core.kernels import compiled

_FNV_START = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_GOLD = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_RESPONSE = np.uint64(0x5851F42D4C957F2D)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_BASE = np.uint64(0xD1342543DE82EF95)  # odd
_TOP, _BIT = np.uint64(44), np.uint64(41)  # a hash's byte and bit in the sieve


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
def keys_of(signatures: npt.NDArray[np.uint32], count: int, rows: int) -> Hashes:
    keys = np.empty((len(signatures), count), np.uint64)
    for i in range(len(signatures)):
        for band in range(count):
            value = np.uint64(rows)
            for j in range(band * rows, (band + 1) * rows):
                value = mixed(value ^ np.uint64(signatures[i, j]))
            keys[i, band] = max(value, np.uint64(1))
    return keys


@compiled
def _prefixes(words: Hashes, first: int, last: int) -> Hashes:
    """Return the polynomial hash of every prefix of a text's words."""
    value = np.zeros(last - first + 1, np.uint64)
    for i in range(last - first):
        value[i + 1] = value[i] * _BASE + words[first + i]
    return value


@compiled
def _power(width: int) -> np.uint64:
    power = np.uint64(1)
    for _ in range(width):
        power *= _BASE
    return power


@compiled
def windows(words: Hashes, starts: Bounds, width: Bounds) -> tuple[Hashes, Ints, Ints]:
    found = np.empty(len(words) + len(starts), np.uint64)
    owner = np.empty(len(found), np.int32)
    place = np.empty(len(found), np.int32)
    at = 0
    for text in range(len(starts) - 1):
        if width[text] < 0:
            continue
        count = starts[text + 1] - starts[text]
        long = width[text] if width[text] > 0 else count
        prefix = _prefixes(words, starts[text], starts[text + 1])
        power = _power(long)
        for i in range(count - long + 1):
            value = prefix[i + long] - prefix[i] * power
            found[at] = mixed(value ^ mixed(np.uint64(width[text])))
            owner[at], place[at] = text, i
            at += 1
    return found[:at].copy(), owner[:at].copy(), place[:at].copy()


@compiled
def table_of(hashes: Hashes) -> Ints:
    """Return an open-addressing table of the positions of `hashes`, -1 where empty."""
    size = 16
    while size < 4 * len(hashes):
        size *= 2
    table = np.full(size, -1, np.int32)
    for i in range(len(hashes)):
        slot = hashes[i] & np.uint64(size - 1)
        while table[slot] >= 0:
            slot = (slot + np.uint64(1)) & np.uint64(size - 1)
        table[slot] = i
    return table


@compiled
def sieve_of(hashes: Hashes) -> npt.NDArray[np.uint8]:
    """Return a megabyte of bits, set at the top 23 bits of a hash; it stays in the cache."""
    bits = np.zeros(1 << 20, np.uint8)
    for value in hashes:
        bits[value >> _TOP] |= np.uint8(1) << np.uint8(value >> _BIT & np.uint64(7))
    return bits


@compiled
def looked_up(
    words: Hashes,
    starts: Bounds,
    lengths: Bounds,
    hashes: Hashes,
    table: Ints,
    sieve: npt.NDArray[np.uint8],
) -> tuple[Ints, Ints]:
    rows = [np.int32(0) for _ in range(0)]
    found = [np.int32(0) for _ in range(0)]
    mask = np.uint64(len(table) - 1)
    for text in range(len(starts) - 1):
        count = starts[text + 1] - starts[text]
        prefix = _prefixes(words, starts[text], starts[text + 1])
        for width in lengths:
            if count == 0 or count < width or (width == 0 and text % 2):
                continue
            long = width if width > 0 else count
            power = _power(long)
            salt = mixed(np.uint64(width))
            for i in range(count - long + 1):
                value = mixed((prefix[i + long] - prefix[i] * power) ^ salt)
                if not sieve[value >> _TOP] >> np.uint8(value >> _BIT & np.uint64(7)) & 1:
                    continue
                slot = value & mask
                while table[slot] >= 0:
                    if hashes[table[slot]] == value:
                        rows.append(np.int32(text // 2))
                        found.append(table[slot])
                        break
                    slot = (slot + np.uint64(1)) & mask
    return np.array(rows, np.int32), np.array(found, np.int32)


@compiled
def overlapping(
    held: Ints,
    starts: Bounds,
    telling: npt.NDArray[np.bool_],
    bounds: Bounds,
    of: Ints,
    size: Ints,
) -> tuple[Ints, Ints, Ints, npt.NDArray[np.float64], Ints]:
    n = len(starts) - 1
    rows, texts = np.empty(n, np.int32), np.empty(n, np.int32)
    shared, share = np.empty(n, np.int32), np.empty(n)
    gram = np.empty(n, np.int32)
    counts = np.zeros(len(size), np.int32)
    sign = np.full(len(size), -1, np.int32)  # text -> a gram to show, a telling one if there is
    told = np.zeros(len(size), np.bool_)
    at = 0
    for row in range(n):
        best, best_share = -1, -1.0
        for k in range(starts[row], starts[row + 1]):
            g = held[k]
            for entry in range(bounds[g], bounds[g + 1]):
                t = of[entry]
                counts[t] += 1
                if sign[t] < 0 or (telling[entry] and not told[t]):
                    sign[t], told[t] = g, telling[entry]
        for k in range(starts[row], starts[row + 1]):
            g = held[k]
            for t in of[bounds[g] : bounds[g + 1]]:
                portion = counts[t] / size[t]
                out = told[t] or counts[t] == size[t]
                if out and (portion > best_share or (portion == best_share and t < best)):
                    best, best_share = t, portion
        if best >= 0:
            rows[at], texts[at], shared[at] = row, best, counts[best]
            share[at], gram[at] = best_share, sign[best]
            at += 1
        for k in range(starts[row], starts[row + 1]):
            for t in of[bounds[held[k]] : bounds[held[k] + 1]]:
                counts[t], sign[t], told[t] = 0, -1, False
    return (
        rows[:at].copy(),
        texts[:at].copy(),
        shared[:at].copy(),
        share[:at].copy(),
        gram[:at].copy(),
    )
