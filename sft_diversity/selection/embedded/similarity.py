"""Cosines that decide: float32 products from BLAS to find the few that matter, those in float64."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Floats, Points, Rows, compiled, cosine

BLOCK = 1 << 24  # products held at a time: 64 MB


def slack(dimensions: int) -> float:
    """Return how far a float32 product of two unit vectors can be from the true one.

    d · 2⁻²⁴ bounds the error of a sum of d products in any order (Higham 2002, section 3.1); twice
    that leaves room for norms that are off by a rounding.
    """
    return 2.0 * dimensions * 2.0**-24


def check_points(points: Points, size: int) -> None:
    """Refuse a size that the points do not have, and anything but a matrix of finite float32."""
    if not 1 <= size <= len(points):
        raise UsageError(
            f"select: size is {size:,} but there are {len(points):,} embeddings; "
            "lower the size or embed more samples"
        )
    if points.ndim != 2 or points.dtype != np.float32 or not np.isfinite(points.sum()):
        raise UsageError(
            f"select: embeddings of shape {points.shape} and type {points.dtype} are not finite "
            "float32 vectors; embed the corpus again"
        )


def raise_nearest(points: Points, rows: Rows, picks: Rows, nearest: Floats) -> None:
    """Raise `nearest[row]`, for each of `rows`, to its greatest cosine to any of `picks`.

    Exact in float64: a product is only left out where even its error could not raise the value,
    so the result is the same with any BLAS and any number of threads.
    """
    others = points[picks].T
    step = max(1, BLOCK // max(1, len(picks)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        chosen = points[part[0] : part[-1] + 1] if _is_run(part) else points[part]
        _raise(points, part, picks, chosen @ others, slack(points.shape[1]), nearest)


def _is_run(rows: Rows) -> bool:
    return bool(rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all())


@compiled
def _raise(
    points: Points, rows: Rows, picks: Rows, products: Points, error: float, nearest: Floats
) -> None:
    for i in range(len(rows)):
        best = nearest[rows[i]]
        for j in range(len(picks)):
            if products[i, j] > best - error:
                best = max(best, cosine(points[rows[i]], points[picks[j]]))
        nearest[rows[i]] = best
