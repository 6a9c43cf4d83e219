"""Token ids by pre-tokens: a corpus repeats its words, and each is encoded once.

For the packaged tokenizer's pattern, which gigatoken does not know. A compiled loop splits texts as
the pattern does (`end_of_piece` is its alternatives, in their order) and looks the pieces up; the
tokenizer itself encodes the new ones.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import compiled

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_OTHER, _LETTER, _MARK, _NUMBER, _SPACE, _BREAK, _UNKNOWN = range(7)
_CODES = 0x110000
_MOST_PIECES, _MOST_BYTES = 1 << 21, 1 << 27  # held; beyond, all are forgotten


class Pretokens:
    """The ids of every piece met so far; safe to use from several threads."""

    def __init__(self, backend: Any) -> None:
        self._backend, self._lock = backend, threading.Lock()
        self._classes = np.full(_CODES, _UNKNOWN, np.uint8)
        self._classify("".join(map(chr, range(128))))
        self._forget()

    def _forget(self) -> None:
        self._slots = np.full(1 << 16, -1, np.int64)  # open addressing: numbers of pieces
        self._begins = np.zeros(1 << 15, np.int64)  # of pieces in the bytes below, one more
        self._bytes = np.zeros(1 << 20, np.uint8)
        self._pieces = 0
        self._id_begins, self._ids = np.zeros(1, np.int64), np.zeros(0, np.int64)

    @property
    def name(self) -> str:
        """Library, version and way."""
        return f"tokenizers {version('tokenizers')}, each pre-token once"

    def encode(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """Return the ids of all texts, end to end, and where each begins, one more for the end."""
        raws = [text.encode() for text in texts]
        raw = np.frombuffer(b"".join(raws), np.uint8)
        begins = np.zeros(len(raws) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, raws), np.int64, len(raws)), out=begins[1:])
        with self._lock:
            if not all(map(str.isascii, texts)):
                self._classify("".join(texts))
            if self._pieces > _MOST_PIECES or self._begins[self._pieces] > _MOST_BYTES:
                self._forget()
            numbers, ends = self._split(raw, begins)
            self._encode_new()
            return spread(numbers, ends, self._id_begins, self._ids)

    def _classify(self, whole: str) -> None:
        """Put the classes of letters not met before into the table."""
        codes = np.unique(np.frombuffer(whole.encode("utf-32-le"), np.uint32))
        for code in codes[self._classes[codes] == _UNKNOWN].tolist():
            self._classes[code] = self._class_of(chr(code))

    def _class_of(self, letter: str) -> int:
        """Return a letter's class, as the tokenizer's own Unicode has it."""

        def ends(text: str) -> list[int]:
            return [end for _, (_, end) in self._backend.pre_tokenizer.pre_tokenize_str(text)]

        if letter in "\r\n":
            return _BREAK
        if ends(f"a{letter}") == [2]:
            return _MARK if ends(f"'s{letter}")[0] == 2 else _LETTER  # which makes it none
        if ends(f".{letter}") == [2]:
            return _OTHER
        return _SPACE if ends(f"{letter}\n") == [2] else _NUMBER

    def _split(self, raw: Bytes, begins: Ints) -> tuple[Ints, Ints]:
        """Return the numbers of the texts' pieces, and where those of each text end."""
        numbers = np.empty(len(raw), np.int64)
        ends = np.zeros(len(begins) - 1, np.int64)
        state = np.array([0, 0, 0, self._pieces, 0])
        while not split(
            raw, begins, self._classes, state, self._slots, self._begins, self._bytes, numbers, ends
        ):
            self._grow(*state[3:].tolist())
        self._pieces = int(state[3])
        return numbers[: state[2]], ends

    def _grow(self, pieces: int, longest: int) -> None:
        """Make room for twice as much, and for a piece of `longest` bytes."""
        self._begins = _longer(self._begins, 2 * len(self._begins))
        self._bytes = _longer(self._bytes, 2 * len(self._bytes) + longest)
        self._slots = np.full(2 * len(self._slots), -1, np.int64)
        place_again(self._slots, self._begins, self._bytes, pieces)

    def _encode_new(self) -> None:
        known = len(self._id_begins) - 1
        if known == self._pieces:
            return
        raw, begins = self._bytes.tobytes(), self._begins[known : self._pieces + 1].tolist()
        new = [raw[a:b].decode() for a, b in itertools.pairwise(begins)]
        found = [one.ids for one in self._backend.encode_batch_fast(new, add_special_tokens=False)]
        sizes = np.fromiter(map(len, found), np.int64, len(found))
        ids = np.fromiter((id for one in found for id in one), np.int64, int(sizes.sum()))
        self._id_begins = np.append(self._id_begins, self._id_begins[-1] + np.cumsum(sizes))
        self._ids = np.append(self._ids, ids)


