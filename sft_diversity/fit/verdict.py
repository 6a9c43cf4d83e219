"""The figures in plain sentences that never say more than the figures do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sft_diversity.fit.gaps import place_name

Row = Mapping[str, Any]
_NAMES = {"holm": "Holm", "bh": "Benjamini–Hochberg"}
_FEW_DF = 2


def verdict(result: Row) -> list[str]:
    """Return the sentences, regime B first: it holds length, so that verdicts rest on it.

    A slope is called distinguishable from 0 where the shown interval excludes 0 and the corrected
    p-value is below what the confidence leaves.
    """
    slopes: Sequence[Row] = result["slopes"]
    alpha = 1 - result["confidence"]
    said = [] if slopes else ["No strategy has levels of diversity: there is no slope to fit."]
    for place in sorted({_place(row) for row in slopes}, key=_b_first):
        here = [row for row in slopes if _place(row) == place]
        n_slopes = sum(r["p"] is not None and (r["regime"] or "") == place[0] for r in slopes)
        parts = [
            *_slopes(here, alpha, n_slopes, _NAMES[result["correction"]]),
            *_shapes(here, alpha),
            *_best(here, alpha),
            *_few(here),
            *_against([row for row in result["baselines"] if _place(row) == place], alpha),
            *(_noise(row) for row in result["training_noise"] if _place(row) == place),
        ]
        said += [f"{place_name(*place)}: {text}" for text in parts]
    for regime in sorted(
        {row["regime"] or "" for row in result["metrics"]}, key=lambda r: r != "B"
    ):
        rows = [row for row in result["metrics"] if (row["regime"] or "") == regime]
        said += _metrics(rows, f"in regime {regime}" if regime else "", alpha)
    return said + _regimes({row["regime"] for row in slopes})


def found(row: Row, alpha: float) -> bool:
    """Whether a slope is distinguishable from 0."""
    return _apart(row["ci_low"], row["ci_high"]) and _below(row["p_adjusted"], alpha)


def _slopes(here: Sequence[Row], alpha: float, n_slopes: int, correction: str) -> list[str]:
    said, hints, open_ = [], [], []
    for row in here:
        name = row["strategy"]
        if row["slope"] is None:
            said.append(f"{name} has one level of diversity, so no slope.")
        elif len({point["mean"] for point in row["points"]}) == 1 and row["ci_low"] is None:
            said.append(f"{name}: all levels have the same score; there is nothing to fit.")
        elif row["ci_low"] is None:
            said.append(f"{name}: too few draws for an interval; its slope says nothing yet.")
        elif found(row, alpha):
            said.append(_found(row))
        elif _apart(row["ci_low"], row["ci_high"]):
            hints.append(row)
        else:
            open_.append(row)
    if hints:
        why = (
            f"but not after {correction}'s correction for {n_slopes} slopes"
            if any(_below(row["p"], alpha) for row in hints)
            else "but the t test does not"
        )
        said.append(f"the interval of {_list(hints)} excludes 0, {why}: a hint, not a finding.")
    if open_:
        low = min(_over_dial(row, row["ci_low"]) for row in open_)
        high = max(_over_dial(row, row["ci_high"]) for row in open_)
        which = "no slope" if len(open_) == len(here) else f"no slope of {_list(open_, 'or')}"
        said.append(
            f"{which} is distinguishable from 0; changes from {_signed(low)} to {_signed(high)} "
            "over the dial are not ruled out."
        )
    return said


def _found(row: Row) -> str:
    way = "rises" if row["slope"] > 0 else "falls"
    ends = [_signed(_over_dial(row, row[name])) for name in ("slope", "ci_low", "ci_high")]
    return (
        f"the score {way} with the diversity of {row['strategy']}, by {ends[0]} from "
        f"{row['levels'][0]:g} to {row['levels'][-1]:g} % (interval {ends[1]} to {ends[2]}, "
        f"corrected p {_p(row['p_adjusted'])})."
    )


def _shapes(here: Sequence[Row], alpha: float) -> list[str]:
    """Say where the levels are no line, and where a line ends at another level than the best."""
    said = [
        f"{row['strategy']} departs from a line ({row['curvature']['test']}, corrected p "
        f"{_p(row['curvature']['p_adjusted'])}): read its levels, not its slope."
        for row in here
        if row["curvature"] and _below(row["curvature"]["p_adjusted"], alpha)
    ]
    for row in here:
        if row["slope"] is not None and _apart(row["ci_low"], row["ci_high"]):
            end = row["levels"][-1] if row["slope"] > 0 else row["levels"][0]
            if row["best_level"] != end:
                said.append(
                    f"the line of {row['strategy']} points to {end:g} %, but the best level "
                    f"measured is {row['best_level']:g} %."
                )
    return said


def _best(here: Sequence[Row], alpha: float) -> list[str]:
    """Say which level of each strategy is best, and how often resamples agree."""
    settled: list[str] = []
    unsettled: list[str] = []
    unknown: list[str] = []
    for row in here:
        shares = row["best_level_share"]
        if row["best_level"] is None:
            continue
        if shares is None:
            unknown.append(f"{row['strategy']} {row['best_level']:g} %")
            continue
        first = sorted(shares, key=lambda at: -shares[at])[:2]
        rank = ", ".join(f"{at} % in {_share(shares[at])}" for at in first if shares[at] >= 0.005)
        named = f"{row['strategy']} ({rank} of resamples)"
        (settled if shares[first[0]] >= 1 - alpha else unsettled).append(named)
    said = [f"the best level is clear for {'; '.join(settled)}."] if settled else []
    if unsettled:
        said.append(f"which level is best is not settled for {'; '.join(unsettled)}.")
    if unknown:
        said.append(
            f"the best levels measured are {', '.join(unknown)}; with one draw a level, how sure "
            "that is is not known."
        )
    return said


def _few(here: Sequence[Row]) -> list[str]:
    """Warn of what few levels or draws leave unseen."""
    said = []
    fitted = [row for row in here if row["slope"] is not None]
    scarce = sorted({row["t_df"] for row in fitted if 1 <= row["t_df"] <= _FEW_DF})
    if scarce:
        degrees = " or ".join(str(df) for df in scarce)
        said.append(
            f"few points: the t interval has {degrees} degree{'s' * (scarce != [1])} of freedom "
            "and is wide; a slope must be steep against the noise to be seen."
        )
    single = [row for row in fitted if any(point["draws"] < 2 for point in row["points"])]
    if single:
        said.append(f"{_list(single)}: some level has one draw, whose spread is not known.")
    return said


def _against(baselines: Sequence[Row], alpha: float) -> list[str]:
    """Say for every baseline which strategies are above it, below it, or neither."""
    hows = {
        "highest": "at the highest level",
        "best": "at the best level, corrected for choosing it",
        "only": "strategies without a dial",
    }
    asked = [("random", chosen) for chosen in hows]
    asked += [(name, "highest") for name in ("random-eligible", "longest", "base")]
    said = []
    for baseline, chosen in asked:
        rows = [r for r in baselines if (r["baseline"], r["chosen"]) == (baseline, chosen)]
        if rows:
            said.append(f"against {baseline}, {hows[chosen]}: {_sides(rows, alpha)}.")
    return said


def _sides(rows: Sequence[Row], alpha: float) -> str:
    sides: dict[str, list[str]] = {
        "above": [],
        "below": [],
        "not distinguishable": [],
        "no interval": [],
    }
    for row in rows:
        named = f"{row['strategy']} ({_signed(row['difference'])})"
        if row["low"] is None:
            sides["no interval"].append(named)
        elif _apart(row["low"], row["high"]) and _below(row["p_adjusted"], alpha):
            sides["above" if row["difference"] > 0 else "below"].append(named)
        else:
            sides["not distinguishable"].append(named)
    return "; ".join(f"{side} {', '.join(names)}" for side, names in sides.items() if names)


def _metrics(rows: Sequence[Row], where: str, alpha: float) -> list[str]:
    said = []
    for pooled in (False, True):
        tested = [r for r in rows if (r["strategy"] == "pooled") == pooled and r["p"] is not None]
        if not tested:
            continue
        kept = [row for row in tested if _below(row["p_adjusted"], alpha)]
        how = "pooled, strategy as fixed effect" if pooled else "within a strategy"
        strongest = sorted(kept, key=lambda row: -abs(row["r"]))[:3]
        names = ", ".join(
            f"{row['metric']}{'' if pooled else ' of ' + row['strategy']} ({row['r']:+.2f})"
            for row in strongest
        )
        said.append(
            f"Metrics and score{' ' * bool(where)}{where}, {how}: {len(kept):,} of "
            f"{len(tested):,} correlations survive the correction"
            f"{': strongest ' + names if kept else ''}."
        )
    if said:
        said.append(
            "A metric that follows the dial goes with the score as the dial does: no cause."
        )
    return said


def _noise(row: Row) -> str:
    between = (
        f"; draws of a level differ by {row['draw_sd']:.3g}" if row["draw_sd"] is not None else ""
    )
    return (
        f"training seeds alone spread the score by a standard deviation of {row['sd']:.3g} "
        f"(interval {row['low']:.3g} to {row['high']:.3g}; {row['runs']} runs of {row['draws']} "
        f"draw{'s' * (row['draws'] != 1)}){between}."
    )


def _regimes(regimes: set[str | None]) -> list[str]:
    if "A" not in regimes:
        return []
    rest = "verdicts rest on B." if "B" in regimes else "run regime B before believing it."
    return [f"Regime A does not hold length, so its differences may be those of length: {rest}"]


def _place(row: Row) -> tuple[str, int]:
    return row["regime"] or "", row["size"]


def _b_first(place: tuple[str, int]) -> tuple[bool, str, int]:
    return place[0] != "B", *place


def _over_dial(row: Row, slope: float) -> float:
    return slope * float(row["levels"][-1] - row["levels"][0])


def _apart(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)


def _below(p: float | None, alpha: float) -> bool:
    return p is not None and p < alpha


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _share(share: float) -> str:
    return "over 99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


def _list(rows: Iterable[Row], last: str = "and") -> str:
    names = [str(row["strategy"]) for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
