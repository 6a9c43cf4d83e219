"""DEITA's representation filter: best scores first, skipping what resembles a pick."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import Mask, Points, Rows, compiled, cosine, slack
from sft_diversity.core.vectors import check_points
from sft_diversity.selection.config import THRESHOLD

AT_ONCE = 1024  # candidates that meet the picks in one matrix product
FEW = 1 << 24  # pairs at most for which a whole product costs less than looking for a basis
PICKS = 4096  # picks they meet before those already refused are left out
SAMPLE = 2048  # rows that the directions are fitted to
PROBE = 512  # rows of it whose pairs decide how many directions pay
PER_COORDINATE, PER_PAIR = 0.02, 120.0  # ns: a term of a matrix product, an exact cosine


def repr_filter(points: Points, order: Rows, size: int, *, threshold: float = THRESHOLD) -> Rows:
    """Pick rows in the order given, except those too similar to an earlier pick.

    Parameters
    ----------
    points : float32 array, shape (n, d)
        Unit vectors.
    order : int64 array, shape (m,)
        Distinct rows, the best score first.
    size : int
        Rows to pick, 1 to n.
    threshold : float
        A row is refused if its cosine to any pick is greater than this.

    Returns
    -------
    int64 array, shape (at most size,)
        Picks, in order; fewer than `size` where the threshold refuses too many of the rest. A
        smaller size gives a prefix.

    Raises
    ------
    UsageError
        If `size` is out of range, `points` are no finite float32 vectors, or `threshold` no
        cosine.

    Notes
    -----
    Liu et al. 2024, arXiv:2312.15685, section 2.4, with what the published code fixes: the first
    of the order is taken unseen, refused means strictly above the threshold, one candidate is
    judged at a time (with larger batches that code also refuses a row for one of its batch that is
    refused itself). Its scores are complexity times quality, sorted by a sort that leaves ties
    open: here the order decides. Pairs that a product of fewer coordinates cannot rule out (see
    `sketch`) get their cosine in float64. Time O(candidates · picks · d) at worst, as matrix
    products.
    """
    check_points(points, size)
    if not -1.0 <= threshold <= 1.0:
        raise UsageError(f"select: threshold is {threshold} but a cosine lies within -1 to 1")
    error = slack(points.shape[1])
    basis = np.eye(points.shape[1], dtype=np.float32)
    if len(order) * size > FEW:
        basis = fit_basis(points, threshold)
    heads = np.empty((min(size, len(order)), basis.shape[1] + 1), np.float32)
    picks = np.empty(len(heads), np.int64)
    taken = 0
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        here = sketch(points[rows], basis)
        for first in range(0, taken, PICKS):
            until = min(first + PICKS, taken)
            bounds = here @ heads[first:until].T
            passing = _passing(points, rows, picks[first:until], bounds, threshold, error)
            rows, here = rows[passing], here[passing]
            if len(rows) == 0:
                break
        kept = _pass_in_turn(points, rows, here @ here.T, threshold, error, len(picks) - taken)
        picks[taken : taken + len(kept)] = rows[kept]
        heads[taken : taken + len(kept)] = here[kept]
        taken += len(kept)
        if taken == len(picks):
            break
    return picks[:taken]


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


@compiled
def _passing(
    points: Points, rows: Rows, picks: Rows, bounds: Points, threshold: float, error: float
) -> Mask:
    """Return which of `rows` resemble none of `picks`."""
    passing = np.ones(len(rows), np.bool_)
    for i in range(len(rows)):
        for j in range(len(picks)):
            if (
                bounds[i, j] > threshold - error
                and cosine(points[rows[i]], points[picks[j]]) > threshold
            ):
                passing[i] = False
                break
    return passing


@compiled
def _pass_in_turn(
    points: Points, rows: Rows, bounds: Points, threshold: float, error: float, most: int
) -> Rows:
    """Return which of `rows` are picked, in order; they resemble no pick made before."""
    kept = np.empty(min(most, len(rows)), np.int64)
    taken = 0
    for i in range(len(rows)):
        if taken == len(kept):
            break
        refused = False
        for j in kept[:taken]:
            if (
                bounds[i, j] > threshold - error
                and cosine(points[rows[i]], points[rows[j]]) > threshold
            ):
                refused = True
                break
        if not refused:
            kept[taken] = i
            taken += 1
    return kept[:taken]
