"""Which samples each optimizer step reads, fixed before the run begins.

The order depends on the seed alone: not on the machine, on how a step is cut into micro-batches,
or on where the run was stopped.
"""

from __future__ import annotations

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

    Returns
    -------
    int array
        Row numbers; step s reads `order[s * batch_size : (s + 1) * batch_size]`. Only the last
        step may be short, as epochs join without a gap.
    """
    n = len(response_tokens)
    if epochs is not None:
        wanted = max(round(epochs * n), 1)
    elif steps is not None:
        wanted = steps * batch_size
    else:
        assert tokens is not None
        rounds = tokens // max(int(response_tokens.sum()), 1) + 1
        wanted = rounds * n
    permutations = [
        seeding.generator(seed, "order", epoch).permutation(n) for epoch in range(-(-wanted // n))
    ]
    order = np.concatenate(permutations)[:wanted].astype(np.int64)
    if tokens is None:
        return order
    return order[: int(np.searchsorted(np.cumsum(response_tokens[order]), tokens)) + 1]


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
