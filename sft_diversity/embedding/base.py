"""What an encoder is to the rest of the stage, and where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Backend = Literal["torch", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]
#: On a core half a minute with the packaged encoder, which is what a kill may lose. A GPU reads as
#: much in a second, and fills its batches across units.
UNIT_CHARACTERS = {"cpu": 400_000, "cuda": 10_000_000}


@dataclass(frozen=True)
class Placement:
    """Where and how an encoder runs: resolved once a run, the same for all its workers.

    Attributes
    ----------
    device : str
        `cpu` or `cuda`.
    precision : str
        Of the weights and products, `int8` of linear layers alone and on a CPU; vectors are always
        renormalised in float32.
    workers : int
        Threads of one core each on a CPU, GPUs (one process each) on CUDA.
    """

    backend: Backend
    device: Literal["cpu", "cuda"]
    precision: Precision
    workers: int

    @property
    def first_device(self) -> str:
        """The one device of a run in one process."""
        return "cpu" if self.device == "cpu" else "cuda:0"

    @property
    def threads(self) -> int:
        """Threads that share an encoder there: a product on a GPU needs all of it."""
        return self.workers if self.device == "cpu" else 1

    @property
    def batch_tokens(self) -> int:
        """Tokens of a full batch. On a core 512 rows already fill the matrix units."""
        return 512 if self.device == "cpu" else 16_384

    @property
    def unit_characters(self) -> int:
        """Characters of a unit: what is tokenised, and on a CPU embedded and stored, at a time."""
        return UNIT_CHARACTERS[self.device]


class Tokens(NamedTuple):
    """Token ids of texts, one after the other.

    Attributes
    ----------
    ids : int array, shape (sum of lengths,)
    lengths : int array, shape (n,)
        Tokens of each text.
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> Tokens:
        """Return the ids of texts in one array."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(np.fromiter(chain.from_iterable(texts), np.int32, lengths.sum()), lengths)

    def slice(self, start: int, stop: int) -> Tokens:
        """Return the texts `start` to `stop`, the latter not included; nothing is copied."""
        first = int(self.lengths[:start].sum())
        own = self.lengths[start:stop]
        return Tokens(self.ids[first : first + int(own.sum())], own)

    def take(self, order: npt.NDArray[np.int64]) -> Tokens:
        """Return the texts in another order."""
        lengths = self.lengths[order]
        starts = (np.cumsum(self.lengths) - self.lengths)[order]
        shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return Tokens(self.ids[shift + np.arange(len(shift))], lengths)

    def joined(self, other: Tokens) -> Tokens:
        """Return these texts and then `other`."""
        ids = np.concatenate([self.ids, other.ids])
        return Tokens(ids, np.concatenate([self.lengths, other.lengths]))


@runtime_checkable
class WholeEncoder(Protocol):
    """Texts to vectors in one step: a model that the stage's own loop cannot run."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of texts, shape (n, dim), not yet unit length."""
        ...


class SteppedEncoder(Protocol):
    """Texts to vectors, in two steps, so that the stage can batch by token length."""

    dim: int
    max_tokens: int
    #: Whether texts follow each other in one row: its attention keeps them apart without padding.
    flat: bool

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], npt.NDArray[np.bool_]]:
        """Return the token ids of each text, cut to `max_tokens`, and which were cut."""
        ...

    def forward(self, tokens: Tokens, width: int, rows: int) -> npt.NDArray[np.float32] | Tensor:
        """Return the vectors of at most `rows` texts, shape (n, dim), not yet unit length.

        The computation has the fixed shape (rows, width): shorter texts are padded, missing rows
        are dummies, so that a text's vector does not depend on its neighbours. What is still being
        computed on a GPU is returned as its tensor: `on_host` waits for it.
        """
        ...


Encoder: TypeAlias = SteppedEncoder | WholeEncoder


def on_host(vectors: npt.NDArray[np.float32] | Tensor) -> npt.NDArray[np.float32]:
    """Return what `forward` did, as an array, when it is there."""
    if isinstance(vectors, np.ndarray):
        return vectors
    there: npt.NDArray[np.float32] = vectors.cpu().numpy()
    return there
