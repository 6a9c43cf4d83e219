"""Cosines that decide: float32 products from BLAS to find the few that matter, those in float64."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Points


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
