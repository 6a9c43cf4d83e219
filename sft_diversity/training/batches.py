"""Which samples each optimizer step reads, fixed before the run begins.

The order depends on the seed alone: not on the machine, on how a step is cut into micro-batches,
or on where the run was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from sft_diversity.core import seeding

Rows = npt.NDArray[np.int64]


def reading_order(
    response_tokens: Rows,
    batch_size: int,
    seed: int,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    tokens: int | None = None,
    sets: Rows | None = None,
    weights: Sequence[float] = (),
) -> Rows:
    """Return the samples of a whole run in reading order, one permutation an epoch.

    Parameters
    ----------
    response_tokens : int array, shape (n,)
        Labelled tokens of each sample.
    batch_size : int
        Samples an optimizer step reads.
    epochs, steps, tokens : number
        The budget; exactly one is given. `tokens` counts labelled tokens: reading stops with the
        sample that reaches it.
    sets : int array, shape (n,)
        The set that each sample is of.
    weights : sequence of float
        Of the sets: shares of what is read, each set in permutations of its own. An epoch is then
        as many samples as there are. Without weights all are read as one set.

    Returns
    -------
    int array
        Row numbers; step s reads `order[s * batch_size : (s + 1) * batch_size]`. Only the last
        step may be short, as epochs join without a gap.
    """
    n = len(response_tokens)
    if weights:
        assert sets is not None
        shares = {int(number): weights[int(number)] for number in np.unique(sets)}
        draw = partial(_mixed, sets, shares, seed)
    else:
        draw = partial(_shuffled, np.arange(n), (seed, "order"))
    if tokens is None:
        return draw(max(round(epochs * n), 1) if epochs is not None else (steps or 1) * batch_size)
    order = draw(n)
    while response_tokens[order].sum() < tokens:
        order = draw(2 * len(order))  # begins as the shorter one
    return order[: int(np.searchsorted(np.cumsum(response_tokens[order]), tokens)) + 1]


def _shuffled(rows: Rows, stream: tuple[int | str, ...], wanted: int) -> Rows:
    """Return so many of the rows, one permutation of them after the other."""
    seed, *names = stream
    permutations = [
        seeding.generator(int(seed), *names, epoch).permutation(len(rows))
        for epoch in range(-(-wanted // len(rows)))
    ]
    return rows[np.concatenate(permutations)[:wanted]].astype(np.int64)


def _mixed(sets: Rows, weights: Mapping[int, float], seed: int, wanted: int) -> Rows:
    """Return so many rows in which every stretch has the sets in the shares of their weights.

    The k-th read of a set of share s is due at (k + 1/2) / s, and whatever is due first is read:
    Webster's method, by which no set is ever far from its share.
    """
    whole = sum(weights.values())
    due, rows = [], []
    for number, weight in weights.items():
        share = weight / whole
        most = int((wanted + len(weights)) * share) + 1
        rows.append(_shuffled(np.flatnonzero(sets == number), (seed, "order", "set", number), most))
        due.append((np.arange(most) + 0.5) / share)
    first = np.argsort(np.concatenate(due), kind="stable")[:wanted]
    return np.concatenate(rows)[first]


def micro_batches(
    order: Rows, lengths: Rows, batch_size: int, micro_batch_size: int, processes: int = 1
) -> list[list[int]]:
    """Cut every step into micro-batches of samples of like length, so that little is padded.

    Each step still reads a random draw of the data: only the order within it is by length, and the
    step's gradient is the same sum. (Batches that group lengths across steps would make a step of
    long answers follow a step of short ones.)

    Returns
    -------
    list of list of int
        A step's number of micro-batches is the least multiple of `processes` that keeps each within
        `micro_batch_size`; process i reads `[i::processes]`. Those of a last step of fewer samples
        than processes may be empty.
    """
    cut: list[list[int]] = []
    for start in range(0, len(order), batch_size):
        step = order[start : start + batch_size]
        step = step[np.argsort(-lengths[step], kind="stable")]
        pieces = processes * -(-len(step) // (processes * micro_batch_size))
        cut += [piece.tolist() for piece in np.array_split(step, pieces)]
    return cut
