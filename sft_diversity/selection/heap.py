"""A binary heap of numbered items by key: the order in which greedy and peeling take them.

`items[:length]` are the items and `keys[:length]` the key of each. The one of least key is first,
of equal keys the lowest item: whatever stands at `at` comes before what stands at 2 · at + 1 and
2 · at + 2. `places[item]` is where an item stands, for callers that must find one whose key has
changed; None for those that look at the first alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core.kernels import compiled

Items = npt.NDArray[np.integer[Any]]
Keys = npt.NDArray[Any]


@compiled
def rise(items: Items, keys: Keys, places: Items | None, at: int, item: int, key: float) -> None:
    """Put an item at position `at`, or above it, where it belongs. O(log length).

    For an item whose key has fallen, or, with `at` the length of the heap, a new one; the caller
    counts it.
    """
    while at > 0:
        above = (at - 1) // 2
        if keys[above] < key or (keys[above] == key and items[above] < item):
            break
        items[at], keys[at] = items[above], keys[above]
        if places is not None:
            places[items[at]] = at
        at = above
    items[at], keys[at] = item, key
    if places is not None:
        places[item] = at


@compiled
def sink(
    items: Items, keys: Keys, places: Items | None, length: int, at: int, item: int, key: float
) -> None:
    """Put an item at position `at` of a heap of `length`, or below it, where it belongs.

    For one whose key has grown; or, to take the first away, the last one of the heap, whose length
    is then one less. Nothing happens where that is 0. O(log length).
    """
    if length == 0:
        return
    while 2 * at + 1 < length:
        below = 2 * at + 1
        if below + 1 < length and (
            keys[below + 1] < keys[below]
            or (keys[below + 1] == keys[below] and items[below + 1] < items[below])
        ):
            below += 1
        if key < keys[below] or (key == keys[below] and item < items[below]):
            break
        items[at], keys[at] = items[below], keys[below]
        if places is not None:
            places[items[at]] = at
        at = below
    items[at], keys[at] = item, key
    if places is not None:
        places[item] = at
