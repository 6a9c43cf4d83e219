"""Quotas: from shares or a length match to how many picks each part of the rows gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.kernels import NO_ROWS, Floats, Ints, Kinds, Rows
from sft_diversity.selection.config import CORPUS, ELIGIBLE
from sft_diversity.selection.problem import Quotas

#: In the place of a subset or of shares: as in the whole corpus, as in what may be picked.
BINS = 10
_WHOLE_WITHIN = 0.01  # thirds may be written as 0.33
_NAMED = 6  # groups that an error names
#: Where the corpus's own shares cannot be met.
_WAY_OUT = "{} holds to what may be picked, --no-kind fill picks more; or lower the size"


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


def parse_quota(quota: str | None) -> list[tuple[str, str | dict[str, float]]]:
    """Return each column of `quota` with `corpus`, `eligible` or the shares of its values."""
    parsed: list[tuple[str, str | dict[str, float]]] = []
    for part in () if quota is None else quota.strip().removesuffix(";").split(";"):
        column, equals, given = (piece.strip() for piece in part.partition("="))
        if not (column and equals and given):
            raise _bad_quota(part)
        if given in (CORPUS, ELIGIBLE):
            parsed.append((column, given))
            continue
        shares = {}
        for pair in given.split(","):
            value, colon, share = (piece.strip() for piece in pair.rpartition(":"))
            try:
                shares[value] = float(share)
            except ValueError:
                raise _bad_quota(part) from None
            if not (colon and value and 0 <= shares[value] < np.inf):
                raise _bad_quota(part)
        whole = sum(shares.values())
        if len(shares) < given.count(",") + 1 or abs(whole - 1) > _WHOLE_WITHIN:
            raise UsageError(
                f"select: quota: the shares of {column} add up to {whole:g}, each value named "
                "once, but must add up to 1"
            )
        parsed.append((column, shares))
    return parsed


def _bad_quota(part: str) -> UsageError:
    return UsageError(
        f"select: quota is {part.strip()!r} but must be COLUMN=corpus, COLUMN=eligible or "
        "COLUMN=VALUE:SHARE,...; several are joined by `;`"
    )


def length_factor(
    lengths: npt.NDArray[np.integer], reference: npt.NDArray[np.integer], named: str
) -> tuple[Factor, list[float]]:
    """Return the factor of the deciles of `reference`, and their ends; `named` says which it is."""
    if len(reference) == 0:
        raise DataError("select: match-length has an empty reference; give a subset with samples")
    edges = np.quantile(reference, np.arange(1, BINS) / BINS)
    ends = ["0", *(f"{edge:g}" for edge in edges), "∞"]
    labels = [f"{low}–{high}" for low, high in itertools.pairwise(ends)]
    group = np.searchsorted(edges, lengths).astype(np.int32)
    shares = np.bincount(np.searchsorted(edges, reference), minlength=BINS).astype(np.float64)
    ways = {"way_out": _WAY_OUT.format("--match-length eligible")} if named == CORPUS else {}
    return Factor("response length", labels, group, shares, **ways), edges.tolist()


def column_factor(
    column: str, texts: pa.ChunkedArray, shares: str | dict[str, float], rows: Rows
) -> Factor:
    """Return the factor of a column's values; `rows` may be picked.

    Raises
    ------
    DataError
        If a value that is to have a share does not occur.
    """
    values = pc.dictionary_encode(texts.combine_chunks().cast("string"))
    names = values.dictionary.to_pylist()
    codes = values.indices.fill_null(-1).to_numpy().astype(np.int32)
    if isinstance(shares, str):
        of = codes if shares == CORPUS else codes[rows]
        counts = np.bincount(of[of >= 0], minlength=len(names)).astype(np.float64)
        if shares == ELIGIBLE:
            return Factor(column, names, codes, counts)
        return Factor(column, names, codes, counts, _WAY_OUT.format(f"--quota {column}=eligible"))
    unknown = [name for name in shares if name not in names]
    if unknown:
        raise DataError(
            f"select: quota: {column} is never {unknown[0]!r}; "
            f"it is {', '.join(map(str, sorted(names)[:12]))}"
        )
    place = {name: i for i, name in enumerate(shares)}
    lookup = np.array([*(place.get(name, -1) for name in names), -1], np.int32)
    return Factor(column, list(shares), lookup[codes], np.array(list(shares.values())))


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
