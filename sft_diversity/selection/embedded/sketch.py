"""Fewer coordinates whose products bound cosines from above, to pass over most pairs cheaply."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.kernels import Points
from sft_diversity.selection.embedded.similarity import slack

SAMPLE = 2048  # rows that the directions are fitted to
PROBE = 512  # rows of it whose pairs decide how many directions pay
PER_COORDINATE, PER_PAIR = 0.02, 120.0  # ns: a term of a matrix product, an exact cosine


def fit_basis(points: Points, threshold: float) -> Points:
    """Return orthonormal directions, shape (d, k), that suit a search for cosines > `threshold`.

    The leading ones of an evenly spaced sample, as many as make the search cheapest by an
    estimate from pairs of the sample. They steer cost alone, never what is found.
    """
    d = points.shape[1]
    sample = points[:: max(1, len(points) // SAMPLE)][:SAMPLE].astype(np.float64)
    directions = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].astype(np.float32)
    probe = np.ascontiguousarray(sample[:: max(1, len(sample) // PROBE)][:PROBE], np.float32)
    costs = {}
    for k in sorted({d * part // 16 for part in (1, 2, 3, 4, 6, 8, 10, 12, 14)} - {0}):
        heads = sketch(probe, directions[:, :k])
        costs[k] = k * PER_COORDINATE + PER_PAIR * float((heads @ heads.T > threshold).mean())
    exact = sketch(probe, directions)
    costs[d] = d * PER_COORDINATE + PER_PAIR * float((exact @ exact.T > threshold).mean())
    best = min(costs, key=costs.__getitem__)
    return np.ascontiguousarray(directions[:, :best])


def sketch(points: Points, basis: Points) -> Points:
    """Return coordinates, shape (n, k + 1), whose products are no less than the points' cosines.

    Those along the basis, then the length of what the basis leaves out: by Cauchy and Schwarz
    the rest of a product is at most that of the two lengths. True up to `slack`, which covers
    the rounding of both products, if the points are unit vectors.
    """
    heads = points @ basis
    squares = np.einsum("ij,ij->i", heads, heads)
    error = np.float32(slack(points.shape[1]))  # a length is the root of a difference: round up
    rests = np.sqrt(np.maximum(np.float32(0), 1 - squares) + error)
    return np.concatenate([heads, rests[:, None].astype(np.float32)], axis=1)
