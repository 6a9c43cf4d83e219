"""Objective `entropy`: the dial in bits per token of the subset's token distribution.

Up to what it reaches, sampling is tilted towards or away from rare tokens; above, greedy picks
come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Floats, Rows
from sft_diversity.core.numbers import entropy
from sft_diversity.core.seeding import generator
from sft_diversity.selection.bounds import Chance, chance_of
from sft_diversity.selection.config import MIN_TOKENS
from sft_diversity.selection.dial import check_percent, percent_of_range
from sft_diversity.selection.entropy_greedy import (
    entropy_bound,
    maximise_entropy,
    token_counts,
)
from sft_diversity.selection.problem import shuffled

TOLERANCE = 0.005  # a subset further from its target than this share of it has missed it
BETAS = np.array([*(-(2.0 ** np.arange(5, -4, -1))), 0.0, *(2.0 ** np.arange(-3, 6))])
HALVINGS = 30
CLOSE = 1e-5  # bisection stops when this near to its target, as a share of it
REFERENCE_SEED = 0  # the ends of the dial are the same for all seeds


def entropy_bits(incidence: Incidence, rows: Rows) -> float:
    """Return the entropy of the token counts of `rows` together, in bits per token; 0 without any.

    Time O(entries of `rows` + n_kinds).
    """
    return entropy(incidence.take(rows).occurrences)


@dataclass(frozen=True)
class EntropyDial:
    """The range of entropy for one incidence and size; diversities and seeds share it.

    Attributes
    ----------
    incidence : Incidence
        Samples × all token types of the component, with counts.
    size : int
        N.
    rows : int64 array
        Eligible rows: at least `min_tokens` tokens.
    tilt : float64 array, shape (len(rows),)
        Mean surprisal per token under the eligible rows' own distribution, standardised.
    greedy : int64 array, shape (size,)
        Greedy maximisation's picks.
    betas : float64 array
        Grid of β from the least to the greatest entropy that tilting reaches on it.
    low_bits, tilt_bits, high_bits : float
        Entropy at 0 %, the greatest by tilting alone, and at 100 %, in bits per token.
    too_short : int
        Samples with fewer tokens, excluded.
    """

    incidence: Incidence
    size: int
    rows: Rows
    tilt: Floats
    greedy: Rows
    betas: Floats
    low_bits: float
    tilt_bits: float
    high_bits: float
    too_short: int

    @cached_property
    def bound_bits(self) -> float:
        """Entropy that no subset of this size exceeds; see `entropy_bound`."""
        return entropy_bound(self.incidence, self.rows, self.size, self.greedy)

    @cached_property
    def chance(self) -> Chance:
        """Entropy of random eligible samples, in bits per token: a mean of draws."""

        def reached(draw: int) -> float:
            picks = shuffled(self.rows, draw, "chance")[: self.size]
            return entropy_bits(self.incidence, picks)

        return chance_of(reached)

    def percent(self, bits: float) -> float | None:
        """Return where so many bits are on the dial, not clipped; None where it has no range."""
        return percent_of_range(bits, self.low_bits, self.high_bits)


@dataclass(frozen=True)
class EntropySelection:
    """A subset and the entropy it reached.

    Attributes
    ----------
    rows : int64 array, shape (size,)
        Distinct rows of the incidence: greedy picks first, then by falling key.
    dial : EntropyDial
    target_bits, entropy_bits : float
        Asked for and reached, in bits per token.
    beta : float
        Tilt of the sampled part, per standard deviation of the mean surprisal.
    greedy_picks : int
        How many of `rows` the greedy maximisation gave.
    """

    rows: Rows
    dial: EntropyDial
    target_bits: float
    entropy_bits: float
    beta: float
    greedy_picks: int

    @property
    def missed(self) -> bool:
        """Whether the entropy reached is more than half a percent away from the target."""
        return abs(self.entropy_bits - self.target_bits) > TOLERANCE * self.target_bits

    def figures(self) -> dict[str, Any]:
        """Return what a result states of them."""
        dial = self.dial
        return {
            "target_bits": round(self.target_bits, 6),
            "low_bits": round(dial.low_bits, 6),
            "tilt_bits": round(dial.tilt_bits, 6),
            "high_bits": round(dial.high_bits, 6),
            "entropy_bound": float(np.ceil(dial.bound_bits * 1e6) / 1e6),
            **dial.chance.figures("bits", dial.percent(dial.chance.mean), 6),
            "target_missed": self.missed,
            "beta": round(self.beta, 6),
            "greedy_picks": self.greedy_picks,
            "eligible": len(dial.rows),
            "too_short": dial.too_short,
        }


def make_entropy_dial(
    incidence: Incidence, size: int, *, min_tokens: int = MIN_TOKENS
) -> EntropyDial:
    """Find the range of entropy for subsets of `size` samples.

    Parameters
    ----------
    incidence : Incidence
        Samples × all token types of the component (not only a band), with counts.
    size : int
        N, at least 1.
    min_tokens : int
        Samples with fewer tokens are not eligible: a mean over a few tokens says little.

    Raises
    ------
    UsageError
        If `size` or `min_tokens` is below 1.
    DataError
        If fewer than `size` samples have enough tokens.

    Notes
    -----
    0 % is the least entropy on the grid of β, 100 % the greatest that greedy or tilting found: a
    bound on neither side. Cost: see `maximise_entropy`, plus one sample for each β.
    """
    if size < 1 or min_tokens < 1:
        raise UsageError(
            f"select: size is {size:,} and min tokens {min_tokens:,} but both must be at least 1"
        )
    tokens = token_counts(incidence, np.arange(incidence.n_samples))
    rows = np.flatnonzero(tokens >= min_tokens)
    if size > len(rows):
        raise DataError(
            f"select: size is {size:,} but only {len(rows):,} of {len(tokens):,} samples have "
            f"{min_tokens:,} tokens or more; lower the size or the minimum"
        )
    tilt = mean_surprisal(incidence, rows)
    noise = gumbel(incidence.n_samples, REFERENCE_SEED)[rows]
    bits = np.array([entropy_bits(incidence, tilted(rows, tilt, noise, size, b)) for b in BETAS])
    least, most = sorted((int(bits.argmin()), int(bits.argmax())))
    greedy = maximise_entropy(incidence, rows, size)
    return EntropyDial(
        incidence=incidence,
        size=size,
        rows=rows,
        tilt=tilt,
        greedy=greedy,
        betas=BETAS[least : most + 1],
        low_bits=float(bits.min()),
        tilt_bits=float(bits.max()),
        high_bits=max(float(bits.max()), entropy_bits(incidence, greedy)),
        too_short=len(tokens) - len(rows),
    )


def choose_by_entropy(dial: EntropyDial, diversity: float, *, seed: int = 0) -> EntropySelection:
    """Pick the dial's size of samples at `diversity` percent of the range of entropy.

    Up to what tilting reaches, rows are sampled with the key β · mean surprisal + Gumbel noise,
    top N, and β is bisected to the target. Above, the first m greedy picks come first and the
    rest is sampled at the top β; m is bisected.

    Parameters
    ----------
    dial : EntropyDial
    diversity : float
        Percent, 0 to 100.
    seed : int
        Redraws the noise. Greedy picks do not vary, so at 100 % seeds mostly agree.

    Returns
    -------
    EntropySelection
        Its `missed` says whether the target was met within half a percent.

    Raises
    ------
    UsageError
        If `diversity` is not within 0 to 100 or `seed` is negative.

    Notes
    -----
    Bisection needs no monotone function, only a crossing; the closest subset that it saw is
    taken. At most 32 samples of N rows, O(eligible rows + entries of N rows) each.
    """
    check_percent(diversity)
    if seed < 0:
        raise UsageError(f"select: seed is {seed} but must be 0 or more")
    target = dial.low_bits + diversity / 100 * (dial.high_bits - dial.low_bits)
    noise = gumbel(dial.incidence.n_samples, seed)[dial.rows]
    top = float(dial.betas[-1])
    if target <= dial.tilt_bits:
        sample = partial(tilted, dial.rows, dial.tilt, noise, dial.size)
        ends = (float(dial.betas[0]), top)
        rows, bits, beta = _nearest(dial.incidence, sample, *ends, target)
        return EntropySelection(rows, dial, target, bits, beta, greedy_picks=0)
    mix = partial(_greedy_then_tilted, dial, noise, top)
    rows, bits, m = _nearest(dial.incidence, mix, 0.0, float(dial.size), target)
    return EntropySelection(rows, dial, target, bits, top, greedy_picks=round(m))


def _greedy_then_tilted(dial: EntropyDial, noise: Floats, beta: float, m: float) -> Rows:
    """Return the first `m` greedy picks, rounded, and the best keys among the other rows."""
    first = dial.greedy[: round(m)]
    if len(first) == dial.size:
        return first
    others = ~np.isin(dial.rows, first)
    rest = dial.size - len(first)
    return np.concatenate(
        [first, tilted(dial.rows[others], dial.tilt[others], noise[others], rest, beta)]
    )


def _nearest(
    incidence: Incidence, make: Callable[[float], Rows], low: float, high: float, target: float
) -> tuple[Rows, float, float]:
    """Bisect between `low` and `high` for `make(x)` of entropy `target`.

    Returns
    -------
    rows, bits, x
        Of the subset nearest to the target among those seen, both ends included.
    """
    best: tuple[float, Rows, float, float] | None = None
    tries = [low, high]
    for _ in range(2 + HALVINGS):
        x = tries.pop() if tries else (low + high) / 2
        rows = make(x)
        bits = entropy_bits(incidence, rows)
        miss = abs(bits - target)
        if best is None or miss < best[0]:
            best = (miss, rows, bits, x)
        if miss <= CLOSE * target:
            break
        if low < x < high:
            low, high = (x, high) if bits < target else (low, x)
    assert best is not None
    return best[1:]


def mean_surprisal(incidence: Incidence, rows: Rows) -> Floats:
    """Return the mean of -log₂ p per token of each row, standardised.

    p is the share of the token among all tokens of `rows`, each of which has at least one. Shape
    (m,); all 0 where there is no spread.
    """
    part = incidence.take(rows)
    amounts = part.occurrences
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
