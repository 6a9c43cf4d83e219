"""Nearest vectors by inner product, and k-means, on the library and the device that are here.

With faiss-gpu and a card all of it is FAISS on the card; where PyTorch sees a card and faiss-gpu is
not installed, the same in PyTorch there; FAISS on the CPU otherwise, but for what NumPy's BLAS does
as fast. All is exact in float32: what differs between them is rounding, so whatever depends on it
counts the engine in its key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sft_diversity.core import extras, machine
from sft_diversity.core.folder import versions
from sft_diversity.core.stage import Ask
from sft_diversity.core.vectors import Vectors

Rows = npt.NDArray[np.int64]
#: Queries searched at a time, and products held at a time: memory stays flat.
QUERIES, PRODUCTS = 4_096, 1 << 27
_ASSIGNED = 16_384  # rows assigned at a time on a CPU
_SPLIT = 1 / 1024  # how far the halves of a split cluster begin from its centroid, as in FAISS


@dataclass(frozen=True)
class Engine:
    """What computes: a library on a device."""

    library: Literal["faiss", "torch"]
    device: Literal["cpu", "cuda"]

    def __str__(self) -> str:
        return f"{self.library} on {self.device}"

    def facts(self) -> dict[str, str]:
        """Return both, for a manifest's `run` block."""
        return {"device": self.device, "library": self.library}


#: What keys were made with before they said it.
ON_CPU = Engine("faiss", "cpu")


def engine() -> Engine:
    """Return what computes here."""
    seen = machine.gpus()
    if (seen or "faiss-gpu" in versions()) and extras.has("faiss") and _gpus_of_faiss():
        return Engine("faiss", "cuda")
    if seen:
        return Engine("torch", "cuda")
    return ON_CPU


def count_engine(ask: Ask) -> None:
    """Let an output depend on the engine where that is another than FAISS on the CPU."""
    here = engine()
    if here != ON_CPU:
        ask.key("neighbours", str(here))


def require_engine(use: str) -> None:
    """Refuse what needs FAISS where neither that nor a GPU of PyTorch's is there."""
    if engine() != Engine("torch", "cuda"):
        gpu = "'sft-diversity[embed,gpu]' on a machine with an NVIDIA GPU (never both)"
        extras.require("faiss", use, gpu)


def nearest(points: Vectors, queries: Vectors, number: int, on: Engine = ON_CPU) -> Rows:
    """Return for each query the points of largest inner product, the largest first.

    Parameters
    ----------
    points : float32 array, shape (n, d)
    queries : float32 array, shape (q, d)
    number : int
        1 to n.
    on : Engine

    Returns
    -------
    int64 array, shape (q, number)
        With `number` 1, and in PyTorch always, the lowest row of equal products comes first.

    Notes
    -----
    Exact: all products are formed. Time O(q · n · d), memory O(q · number + n · d) and a block.
    """
    if on.library == "torch":
        return _nearest_in_torch(points, queries, number, on.device)
    index = _index(points, on)
    found = [
        index.search(np.ascontiguousarray(queries[start : start + QUERIES]), number)[1]
        for start in range(0, len(queries), QUERIES)
    ]
    return np.concatenate([*found, np.empty((0, number), np.int64)])


def assign(vectors: Vectors, centroids: Vectors, on: Engine = ON_CPU) -> npt.NDArray[np.int32]:
    """Return for each row the centroid of largest inner product (ties: lowest), shape (n,).

    On a CPU by NumPy's products, which FAISS is no faster than and which need no FAISS. Time
    O(n · k · d).
    """
    if on.device == "cuda":
        return nearest(centroids, vectors, 1, on)[:, 0].astype(np.int32)
    found = [
        products(vectors[start : start + _ASSIGNED], centroids).argmax(axis=1)
        for start in range(0, len(vectors), _ASSIGNED)
    ]
    return np.concatenate([*found, np.empty(0, np.int64)]).astype(np.int32)


def products(rows: Vectors, others: Vectors, on: Engine = ON_CPU) -> Vectors:
    """Return all inner products, shape (n, m), for who needs them all, not the largest alone.

    On a card by PyTorch where it sees one, else by NumPy's BLAS.
    """
    if on.device == "cpu" or not machine.gpus():
        made: Vectors = rows @ others.T
        return made
    with _exact_torch("cuda") as (torch, device):
        one, other = (torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in (rows, others))
        return np.asarray((one @ other.T).cpu().numpy())


