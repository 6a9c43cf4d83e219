"""The entropy of a subset's tokens, and sampling tilted towards or away from rare tokens."""

from __future__ import annotations

import numpy as np

from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Floats, Ints, Rows
from sft_diversity.core.seeding import generator


def entropy_bits(incidence: Incidence, rows: Rows) -> float:
    """Return the Shannon entropy of the token counts of `rows` together, in bits per token.

    0 where there is no token. Time O(entries of `rows` + n_kinds).
    """
    amounts = token_amounts(incidence, rows)
    shares = amounts[amounts > 0] / max(1, amounts.sum())
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def token_amounts(incidence: Incidence, rows: Rows) -> Ints:
    """Return how often each token type occurs in `rows` together, shape (n_kinds,)."""
    part = incidence.take(rows)
    amounts = np.bincount(part.indices, weights=part.counts, minlength=incidence.n_kinds)
    return amounts.astype(np.int64)


def mean_surprisal(incidence: Incidence, rows: Rows) -> Floats:
    """Return the mean of -log₂ p per token of each row, standardised.

    p is the share of the token among all tokens of `rows`, each of which has at least one. Shape
    (m,); all 0 where there is no spread.
    """
    part = incidence.take(rows)
    amounts = np.bincount(part.indices, weights=part.counts, minlength=incidence.n_kinds)
    surprisal = -np.log2(np.maximum(amounts, 1) / amounts.sum())
    total = np.add.reduceat(part.counts * surprisal[part.indices], part.indptr[:-1])
    mean = total / np.add.reduceat(part.counts, part.indptr[:-1], dtype=np.int64)
    spread = mean.std()
    return (mean - mean.mean()) / spread if spread > 0 else np.zeros(len(rows))


def gumbel(n: int, seed: int) -> Floats:
    """Return the Gumbel noise of `seed`, shape (n,)."""
    return generator(seed, "select", "entropy").gumbel(size=n)


def tilted(rows: Rows, tilt: Floats, noise: Floats, size: int, beta: float) -> Rows:
    """Return the `size` rows with the largest key β · tilt + noise, largest first.

    With Gumbel noise this draws without replacement, with weights exp(β · tilt) (Gumbel-top-k,
    Kool et al. 2019, arXiv:1903.06059). Time O(m).
    """
    key = beta * tilt + noise
    top = np.argpartition(-key, size - 1)[:size]
    return rows[top[np.argsort(-key[top], kind="stable")]]
