"""Whether subsets of a size can be made within limits at all, and from which pools."""

from __future__ import annotations

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.kernels import Rows
from sft_diversity.selection import capping
from sft_diversity.selection.limits import NO_CAP, Limits
from sft_diversity.selection.peeling import Peeling
from sft_diversity.selection.transpose import count_kinds


def check(peeling: Peeling, size: int, limits: Limits) -> None:
    """Refuse sizes and limits that cannot be met."""
    if size < 1:
        raise UsageError(f"select: size is {size:,} but a subset has at least 1 sample")
    if limits.cap < 1:
        raise UsageError(f"select: max per kind is {limits.cap:,} but must be at least 1")
    if len(limits.kept) > size:
        raise UsageError(
            f"select: size is {size:,} but {len(limits.kept):,} samples must be included; "
            "raise the size"
        )
    if count_kinds(*peeling.shape[:2], limits.kept, peeling.n_kinds).max(initial=0) > limits.cap:
        raise UsageError(
            f"select: the samples to include hold a kind more than {limits.cap:,} times; raise "
            "max per kind or include fewer"
        )
    if len(limits.kept) == 0 and size > peeling.eligible:
        raise DataError(
            f"select: size is {size:,} but only {peeling.eligible:,} of "
            f"{peeling.eligible + peeling.no_kind:,} samples hold a kind; "
            "lower the size, add data, or use a strategy whose kinds reach more samples"
        )
    rows = limits.candidates(peeling.pool(0))
    lacking = limits.lacking(rows, size)
    if lacking:
        raise DataError(f"select: size is {size:,} but {lacking}; change the size or the limit")
    if not _fits(peeling, size, limits, rows):
        least = capping.smallest_cap(*peeling.shape, rows, size, limits)
        raise DataError(
            f"select: fewer than {size:,} samples remain when no kind may occur more than "
            f"{limits.cap:,} times; the smallest feasible max per kind is {least:,}, "
            "or lower the size"
        )


def feasible(peeling: Peeling, size: int, limits: Limits, step: int) -> bool:
    """Whether the pool of `step` holds `size` samples within the limits."""
    if peeling.pool_sizes[step] + len(limits.kept) < size:
        return False
    rows = limits.candidates(peeling.pool(step))
    return not limits.lacking(rows, size) and _fits(peeling, size, limits, rows)


def _fits(peeling: Peeling, size: int, limits: Limits, rows: Rows) -> bool:
    """Whether the rows kept and some of `rows` make `size` under the cap."""
    return limits.cap == NO_CAP or capping.fits(*peeling.shape, rows, size, limits)
