"""What an encoder is to the rest of the stage, and where it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

Backend = Literal["torch", "openvino"]


@dataclass(frozen=True)
class Placement:
    """Where and how an encoder runs: resolved once a run, the same for all its workers.

    Attributes
    ----------
    device : str
        `cpu` or `cuda`.
    precision : str
        Of the weights and products; vectors are always renormalised in float32.
    workers : int
        Threads of one core each on a CPU, GPUs (one process each) on CUDA.
    """

    backend: Backend
    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
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

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], npt.NDArray[np.bool_]]:
        """Return the token ids of each text, cut to `max_tokens`, and which were cut."""
        ...

    def forward(
        self, ids: Sequence[Sequence[int]], width: int, rows: int
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of at most `rows` texts, shape (len(ids), dim), not yet unit length.

        The computation has the fixed shape (rows, width): shorter texts are padded, missing rows
        are dummies, so that a text's vector does not depend on its neighbours.
        """
        ...


Encoder: TypeAlias = SteppedEncoder | WholeEncoder
