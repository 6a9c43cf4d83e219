"""Kind coverage: how many of a level's kinds a data set holds, and how evenly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sft_diversity.core.incidence import Incidence


def coverage(incidence: Incidence) -> dict[str, float]:
    """Return the figures of a data set's incidence over all kinds of its corpus.

    Returns
    -------
    dict
        `kinds` held at all, their `share` of all kinds, `evenness` (Pielou's: the entropy of the
        samples a kind over its greatest value; 1 when all held kinds are equally frequent, and by
        convention when fewer than two are held).
    """
    held = np.bincount(incidence.indices, minlength=incidence.n_kinds)
    kinds = int(np.count_nonzero(held))
    share = kinds / max(incidence.n_kinds, 1)
    return {"kinds": kinds, "share": share, "evenness": evenness(held)}


def evenness(held: npt.NDArray[np.integer]) -> float:
    """Return Pielou's evenness of counts, as `select` states it."""
    counts = held[held > 0]
    if len(counts) < 2:
        return 1.0
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(shares)))
