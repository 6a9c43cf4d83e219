"""Why a sample is in a subset, or why it is not, in the terms of the choice that was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Ints, Rows
from sft_diversity.core.vectors import Vectors
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.tally import count_kinds

Names = Sequence[str]


def picked(made: Incidence, names: Names, picks: Rows, at: int) -> dict[str, Any]:
    """Explain a pick.

    Parameters
    ----------
    made : Incidence
        What the subset was chosen by.
    names : sequence of str
        Name of each kind.
    picks : int64 array, shape (N,)
        In pick order.
    at : int
        Position of the pick.

    Returns
    -------
    dict
        `kinds` it holds; those it `brought` (no earlier pick held them) and how many that is
        (`gain`); `balance_gain`, what it added to Σ log(1 + c); `irreplaceable`, the kinds that no
        other pick holds; `nearest_by_kinds` (see `nearest_by_kinds`).
    """
    kinds = _kinds(made, int(picks[at]))
    before = count_kinds(made.indptr, made.indices, picks[:at], made.n_kinds)[kinds]
    held = count_kinds(made.indptr, made.indices, picks, made.n_kinds)[kinds]
    return {
        "kinds": len(kinds),
        "gain": int((before == 0).sum()),
        "brought": _named(kinds[before == 0], names),
        "balance_gain": round(float(np.log((before + 2) / (before + 1)).sum()), 6),
        "irreplaceable": _named(kinds[held == 1], names),
        "nearest_by_kinds": nearest_by_kinds(made, picks, int(picks[at])),
    }


def rejected(dial: Dial, diversity: float, names: Names, picks: Rows, row: int) -> dict[str, Any]:
    """Explain why `row` was not picked.

    Parameters
    ----------
    dial : Dial
        Of what the subset was chosen by, at its size.
    diversity : float
        Percent at which it was chosen.

    Returns
    -------
    dict
        `reason`: `no_kind`, `not_in_pool` or `not_drawn`. Not in the pool: the `kind` that was
        dropped with it, how many `samples` hold that, the `k` of the smallest pool that it is in,
        and the `diversity` in percent at which that pool is drawn from. Not drawn: the `new_kinds`
        it would add, its `balance_gain`, and the `chance` of a sample of the pool.
    """
    peeling, step = dial.peeling, dial.place(diversity).step
    made = peeling.incidence
    kinds = _kinds(made, row)
    if len(kinds) == 0:
        return {"reason": "no_kind"}
    degrees = np.bincount(made.indices, minlength=peeling.n_kinds)
    left = int(peeling.sample_left[row])
    near = {"kinds": len(kinds), "nearest_by_kinds": nearest_by_kinds(made, picks, row)}
    if left <= step:
        gone = kinds[peeling.kind_left[kinds] == left]
        rarest = int(gone[np.argmin(degrees[gone])])
        percent = dial.percent(dial.covered(left - 1)) or 0.0
        return {
            "reason": "not_in_pool",
            "kind": names[rarest],
            "samples": int(degrees[rarest]),
            "k": int(peeling.kinds_after[left - 1]),
            "diversity": round(min(100.0, max(0.0, percent)), 1),
            **near,
        }
    held = count_kinds(made.indptr, made.indices, picks, made.n_kinds)[kinds]
    return {
        "reason": "not_drawn",
        "new_kinds": _named(kinds[held == 0], names),
        "balance_gain": round(float(np.log((held + 2) / (held + 1)).sum()), 6),
        "chance": round(len(picks) / max(1, int(peeling.pool_sizes[step])), 4),
        **near,
    }


def nearest_by_kinds(made: Incidence, picks: Rows, row: int) -> dict[str, Any] | None:
    """Return the other pick whose kinds are most like those of `row` (Jaccard), ties by order."""
    kinds = _kinds(made, row)
    others = picks[picks != row]
    if len(kinds) == 0 or len(others) == 0:
        return None
    own = np.zeros(made.n_kinds, np.bool_)
    own[kinds] = True
    part = made.take(others)
    sizes = np.diff(part.indptr)
    both = np.add.reduceat(
        np.append(own[part.indices], False), part.indptr[:-1].clip(max=len(part.indices))
    )
    both = np.where(sizes > 0, both, 0)
    alike = both / (len(kinds) + sizes - both)
    best = int(alike.argmax())
    return {"row": int(others[best]), "jaccard": round(float(alike[best]), 4)}


def nearest_by_embedding(vectors: Vectors, picks: Rows, row: int) -> dict[str, Any] | None:
    """Return the other pick with the greatest cosine to `row`; `vectors` are of unit length."""
    others = picks[picks != row]
    if len(others) == 0:
        return None
    cosines = vectors[others] @ vectors[row]
    best = int(cosines.argmax())
    return {"row": int(others[best]), "cosine": round(float(cosines[best]), 4)}


def _kinds(made: Incidence, row: int) -> Ints:
    return np.asarray(made.indices[made.indptr[row] : made.indptr[row + 1]], np.int64)


def _named(kinds: Ints, names: Names) -> list[str]:
    return [names[int(kind)] for kind in kinds]
