"""Scores of a judging model on disk: both likelihoods of every sample, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import parquet

STAGE = "quality"
#: Folder of the shards in the output.
SHARDS = "scores"
#: Scores that are made of the likelihoods.
JUDGED = ("perplexity", "ifd")

#: Both likelihoods of each sample, in nats a token; NaN where the response has no token.
SCORES = pa.schema([("id", pa.string()), ("given", pa.float64()), ("alone", pa.float64())])


def read(scores: Path, scorer: str) -> npt.NDArray[np.float64]:
    """Return every sample's score, in corpus order, higher is better; NaN where it has none.

    `perplexity`: minus the mean NLL of the response, so that a low perplexity scores high. `ifd`,
    instruction-following difficulty: the mean NLL with the instruction over that without it; above
    1 the instruction does not help, and the sample counts as one without a score.

    Notes
    -----
    IFD: Li et al. 2024, arXiv:2308.12032, section 2.2.
    """
    table = parquet.join(parquet.listed(scores, SHARDS, STAGE))
    given, alone = (table[name].to_numpy() for name in ("given", "alone"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = given / alone
    ifd = np.where(ratio <= 1.0, ratio, np.nan)
    found: npt.NDArray[np.float64] = ifd if scorer == "ifd" else -given
    return found
