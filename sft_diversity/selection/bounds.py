"""The marks beside a subset: what no N samples can reach, and what random ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, lgamma
from typing import Any

import numpy as np

from sft_diversity.core.kernels import NO_ROWS, Floats, Ints, Rows
from sft_diversity.selection.finish import exchange, filled, partners
from sft_diversity.selection.greedy import cover
from sft_diversity.selection.pick_state import row_sums
from sft_diversity.selection.problem import NO_CAP, Problem, shuffled

ROUNDS = 60
PATIENCE = 5  # rounds without a better bound before steps are halved
DRAWS = 100


def coverage_bound(problem: Problem) -> int:
    """Return a number of kinds that no `size` rows exceed.

    Quotas hold and the rows kept are among them; cap and total play no part, so the bound holds
    with them too.

    Returns
    -------
    int
        The number of all kinds of the candidates and the rows kept if a greedy cover reaches them.

    Notes
    -----
    For any prices 0 <= λ_j <= 1, Σ_j (1 - λ_j) + the `size` largest row sums Σ_j λ_j (those of
    the rows kept, then the largest of each part) is a bound: each kind held is worth either what
    its price leaves or the prices of a row that holds it. With price 1 for the kinds that the
    greedy cover S leaves out and 0 for the others this is the common f(S) + the N best remaining
    gains. From there the prices go down (`priced_down`), which on the reference corpus closes most
    of the gap. Time O(`ROUNDS` · (nnz of the rows + n_kinds)).
    """
    problem = replace(problem, limits=replace(problem.limits, cap=NO_CAP))
    held = problem.held(cover(problem)) > 0
    kinds = problem.held(np.concatenate([problem.rows, problem.limits.kept])) > 0
    covered, total = int(np.count_nonzero(held)), int(np.count_nonzero(kinds))
    if covered == total:
        return total

    def priced(prices: Floats) -> tuple[float, Floats]:
        best, worth = most_worth(problem, prices)
        slope = np.where(kinds, problem.held(best) - 1.0, 0.0)
        return float((1.0 - prices[kinds]).sum()) + worth, slope

    def allowed(prices: Floats) -> Floats:
        return np.where(kinds, np.clip(prices, 0.0, 1.0), 0.0)

    start = (kinds & ~held).astype(np.float64)
    bound = priced_down(priced, allowed, start, covered, enough=covered + 1)
    return min(total, int(bound + 1e-6))


def balance_bound(problem: Problem, held: Ints) -> float:
    """Return what Σ_j log(1 + c_j) of no `size` rows exceeds; limits as for `coverage_bound`.

    Parameters
    ----------
    held : int64 array, shape (n_kinds,)
        c_j of a set of picks, the better the tighter the bound.

    Notes
    -----
    log(1 + c) is concave and lies below its tangent at `held`; the tangents' sum is greatest for
    the rows with the greatest sum of slopes 1 / (1 + c_j). O(nnz of the rows).
    """
    slopes: Floats = np.reciprocal(1.0 + held, dtype=np.float64)
    return float(np.log1p(held).sum() - (slopes * held).sum()) + most_worth(problem, slopes)[1]


def fewest_kinds(problem: Problem, degrees: Ints) -> int:
    """Return a number of kinds that `size` rows cannot do with less than.

    Parameters
    ----------
    degrees : int64 array, shape (n_kinds,)
        Samples that hold each kind.

    Notes
    -----
    The kinds of N samples are at least as many as the widest of them holds, and the samples that
    hold each add up to what the N hold together.
    """
    kept = problem.limits.kept
    known = problem.kinds(kept)
    held = np.sort(problem.widths(problem.rows))[: problem.size - len(kept)]
    if len(held) == 0:
        return known
    reach = np.cumsum(np.sort(degrees)[::-1])
    return max(known, int(held[-1]), int(np.searchsorted(reach, held.sum())) + 1)


def most_worth(problem: Problem, prices: Floats) -> tuple[Rows, float]:
    """Return the rows kept and those that make `size` with the greatest sum of prices, and the sum.

    A row is worth the prices of the kinds it holds; quotas hold. O(nnz of the rows), and m log m
    under quotas.
    """
    kept, rows = problem.limits.kept, problem.rows
    worth = row_sums(*problem.by_row, rows, prices)
    number = problem.size - len(kept)
    if problem.limits.quotas is not None:
        top = problem.least_of_parts(-worth)
    else:
        top = np.argpartition(-worth, number - 1)[:number] if number else NO_ROWS
    given = row_sums(*problem.by_row, kept, prices)
    return np.concatenate([kept, rows[top]]), float(worth[top].sum() + given.sum())


def priced_down(
    priced: Callable[[Floats], tuple[float, Floats]],
    allowed: Callable[[Floats], Floats],
    prices: Floats,
    value: float,
    enough: float,
    rounds: int = ROUNDS,
) -> float:
    """Return the least bound met on `rounds` subgradient steps down from `prices`.

    Parameters
    ----------
    priced : callable
        From prices to the bound that they give and its subgradient.
    allowed : callable
        From any prices to the nearest that give a bound.
    prices : float64 array
    value : float
        What a known solution reaches; no bound is below it.
    enough : float
        Stop where the bound is below this.

    Notes
    -----
    Lagrangian relaxation (Fisher 1981, doi:10.1287/mnsc.27.1.1), step sizes after Polyak: the gap
    to `value` over the squared slope, times a factor that is halved after `PATIENCE` rounds without
    a better bound. Any prices give a bound, so only how tight it is depends on the steps.
    """
    best, scale, idle = np.inf, 2.0, 0
    for _ in range(rounds):
        bound, slope = priced(prices)
        idle = 0 if bound < best - 1e-9 else idle + 1
        best = min(best, bound)
        if idle == PATIENCE:
            scale, idle = scale / 2, 0
        if best < enough or not slope.any():
            break
        prices = allowed(prices - scale * (bound - value) / float(slope @ slope) * slope)
    return best


@dataclass(frozen=True)
class Chance:
    """What a random subset reaches.

    Attributes
    ----------
    mean : float
        Kinds, or bits: an expectation, or the mean of `DRAWS` draws.
    sd : float or None
        Standard deviation of the draws; None where the mean is exact.
    """

    mean: float
    sd: float | None = None

    def figures(self, unit: str, percent: float | None, digits: int) -> dict[str, Any]:
        """Return what a result states of it, `percent` being where it is on the dial."""
        return {
            f"random_{unit}": round(self.mean, digits),
            "random_sd": None if self.sd is None else round(self.sd, digits),
            "random_percent": None if percent is None else round(percent, 1),
        }


def chance_kinds(problem: Problem) -> Chance:
    """Return the kinds that `size` random candidates within the limits hold, with those kept.

    Notes
    -----
    Exact without cap and total: of n samples, N of them drawn, a kind that d of them hold is held
    with probability 1 - C(n - d, N) / C(n, N); under quotas one minus the product of that ratio
    over the parts; kinds of the rows kept are held. O(nnz + parts · kinds). Otherwise `DRAWS`
    random orders are filled up within the limits, as the random baseline is, O(`DRAWS` · nnz).
    """
    if problem.limits.cap != NO_CAP or problem.limits.total is not None:
        return _chance_within(problem)
    none = (problem.held(problem.limits.kept) == 0).astype(np.float64)
    group, room = problem.parts()
    for part, number in enumerate(room.tolist()):
        if number > 0:
            rows = problem.rows[group == part]
            none *= _none_of(problem.held(rows), len(rows), number)
    return Chance(float((1.0 - none).sum()))


def chance_of(reached: Callable[[int], float]) -> Chance:
    """Return mean and standard deviation of what `DRAWS` draws, by their number, reach."""
    values = [reached(draw) for draw in range(DRAWS)]
    return Chance(float(np.mean(values)), float(np.std(values, ddof=1)))


def _chance_within(problem: Problem) -> Chance:
    among = None if problem.limits.total is None else partners(problem)

    def reached(draw: int) -> float:
        picks = filled(problem.over(shuffled(problem.rows, draw, "chance")))
        if among is not None:
            picks = exchange(problem, picks, draw, lossless=False, among=among)
        return problem.kinds(picks)

    return chance_of(reached)


def _none_of(degrees: Ints, n: int, number: int) -> Floats:
    """Return C(n - d, N) / C(n, N) for each degree d: no holder is among N of n samples."""

    def log_ratio(degree: int) -> float:
        if n - degree < number:
            return -inf
        return (
            lgamma(n - degree + 1) - lgamma(n - degree - number + 1)
            - lgamma(n + 1) + lgamma(n - number + 1)
        )  # fmt: skip

    values, of_kind = np.unique(degrees, return_inverse=True)
    ratios: Floats = np.exp([log_ratio(degree) for degree in values.tolist()])
    return ratios[of_kind]
