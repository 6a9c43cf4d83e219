"""What random samples hold: the mark beside which a position of the dial is read."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, lgamma

import numpy as np

from sft_diversity.core.kernels import Floats, Ints, Rows
from sft_diversity.core.seeding import generator
from sft_diversity.selection import capping
from sft_diversity.selection.exchange import Partners, exchange, partners
from sft_diversity.selection.limits import NO_CAP, Limits
from sft_diversity.selection.peeling import Peeling
from sft_diversity.selection.transpose import count_kinds

DRAWS = 100


@dataclass(frozen=True)
class Chance:
    """What a random subset reaches.

    Attributes
    ----------
    mean : float
        Kinds, or bits: an expectation, or the mean of `DRAWS` draws.
    sd : float or None
        Standard deviation of the draws; None where the mean is exact.
    """

    mean: float
    sd: float | None = None


def chance_kinds(peeling: Peeling, size: int, limits: Limits) -> Chance:
    """Return the kinds that `size` random eligible samples within the limits hold.

    Parameters
    ----------
    peeling : Peeling
        Of the eligible samples; those that hold no kind are not among them.
    size : int
    limits : Limits

    Returns
    -------
    Chance

    Notes
    -----
    Exact without cap and total: of n samples, N of them drawn, a kind that d of them hold is held
    with probability 1 - C(n - d, N) / C(n, N); under quotas one minus the product of that ratio
    over the parts; kinds of the rows kept are held. O(nnz + parts · kinds). Otherwise `DRAWS`
    random orders are filled up within the limits, as the random baseline is, O(`DRAWS` · nnz).
    """
    rows = limits.candidates(peeling.pool(0))
    if limits.cap != NO_CAP or limits.total is not None:
        among = None if limits.total is None else partners(rows, limits)
        draws = (_random(peeling, rows, size, limits, among, i) for i in range(DRAWS))
        held = [_held(peeling, picks) for picks in draws]
        return drawn(held)
    indptr, indices, n_kinds = peeling.shape
    certain = count_kinds(indptr, indices, limits.kept, n_kinds) > 0
    if limits.quotas is None:
        parts, room = [rows], np.array([size - len(limits.kept)])
    else:
        group, room = limits.quotas.group[rows], limits.quotas.room(limits.kept)
        parts = [rows[group == part] for part in range(len(room))]
    none = np.ones(n_kinds)
    for part, number in zip(parts, room, strict=True):
        if number > 0:
            none *= _none_of(count_kinds(indptr, indices, part, n_kinds), len(part), int(number))
    return Chance(float(np.where(certain, 1.0, 1.0 - none).sum()))


def drawn(reached: list[float]) -> Chance:
    """Return mean and standard deviation of what draws reached."""
    return Chance(float(np.mean(reached)), float(np.std(reached, ddof=1)))


def _none_of(degrees: Ints, n: int, number: int) -> Floats:
    """Return C(n - d, N) / C(n, N) for each degree d: no holder is among N of n samples."""

    def log_ratio(degree: int) -> float:
        if n - degree < number:
            return -inf
        return (
            lgamma(n - degree + 1) - lgamma(n - degree - number + 1)
            - lgamma(n + 1) + lgamma(n - number + 1)
        )  # fmt: skip

    values, of_kind = np.unique(degrees, return_inverse=True)
    ratios: Floats = np.exp([log_ratio(degree) for degree in values.tolist()])
    return ratios[of_kind]


def _random(
    peeling: Peeling, rows: Rows, size: int, limits: Limits, among: Partners | None, draw: int
) -> Rows:
    order = generator(draw, "select", "chance").permutation(rows)
    picks = capping.fit(*peeling.shape, order, size, limits)
    if len(picks) < size:
        picks = capping.complete(*peeling.shape, rows, picks, size, limits)
    if limits.total is not None:
        picks = exchange(*peeling.shape, rows, picks, limits, draw, lossless=False, among=among)
    return picks


def _held(peeling: Peeling, rows: Rows) -> float:
    indptr, indices, n_kinds = peeling.shape
    return float(np.count_nonzero(count_kinds(indptr, indices, rows, n_kinds)))
