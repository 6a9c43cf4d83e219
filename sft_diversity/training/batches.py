"""Which samples each optimizer step reads, fixed before the run begins.

The order depends on the seed alone: not on the machine, on how a step is cut into micro-batches,
or on where the run was stopped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from sft_diversity.core import seeding

Rows = npt.NDArray[np.int64]

#: Of the tokens that a run computes, at least this share is to be real, not padding.
REAL_SHARE = 0.9
_STEPS_LOOKED_AT = 256  # evenly spaced, to choose the number of micro-batches
_NEVER = 1 << 60


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
    """Cut every step into micro-batches of so many samples of like length each.

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


def least_padded(
    order: Rows, lengths: Rows, batch_size: int, most_tokens: int, processes: int = 1
) -> list[list[int]]:
    """Cut every step into as few micro-batches as leave a tenth of padding, longest samples first.

    As with `micro_batches`, a step reads the same samples and has the same gradient. Where a step
    is cut, and so how many samples a micro-batch has, is what pads least.

    Parameters
    ----------
    most_tokens : int
        Of a micro-batch, padding counted; a longer sample is one by itself.

    Returns
    -------
    list of list of int
        All steps have the same number of micro-batches, a multiple of `processes`; process i reads
        `[i::processes]`. A last step of fewer samples than that has as few as it needs, some of
        them empty where it has fewer than processes.

    Notes
    -----
    The number is the least that keeps padding to a tenth (`REAL_SHARE`) over some steps of the run,
    and all micro-batches within `most_tokens`. Cuts are by dynamic programming: time O(b²·m) a step
    of b samples and m micro-batches, memory O(b²).
    """
    steps = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    steps = [step[np.argsort(-lengths[step], kind="stable")] for step in steps]
    fewest = max(_fewest(lengths[step], most_tokens) for step in steps)
    full = steps[:-1] or steps  # the last may be short
    looked_at = [lengths[step] for step in full[:: -(-len(full) // _STEPS_LOOKED_AT)]]
    real = sum(int(step.sum()) for step in looked_at)
    layers = zip(*(_paddings(step, most_tokens) for step in looked_at), strict=True)
    pieces = fewest
    for pieces, paddings in enumerate(layers, 1):
        padded = sum(computed for computed, _ in paddings)
        if pieces >= fewest and pieces % processes == 0 and real >= REAL_SHARE * padded:
            break
    pieces = -(-pieces // processes) * processes
    cut: list[list[int]] = []
    for step in steps:
        cut += [piece.tolist() for piece in _cut(step, lengths[step], pieces, most_tokens)]
        cut += [[]] * (-len(cut) % processes)
    return cut


def _fewest(longest_first: Rows, most_tokens: int) -> int:
    """Return the fewest micro-batches within `most_tokens` that hold samples of such lengths."""
    at = pieces = 0
    while at < len(longest_first):
        at += max(most_tokens // int(longest_first[at]), 1)
        pieces += 1
    return pieces


def _paddings(longest_first: Rows, most_tokens: int) -> Iterator[tuple[int, Rows]]:
    """Yield for 1, 2, ... pieces the fewest tokens to compute, padding counted, and how.

    The latter says for each j where the last piece begins if the first j samples are cut so.
    """
    n = len(longest_first)
    begins, ends = np.arange(n)[:, None], np.arange(1, n + 1)
    cost = (ends - begins) * longest_first[:, None]
    cost[(ends <= begins) | ((cost > most_tokens) & (ends - begins > 1))] = _NEVER
    best = np.array([0, *[_NEVER] * n], dtype=np.int64)  # the first j in so many pieces
    for _ in range(n):
        sums = best[:n, None] + cost
        begin = sums.argmin(axis=0)
        best[0], best[1:] = _NEVER, np.minimum(sums[begin, np.arange(n)], _NEVER)
        yield int(best[n]), begin


def _cut(step: Rows, longest_first: Rows, pieces: int, most_tokens: int) -> list[Rows]:
    """Cut a step into so many pieces, or single samples where it has fewer."""
    layers = itertools.islice(_paddings(longest_first, most_tokens), pieces)
    begins = [begin for _, begin in layers]
    edges = [len(step)]
    for begin in reversed(begins):
        edges.append(int(begin[edges[-1] - 1]))
    return np.split(step, edges[-2:0:-1])
