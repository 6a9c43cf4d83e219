"""Token ids of texts, end to end, to how often each text holds each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import compiled
from sft_diversity.levels.quick_tokens import Ids

Counts = npt.NDArray[np.int32]


@compiled
def tallied(ids: Ids, begins: Ids, vocabulary: int) -> tuple[Counts, Counts, Counts, Counts]:
    """Return lengths, sizes, ids and counts of one batch.

    Invariant: between texts `tally` is zero everywhere.
    """
    lengths = (begins[1:] - begins[:-1]).astype(np.int32)
    sizes = np.zeros(len(lengths), np.int32)
    held = np.empty(len(ids), np.int32)
    counts = np.empty(len(ids), np.int32)
    tally = np.zeros(vocabulary, np.int32)
    end = 0
    for row in range(len(lengths)):
        first = end
        for one in ids[begins[row] : begins[row + 1]]:
            if tally[one] == 0:
                held[end] = one
                end += 1
            tally[one] += 1
        held[first:end].sort()
        for at in range(first, end):
            counts[at] = tally[held[at]]
            tally[held[at]] = 0
        sizes[row] = end - first
    return lengths, sizes, held[:end].copy(), counts[:end].copy()
