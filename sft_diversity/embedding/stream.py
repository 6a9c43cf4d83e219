"""GPUs kept busy: reading, computing and writing overlap, and batches fill across units."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sft_diversity.core import stopping
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import SteppedEncoder, Tokens, on_host
from sft_diversity.embedding.batches import Batch, Buckets, Filled, Spent, stamp, stored

Vectors: TypeAlias = npt.NDArray[np.float32]
#: Returns the vectors of batches, when they are there.
Wait: TypeAlias = Callable[[], list[Vectors]]

#: Batches that may wait for the writer: a GPU is never idle, and little of its memory is held.
_AHEAD = 8
#: Batches that a process is given at a time: its GPU goes from one to the next by itself.
TOGETHER = 4
#: Vectors of a part that a stream writes, about a second of a GPU's work.
_PART_TEXTS = 8_192


class _Read(NamedTuple):
    """A unit when it is tokenised, by the thread that reads."""

    keys: caches.Keys
    texts: list[str]
    tokens: Tokens
    cut: npt.NDArray[np.bool_]
    known: int


class _Row(NamedTuple):
    """A text whose vector is there."""

    key: bytes
    text: str
    cut: bool
    vector: Vectors


class OneDevice:
    """Has batches computed by an encoder of this process."""

    together, ahead = 1, _AHEAD

    def __init__(self, encoder: SteppedEncoder) -> None:
        self._encoder = encoder

    def __call__(self, batches: list[Filled]) -> Wait:
        """Begin batches; on a GPU nothing is waited for."""
        begun = [self._encoder.forward(one.tokens, one.width, one.rows) for one in batches]
        return lambda: [on_host(vectors) for vectors in begun]


class Processes:
    """Has batches computed by processes, each of which has an encoder: the first idle one."""

    together = TOGETHER

    def __init__(
        self, executor: Executor, count: int, work: Callable[[list[Filled]], list[Vectors]]
    ) -> None:
        self._executor, self._work = executor, work
        self.ahead = 2 * count  # a process that is done finds the next batches waiting

    def __call__(self, batches: list[Filled]) -> Wait:
        """Send batches to whichever process is idle first."""
        return self._executor.submit(self._work, batches).result


class Stream:
    """Three threads: one reads and tokenises, the calling one has batches computed, one waits for
    their vectors and writes them. A kill loses a few seconds' texts.

    Parameters
    ----------
    encoder : SteppedEncoder
        Tokenises, and says what a batch is.
    compute : OneDevice or Processes
        Who computes; by default the encoder itself. However many there are, texts make the same
        batches.
    """

    def __init__(
        self,
        encoder: SteppedEncoder,
        batch_tokens: int,
        folder: Path,
        advance: Callable[[int], None],
        spent: Spent,
        compute: OneDevice | Processes | None = None,
    ) -> None:
        self._encoder, self._folder, self._advance = encoder, folder, advance
        self._begin = compute or OneDevice(encoder)
        self._buckets = Buckets(encoder, batch_tokens, spent)
        self._waiting: dict[int, tuple[bytes, str, bool]] = {}  # by place, until it is computed
        self._rows: list[_Row] = []
        self._writes: deque[Future[int]] = deque()

    def run(self, units: Iterable[Batch]) -> None:
        """Embed all units and write their vectors, in parts of what is done together."""
        source, place = iter(units), 0

        def read() -> _Read | None:
            unit = next(source, None)
            if unit is None:
                return None
            ids, cut = self._encoder.tokenize(unit.texts)
            return _Read(unit.keys, unit.texts, Tokens.of(ids), cut, unit.known)

        with (
            ThreadPoolExecutor(1, "embed-read") as reading,
            ThreadPoolExecutor(1, "embed-write") as writing,
        ):
            ahead = reading.submit(read)
            while (got := ahead.result()) is not None:
                ahead = reading.submit(read)
                places = np.arange(place, place + len(got.texts))
                facts = zip(got.keys.tolist(), got.texts, got.cut.tolist(), strict=True)
                self._waiting.update(zip(places.tolist(), facts, strict=True))
                place += len(places)
                self._advance(got.known)
                self._compute(self._buckets.add(places, got.tokens), writing)
            self._compute(self._buckets.rest(), writing)
            self._settle(0)
            writing.submit(self._write).result()

    def _compute(self, batches: Iterator[Filled], writing: ThreadPoolExecutor) -> None:
        while together := list(islice(batches, self._begin.together)):
            wait = self._begin(together)
            places = [one.places.tolist() for one in together]
            facts = [[self._waiting.pop(place) for place in own] for own in places]
            self._writes.append(writing.submit(self._take, facts, wait))
            self._settle(self._begin.ahead)
            stopping.safe_point("embed")

    def _settle(self, ahead: int) -> None:
        """Wait until at most `ahead` of what was begun are on their way."""
        while len(self._writes) > ahead:
            self._advance(self._writes.popleft().result())

    def _take(self, facts: list[list[tuple[bytes, str, bool]]], wait: Wait) -> int:
        """Hold the vectors of batches, when they are there; write what makes a part."""
        for own, vectors in zip(facts, wait(), strict=True):
            self._rows += [_Row(*fact, row) for fact, row in zip(own, vectors, strict=True)]
        if len(self._rows) >= _PART_TEXTS:
            self._write()
        return sum(map(len, facts))

    def _write(self) -> None:
        if not self._rows:
            return
        rows, self._rows = sorted(self._rows, key=lambda row: row.key), []
        keys = np.array([row.key for row in rows], caches.KEY)
        vectors = stored(np.stack([row.vector for row in rows]), [row.text for row in rows])
        cut = np.array([row.cut for row in rows], np.bool_)
        caches.write_part(self._folder, f"stream-{stamp(keys)}", keys, vectors, cut)
