"""Figures of a data set's tokens and characters: lengths, entropy, how well it compresses."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def lengths(tokens: npt.NDArray[np.integer], texts: Sequence[str]) -> dict[str, float]:
    """Return mean, median and 90th percentile of the tokens a text, and its mean characters.

    Percentiles interpolate linearly between ranks.
    """
    median, p90 = np.percentile(tokens, [50, 90])
    return {
        "tokens_mean": float(np.mean(tokens)),
        "tokens_median": float(median),
        "tokens_p90": float(p90),
        "characters_mean": sum(map(len, texts)) / len(texts),
    }


def entropy_bits(occurrences: npt.NDArray[np.integer]) -> float:
    """Return the Shannon entropy, in bits a token, of a token distribution given by counts."""
    counts = occurrences[occurrences > 0].astype(np.float64)
    if not len(counts):
        return 0.0
    total = counts.sum()
    return float(np.log2(total) - (counts * np.log2(counts)).sum() / total)


def compression_ratio(texts: Sequence[str]) -> float | None:
    """Return bytes over compressed bytes: the higher, the more repetition; None without text.

    UTF-8, joined by single spaces, gzip level 9 (Shaib et al. 2024, arXiv:2403.00553). gzip looks
    back 32 kB: repetition is found among neighbours, so the order of the texts takes part.
    """
    raw = " ".join(texts).encode("utf-8", "surrogatepass")
    return len(raw) / len(gzip.compress(raw, 9, mtime=0)) if raw else None