def spherical_centroids(
    sample: Vectors, k: int, iterations: int, seed: int, on: Engine = ON_CPU
) -> Vectors:
    """Return the centroids of spherical k-means, unit vectors, shape (k, d).

    Parameters
    ----------
    sample : float32 array, shape (n, d)
        Unit vectors.
    k : int
        1 to n.
    seed : int
        Draws the rows that are the first centroids: FAISS and PyTorch draw others.

    Notes
    -----
    Time O(iterations · n · k · d). A cluster without rows gets half of a large one.
    """
    if on.library == "torch":
        return _centroids_in_torch(sample, k, iterations, seed, on.device)
    require_engine("index: macro")
    import faiss

    trainer = faiss.Kmeans(
        sample.shape[1],
        k,
        niter=iterations,
        spherical=True,
        seed=seed,
        gpu=on.device == "cuda",
        min_points_per_centroid=1,
        max_points_per_centroid=2**31 - 1,
    )
    trainer.train(np.ascontiguousarray(sample))
    return np.asarray(trainer.centroids, np.float32)


def _gpus_of_faiss() -> int:
    """Return how many GPUs FAISS computes on: none where it is built for CPUs."""
    import faiss

    return machine.gpus(faiss.get_num_gpus) if hasattr(faiss, "StandardGpuResources") else 0


def _index(points: Vectors, on: Engine) -> Any:
    import faiss

    index: Any = faiss.IndexFlatIP(points.shape[1])
    if on.device == "cuda":
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(np.ascontiguousarray(points))
    return index


@contextlib.contextmanager
def _exact_torch(device: str) -> Iterator[tuple[Any, Any]]:
    """Yield torch, whose products are in full float32 meanwhile, and the device."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield torch, torch.device(device)
    finally:
        torch.set_float32_matmul_precision(before)


def _nearest_in_torch(points: Vectors, queries: Vectors, number: int, device: str) -> Rows:
    found = np.empty((len(queries), number), np.int64)
    step = max(1, min(QUERIES, PRODUCTS // max(len(points), 1)))
    with _exact_torch(device) as (torch, place):
        there = torch.from_numpy(np.ascontiguousarray(points)).to(place)
        for start in range(0, len(queries), step):
            block = torch.from_numpy(np.ascontiguousarray(queries[start : start + step]))
            made = block.to(place) @ there.T
            best = made.argmax(1, keepdim=True) if number == 1 else _largest(torch, made, number)
            found[start : start + step] = best.cpu().numpy()
    return found


def _largest(torch: Any, made: Any, number: int) -> Any:
    """Return the columns of the `number` largest of each row; of equal ones the lowest come first.

    `topk` takes any of those that equal the last; where there are more of them than it takes, the
    row is looked at again.
    """
    least = made.topk(number, sorted=True).values[:, -1:]
    taken = made >= least
    for row in torch.nonzero(taken.sum(1) > number)[:, 0].tolist():
        ties = torch.nonzero(made[row] == least[row])[:, 0]
        spare = int(taken[row].sum()) - number
        taken[row, ties[len(ties) - spare :]] = False
    columns = torch.nonzero(taken)[:, 1].reshape(len(made), number)  # ascending in each row
    order = made.gather(1, columns).sort(dim=1, descending=True, stable=True).indices
    return columns.gather(1, order)


def _centroids_in_torch(
    sample: Vectors, k: int, iterations: int, seed: int, device: str
) -> Vectors:
    first = np.random.default_rng(seed).choice(len(sample), k, replace=False)
    step = max(1, min(len(sample), PRODUCTS // max(k, sample.shape[1])))
    with _exact_torch(device) as (torch, place):
        rows = torch.from_numpy(np.ascontiguousarray(sample)).to(place)
        centroids = rows[torch.from_numpy(first).to(place)]
        for _ in range(iterations):
            sums = torch.zeros(centroids.shape, dtype=torch.float64, device=place)
            sizes = torch.zeros(k, dtype=torch.int64, device=place)
            with _in_order(torch):
                for start in range(0, len(rows), step):
                    block = rows[start : start + step]
                    own = (block @ centroids.T).argmax(1)
                    sums.index_add_(0, own, block.double())
                    sizes += torch.bincount(own, minlength=k)
            centroids = _with_empty_split(sums.cpu().numpy(), sizes.cpu().numpy())
            centroids = torch.from_numpy(centroids).to(place)
        made: Vectors = centroids.cpu().numpy()
        return made


@contextlib.contextmanager
def _in_order(torch: Any) -> Iterator[None]:
    """Let sums on a card be taken in one order, so that equal runs are equal bytes."""
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _with_empty_split(sums: npt.NDArray[np.float64], sizes: Rows) -> Vectors:
    """Return unit centroids of the sums; an empty cluster takes half of the largest one."""
    lengths = np.linalg.norm(sums, axis=1)
    sums = sums / np.where(lengths > 0, lengths, 1.0)[:, None]
    sizes = sizes.copy()
    signs = np.where(np.arange(sums.shape[1]) % 2, -_SPLIT, _SPLIT)
    for empty in np.flatnonzero((sizes == 0) | (lengths == 0)).tolist():
        large = int(sizes.argmax())
        sums[empty], sums[large] = sums[large] * (1 + signs), sums[large] * (1 - signs)
        sizes[empty] = sizes[large] // 2
        sizes[large] -= sizes[empty]
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    return sums.astype(np.float32)
