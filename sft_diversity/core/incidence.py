"""The incidence: which kinds each sample holds. Levels make it, the selection engine reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import numbers, parquet
from sft_diversity.core.errors import DataError, UsageError


@dataclass(frozen=True)
class Incidence:
    """Samples × kinds as compressed sparse rows; arrays may be read-only memory maps.

    Attributes
    ----------
    indptr : int64 array, shape (n + 1,)
    indices : int32 array, shape (nnz,)
        Kinds of each row, ascending and distinct within the row.
    counts : int32 array, shape (nnz,)
        How often the sample holds the kind, at least 1.
    n_kinds : int
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    n_kinds: int

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def occurrences(self) -> npt.NDArray[np.int64]:
        """How often each kind occurs in all rows together, shape (n_kinds,)."""
        found = np.bincount(self.indices, weights=self.counts, minlength=self.n_kinds)
        return found.astype(np.int64)

    def take(self, rows: npt.NDArray[np.int64]) -> Incidence:
        """Return the incidence of `rows`, in that order; kinds keep their numbers."""
        starts, sizes = self.indptr[rows], np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], sizes)
        flat = np.repeat(starts, sizes) + within
        return Incidence(indptr, self.indices[flat], self.counts[flat], self.n_kinds)

    def only(self, mask: npt.NDArray[np.bool_]) -> Incidence:
        """Return the incidence in which rows outside `mask`, shape (n,), hold no kind."""
        sizes = np.diff(self.indptr)
        indptr = np.concatenate([[0], np.cumsum(np.where(mask, sizes, 0))]).astype(np.int64)
        flat = np.repeat(mask, sizes)
        return Incidence(indptr, self.indices[flat], self.counts[flat], self.n_kinds)


def of_matrix(given: Any) -> Incidence:
    """Return the incidence of a scipy sparse matrix or array; an incidence is returned as it is.

    Entries that are not 0 are kinds held, whole numbers their counts; where one is a fraction (of
    weights, such as tf-idf), every count is 1.

    Raises
    ------
    UsageError
        If it is no sparse matrix, or an entry is negative or not finite.
    """
    if isinstance(given, Incidence):
        return given
    if not hasattr(given, "tocsr") or len(given.shape) != 2:
        raise UsageError(
            f"select: an incidence is a scipy sparse matrix of samples × kinds, not a "
            f"{type(given).__name__}; give scipy.sparse.csr_array(…)"
        )
    rows = given.tocsr(copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    values = rows.data.astype(np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        raise UsageError("select: an incidence has entries below 0, or not finite; give counts")
    counts = rows.data if (values % 1 == 0).all() else np.ones(len(values))
    return Incidence(
        rows.indptr.astype(np.int64), rows.indices.astype(np.int32), counts.astype(np.int32),
        int(rows.shape[1]),
    )  # fmt: skip


def save(folder: Path, incidence: Incidence, ids: pa.Array, kinds: pa.Table) -> None:
    """Write `indptr/indices/counts.npy`, `ids.parquet` and `kinds.parquet` into `folder`.

    `ids` names the rows, shape (n,), ascending; `kinds` describes the kinds in order: column
    `kind` (its name) and `samples` (how many samples hold it), more where a level has more.
    """
    if len(ids) != incidence.n_samples or kinds.num_rows != incidence.n_kinds:
        raise DataError(
            f"index: {len(ids)} ids and {kinds.num_rows} kinds do not fit an incidence of "
            f"{incidence.n_samples} samples and {incidence.n_kinds} kinds"
        )
    folder.mkdir(parents=True, exist_ok=True)
    numbers.save_array(folder / "indptr.npy", incidence.indptr.astype(np.int64, copy=False))
    numbers.save_array(folder / "indices.npy", incidence.indices.astype(np.int32, copy=False))
    numbers.save_array(folder / "counts.npy", incidence.counts.astype(np.int32, copy=False))
    pq.write_table(pa.table({"id": ids}), folder / "ids.parquet", compression="zstd")
    pq.write_table(kinds, folder / "kinds.parquet", compression="zstd")


def load(folder: Path) -> Incidence:
    """Return the incidence stored in `folder`, memory-mapped read-only.

    Raises
    ------
    DataError
        If the arrays do not fit one another or the kinds: kernels trust them.

    Notes
    -----
    Reads every entry once, some 2 s for a billion.
    """
    n_kinds = parquet.rows(folder / "kinds.parquet")
    try:
        indptr, indices, counts = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("indptr", "indices", "counts")
        )
    except (OSError, ValueError, EOFError) as fault:
        raise _damaged(folder, str(fault)) from None
    found = Incidence(indptr, indices, counts, n_kinds)
    if fault_of(found):
        raise _damaged(folder, fault_of(found))
    return found


def fault_of(given: Incidence) -> str:
    """Say what is wrong with the arrays of an incidence; "" where nothing is."""
    indptr, indices, counts = given.indptr, given.indices, given.counts
    kinds_of_array = [
        (a.ndim, np.issubdtype(a.dtype, np.integer)) for a in (indptr, indices, counts)
    ]
    if kinds_of_array != [(1, True)] * 3 or not len(indptr):
        return "indptr, indices and counts must be arrays of whole numbers in one dimension"
    if indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 0):
        return "indptr does not rise from 0 to the number of indices"
    if len(counts) != len(indices):
        return f"there are {len(counts):,} counts for {len(indices):,} indices"
    if len(indices) and not 0 <= indices.min() <= indices.max() < given.n_kinds:
        return f"an index is not a kind of the {given.n_kinds:,}"
    return ""


def _damaged(folder: Path, why: str) -> DataError:
    return DataError(f"{folder}: the incidence is damaged: {why}; remove it and make it again")


def load_ids(folder: Path) -> pa.Array:
    """Return the sample ids of the incidence's rows."""
    return parquet.read(folder / "ids.parquet", ["id"])["id"].combine_chunks()
