"""What a level is: it says what it reads, and makes one incidence of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.stage import Ask, Job

if TYPE_CHECKING:
    from sft_diversity.levels.stage import IndexConfig

#: Of the stage: part of every key.
VERSION = 1
#: Folder of unfinished work inside a draft; it goes before the commit.
PARTS = ".parts"

#: Texts to unit vectors, float32, shape (m, d): an encoder that the caller wires in.
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Indexed:
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
    """Makes the incidence of one level. Same inputs and options: same incidence."""

    def needs(self, config: IndexConfig, ask: Ask) -> None:
        """Name what it reads besides the corpus; refuse what this machine cannot do."""
        ...

    def make(self, job: Job[IndexConfig]) -> Indexed:
        """Return the incidence; work that can be taken up again goes into parts of the draft."""
        ...


def of_named_kinds(
    names: Sequence[str],
    pairs: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int32]],
    n_samples: int,
    members: tuple[Sequence[str], npt.NDArray[Any]],
) -> tuple[Incidence, pa.Table]:
    """Return the incidence and the table of kinds, in the alphabetical order of their names.

    Parameters
    ----------
    names : sequence of str
        Of the kinds, as the pairs number them.
    pairs : (int array, int array, int32 array), each of shape (p,)
        Samples, their kinds, and how often each sample holds the kind.
    members : (sequence of str, int array)
        What was merged into the kinds, and the kind of each, -1 for none.
    """
    rows, kinds, counts = pairs
    order = sorted(range(len(names)), key=lambda kind: names[kind])
    number = np.empty(len(names), dtype=np.int32)
    number[order] = np.arange(len(names), dtype=np.int32)
    kinds = number[kinds]
    by_row = np.lexsort((kinds, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_samples))])
    merged: list[list[str]] = [[] for _ in names]
    for member, kind in zip(members[0], members[1].tolist(), strict=True):
        if kind >= 0:
            merged[number[kind]].append(member)
    table = pa.table(
        {
            "kind": pa.array([names[kind] for kind in order], pa.string()),
            "samples": np.bincount(kinds, minlength=len(names)),
            "members": pa.array(merged, pa.list_(pa.string())),
        }
    )
    return Incidence(indptr.astype(np.int64), kinds[by_row], counts[by_row], len(names)), table