def _longer(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    made = np.zeros(size, array.dtype)
    made[: len(array)] = array
    return made


@compiled
def code_at(raw: Bytes, at: int) -> tuple[np.int64, int]:
    """Return the code point at a place of UTF-8, and where the next begins."""
    first = np.int64(raw[at])
    if first < 0x80:
        return first, at + 1
    if first < 0xE0:
        return (first & 31) << 6 | (raw[at + 1] & 63), at + 2
    if first < 0xF0:
        return (first & 15) << 12 | (raw[at + 1] & 63) << 6 | (raw[at + 2] & 63), at + 3
    high = (first & 7) << 18 | (raw[at + 1] & 63) << 12
    return high | (raw[at + 2] & 63) << 6 | (raw[at + 3] & 63), at + 4


@compiled
def end_of_contraction(raw: Bytes, classes: Bytes, at: int, stop: int) -> int:
    """Return where a contraction ends whose apostrophe ends at `at`, 0 where there is none."""
    code, end = code_at(raw, at)
    first = code | 32 if code < 128 else code
    if not (first in (100, 109, 115, 116) or code == 0x17F):  # d, m, s, t; the long s is one
        if end == stop or first not in (108, 114, 118):  # ll, re, ve
            return 0
        code, end = code_at(raw, end)
        if (code | 32 if code < 128 else code) != (108 if first == 108 else 101):
            return 0
    if end < stop and classes[code_at(raw, end)[0]] == _LETTER:
        return 0
    return end


@compiled
def end_of_run(raw: Bytes, classes: Bytes, at: int, stop: int, one: int, other: int) -> int:
    """Return where a run of letters of two classes ends."""
    while at < stop:
        code, end = code_at(raw, at)
        if classes[code] != one and classes[code] != other:
            break
        at = end
    return at


@compiled
def end_of_piece(raw: Bytes, classes: Bytes, at: int, stop: int) -> int:
    """Return where the piece that begins at `at` ends."""
    code, end = code_at(raw, at)
    kind = classes[code]
    if (code == 39 or code == 0x2019) and end < stop:
        found = end_of_contraction(raw, classes, end, stop)
        if found:
            return found
    if code == 32 and end < stop:
        second, after = code_at(raw, end)
        if classes[second] in (_LETTER, _MARK, _OTHER):  # the space is theirs
            kind, end = classes[second], after
    if kind in (_LETTER, _MARK):
        return end_of_run(raw, classes, end, stop, _LETTER, _MARK)
    if kind == _NUMBER:
        return end
    if kind == _OTHER:
        end = end_of_run(raw, classes, end, stop, _OTHER, _OTHER)
        return end_of_run(raw, classes, end, stop, _BREAK, _BREAK)
    last, behind_break = at, at  # of a run of spaces: its last letter, and its last line break
    end = at
    while end < stop:
        code, after = code_at(raw, end)
        if classes[code] == _BREAK:
            behind_break = after
        elif classes[code] != _SPACE:
            break
        last, end = end, after
    if behind_break > at:
        return behind_break
    return end if end == stop or last == at else last


@compiled
def slot_of(
    raw: Bytes, at: int, end: int, slots: Ints, piece_begins: Ints, piece_bytes: Bytes
) -> np.int64:
    """Return the slot of a piece, or the free one where it belongs."""
    mixed = np.uint64(14695981039346656037)  # FNV-1a
    for place in range(at, end):
        mixed = (mixed ^ np.uint64(raw[place])) * np.uint64(1099511628211)
    mixed ^= mixed >> np.uint64(32)
    slot = np.int64(mixed & np.uint64(len(slots) - 1))
    while slots[slot] >= 0:
        start = piece_begins[slots[slot]]
        if piece_begins[slots[slot] + 1] - start == end - at:
            same = 0
            while same < end - at and piece_bytes[start + same] == raw[at + same]:
                same += 1
            if same == end - at:
                return slot
        slot = (slot + 1) & (len(slots) - 1)
    return slot


@compiled
def split(
    raw: Bytes, begins: Ints, classes: Bytes, state: Ints, slots: Ints, piece_begins: Ints,
    piece_bytes: Bytes, numbers: Ints, ends: Ints,
) -> bool:  # fmt: skip
    """Number the pieces of all texts; False where there is no room for a new one.

    `state`: the text at hand, the place in it, numbers written, pieces known, and the size of a
    piece that there was no room for. Invariant: half of the slots are free.
    """
    row, at, out, pieces = state[0], state[1], state[2], state[3]
    while row < len(ends):
        stop = begins[row + 1]
        at = max(at, begins[row])
        while at < stop:
            end = end_of_piece(raw, classes, at, stop)
            slot = slot_of(raw, at, end, slots, piece_begins, piece_bytes)
            if slots[slot] < 0:
                used = piece_begins[pieces]
                if (
                    2 * pieces >= len(slots)
                    or pieces + 2 > len(piece_begins)
                    or used + end - at > len(piece_bytes)
                ):
                    state[0], state[1], state[2], state[3], state[4] = (
                        row,
                        at,
                        out,
                        pieces,
                        end - at,
                    )
                    return False
                for place in range(at, end):
                    piece_bytes[used + place - at] = raw[place]
                slots[slot] = pieces
                pieces += 1
                piece_begins[pieces] = used + end - at
            numbers[out] = slots[slot]
            out += 1
            at = end
        ends[row] = out
        row += 1
    state[2], state[3] = out, pieces
    return True


@compiled
def place_again(slots: Ints, piece_begins: Ints, piece_bytes: Bytes, pieces: int) -> None:
    """Put the pieces known into slots that are free."""
    for piece in range(pieces):
        at, end = piece_begins[piece], piece_begins[piece + 1]
        slots[slot_of(piece_bytes, at, end, slots, piece_begins, piece_bytes)] = piece


@compiled
def spread(numbers: Ints, ends: Ints, id_begins: Ints, ids: Ints) -> tuple[Ints, Ints]:
    """Return the ids of texts whose pieces have these numbers, and where each text's begin."""
    size = 0
    for number in numbers:
        size += id_begins[number + 1] - id_begins[number]
    found = np.empty(size, np.int64)
    begins = np.zeros(len(ends) + 1, np.int64)
    at = done = 0
    for row in range(len(ends)):
        for number in numbers[done : ends[row]]:
            for place in range(id_begins[number], id_begins[number + 1]):
                found[at] = ids[place]
                at += 1
        done = ends[row]
        begins[row + 1] = at
    return found, begins
