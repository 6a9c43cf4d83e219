"""What a level is: a function from a corpus and what was made of it to one incidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import folder
from sft_diversity.core.corpus import Component
from sft_diversity.core.incidence import Incidence

#: Of the stage: part of every key.
VERSION = 1
#: Folder of unfinished work inside a draft; it goes before the commit.
PARTS = ".parts"

#: Texts to unit vectors, float32, shape (m, d): an encoder that the caller wires in.
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Sources:
    """What a level may read: the corpus, and the outputs of earlier stages where it needs them."""

    corpus: Path
    component: Component
    embeddings: Path | None = None
    tokens: Path | None = None
    encode: Encode | None = None
    encoder: str | None = None
    answers: Path | None = None  # folder of a model's kept answers; default: beside the output
    ready: Path | None = None  # folder of finished parts of the corpus, see `levels.part`
    encoder_facts: Mapping[str, Any] | None = None  # what made the encoder's key, for the lineage


@dataclass(frozen=True)
class Made:
    """An incidence with its row ids and kinds table, and what there is to say about it.

    Attributes
    ----------
    result : mapping
        Figures for the manifest, equal between equal runs.
    run : mapping
        What is not (device, seconds).
    files : mapping
        More arrays to store beside the incidence, by file name.
    lines : sequence of str
        What the person at the terminal should hear of it.
    """

    incidence: Incidence
    ids: pa.Array
    kinds: pa.Table
    result: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    lines: Sequence[str] = ()


class Level(Protocol):
    """Makes the incidence of one level. Same sources and options: same incidence."""

    def inputs(self, sources: Sources, options: Any) -> dict[str, str]:
        """Return the content keys the incidence depends on, by name; raise if one is missing."""
        ...

    def make(self, sources: Sources, options: Any, draft: folder.Draft) -> Made:
        """Return the incidence; work that can be taken up again goes into parts of `draft`."""
        ...
