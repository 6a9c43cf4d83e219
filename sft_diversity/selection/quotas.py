"""Quotas: how many picks each group of rows gives, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sft_diversity.core.errors import DataError
from sft_diversity.core.kernels import NO_ROWS, Floats, Ints, Kinds, Rows
from sft_diversity.selection.problem import Quotas

_NAMED = 6  # groups that an error names


@dataclass(frozen=True)
class Factor:
    """One division of the rows, and the share of the picks that each of its groups is to give.

    Attributes
    ----------
    name : str
        For messages: `source`, `response length`.
    labels : sequence of str
        Name of each group.
    group : int32 array, shape (n,)
        Group of every row; -1 for rows of none, which are not picked.
    shares : float64 array, shape (groups,)
        Not negative; their sum is the whole.
    way_out : str
        What to do where rows lack.
    """

    name: str
    labels: Sequence[str]
    group: Kinds
    shares: Floats
    way_out: str = "lower its share or the size"

    def numbers(self, size: int) -> Ints:
        """Return whole numbers that add up to `size`, by largest remainder."""
        return largest_remainder(self.shares, size)


def largest_remainder(amounts: Floats, size: int) -> Ints:
    """Return whole numbers that sum to `size` in proportion to `amounts`, ties by position."""
    exact = np.asarray(amounts, np.float64) / np.sum(amounts) * size
    whole = np.floor(exact + 1e-9).astype(np.int64)
    missing = size - int(whole.sum())
    whole[np.argsort(-(exact - whole), kind="stable")[:missing]] += 1
    return whole


def make_quotas(factors: Sequence[Factor], rows: Rows, size: int, kept: Rows = NO_ROWS) -> Quotas:
    """Combine factors to one partition whose quotas keep the numbers of each of them.

    Parameters
    ----------
    factors : sequence of Factor
        At least one.
    rows : int64 array, shape (m,)
        Rows that may be picked.
    size : int
        Samples to pick.
    kept : int64 array
        Those of `rows` that are picked in any case.

    Returns
    -------
    Quotas
        A part for each combination of groups that occurs among `rows`, and a last one, with number
        0, for all other rows.

    Raises
    ------
    DataError
        If a group has fewer rows than it is to give, more rows kept than that, or the factors
        cannot be kept together.

    Notes
    -----
    One factor is kept as it is. Several are kept together by the joint distribution that is
    nearest to that of `rows` (iterative proportional fitting, Deming and Stephan 1940,
    doi:10.1214/aoms/1177731829), made whole by an integer program that holds every factor's
    numbers (HiGHS), so that all of them are met exactly.
    """
    numbers = [factor.numbers(size) for factor in factors]
    for factor, number in zip(factors, numbers, strict=True):
        present = _count(factor.group[rows], len(number))
        short = np.flatnonzero(present < number)
        if len(short):
            lacking = [
                f"{factor.name} {factor.labels[at]} is to give {number[at]:,} samples but only "
                f"{present[at]:,} are eligible"
                for at in short[:_NAMED]
            ]
            more = [f"{len(short) - _NAMED:,} more lack samples"] if len(short) > _NAMED else []
            raise DataError(f"select: {'; '.join([*lacking, *more, factor.way_out])}")
        held = _count(factor.group[kept], len(number))
        if (held > number).any() or (factor.group[kept] < 0).any():
            at = int((held - number).argmax())
            raise DataError(
                f"select: {factor.name} {factor.labels[at]} is to give {number[at]:,} samples but "
                f"{held[at]:,} of the samples to include are of it; raise its share or the size"
            )
    codes = np.zeros(len(factors[0].group), np.int64)
    valid = np.ones(len(codes), np.bool_)
    for factor, number in zip(factors, numbers, strict=True):
        codes = codes * len(number) + factor.group
        valid &= factor.group >= 0
    cells, of_row = np.unique(codes[rows[valid[rows]]], return_inverse=True)
    present = np.bincount(of_row, minlength=len(cells))
    group = np.searchsorted(cells, codes).clip(max=len(cells) - 1)
    known = valid & (cells[group] == codes)
    group = np.where(known, group, len(cells)).astype(np.int32)
    margins = []
    for number in reversed(numbers):
        margins.append(cells % len(number))
        cells = cells // len(number)
    number = _whole_cells(present, _count(group[kept], len(present)), margins[::-1], numbers)
    return Quotas(group, np.append(number, 0))


def _count(groups: Kinds, number: int) -> Ints:
    return np.bincount(groups[groups >= 0], minlength=number)


def _whole_cells(present: Ints, kept: Ints, margins: list[Ints], numbers: list[Ints]) -> Ints:
    """Return how many samples each cell gives, so that every margin has its number."""
    if len(numbers) == 1:
        return numbers[0][margins[0]]
    fitted = present.astype(np.float64)
    for _ in range(200):
        for margin, number in zip(margins, numbers, strict=True):
            sums = np.bincount(margin, fitted, len(number))
            fitted *= np.divide(number, sums, out=np.zeros(len(number)), where=sums > 0)[margin]
    # loaded here: half a second that only combined quotas need
    from scipy import optimize, sparse

    n = len(present)
    floor = np.minimum(np.floor(fitted + 1e-9), present)
    # a cell gives floor + up - down; the fraction makes the fuller cells round up first
    cost = np.concatenate([1.5 - (fitted - floor).clip(max=1.0), np.full(n, 2.0)])
    rows = [sparse.csr_matrix((np.ones(n), (m, np.arange(n))), (len(k), n))
            for m, k in zip(margins, numbers, strict=True)]  # fmt: skip
    held = sparse.vstack(rows)
    wanted = np.concatenate(numbers) - held @ floor
    solved = optimize.milp(
        cost,
        constraints=optimize.LinearConstraint(sparse.hstack([held, -held]), wanted, wanted),
        bounds=optimize.Bounds(
            np.concatenate([np.maximum(0, kept - floor), np.zeros(n)]),
            np.concatenate([present - floor, np.maximum(0, floor - kept)]),
        ),
        integrality=np.ones(2 * n),
    )
    if not solved.success:
        raise DataError(
            "select: the quotas and the length match cannot be kept together; "
            "give up one of them or lower the size"
        )
    moved = np.rint(solved.x).astype(np.int64)
    whole: Ints = floor.astype(np.int64) + moved[:n] - moved[n:]
    return whole
