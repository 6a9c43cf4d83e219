"""The figures in plain sentences that never say more than the figures do."""

from __future__ import annotations

from collections.abc import Sequence

from sft_diversity.core.cells import BASELINES, RANDOM
from sft_diversity.fitting.claims import CORRECTIONS
from sft_diversity.fitting.headline import (
    Row,
    are,
    ends,
    headlines,
    names_of,
    over_dial,
    p_value,
    percent_of,
    place_name,
    place_of,
    places_of,
    share,
    side,
    signed,
)

_FEW_DF = 2


def verdict_sentences(result: Row) -> list[str]:
    """Return the sentences: each regime and size opens with its headline, regime B's first.

    A sentence claims what `judge_claims` lets it claim; the rest are figures without a claim.
    """
    slopes: Sequence[Row] = result["slopes"]
    said = [] if slopes else ["No strategy has levels of diversity: there is no slope to fit."]
    for at, opening in zip(places_of(result), headlines(result), strict=True):
        here = [row for row in slopes if place_of(row) == at]
        parts = [
            *_slopes(here, CORRECTIONS[result["correction"]]),
            *(f"{said}." for said in ends(here, percent_of(result)) if _some_pays(here)),
            *_shapes(here),
            *_best(here),
            *_few(here),
            *_against([row for row in result["baselines"] if place_of(row) == at]),
            *(_noise(row) for row in result["training_noise"] if place_of(row) == at),
        ]
        said += [opening, *(f"{place_name(*at)}: {text}" for text in parts)]
    for regime in sorted(
        {row["regime"] or "" for row in result["metrics"]}, key=lambda r: r != "B"
    ):
        rows = [row for row in result["metrics"] if (row["regime"] or "") == regime]
        said += _metrics(rows, f"in regime {regime}" if regime else "")
    return said + _regimes({row["regime"] for row in slopes})


def _some_pays(here: Sequence[Row]) -> bool:
    """Whether a slope opens the headline; where none does, the ends of the dial stand there."""
    return any(row["slope"] is not None and row["claimed"] and row["slope"] > 0 for row in here)


def _slopes(here: Sequence[Row], correction: str) -> list[str]:
    """Say what is not known of the slopes; those that are claimed stand in the headline."""
    said, open_ = [], []
    for row in here:
        name = row["strategy"]
        if row["slope"] is None:
            said.append(f"{name} has one level of diversity, so no slope.")
        elif len({point["mean"] for point in row["points"]}) == 1 and row["ci_low"] is None:
            said.append(f"{name}: all levels have the same score; there is nothing to fit.")
        elif row["ci_low"] is None:
            said.append(f"{name}: too few draws for an interval; its slope says nothing yet.")
        elif not row["claimed"]:
            open_.append(row)
    if open_:
        low = min(0.0, *(over_dial(row, row["ci_low"]) for row in open_))
        high = max(0.0, *(over_dial(row, row["ci_high"]) for row in open_))
        which = "no slope" if len(open_) == len(here) else f"no slope of {names_of(open_, 'or')}"
        said.append(
            f"{which} is distinguishable from 0 after {correction}'s correction; changes from "
            f"{signed(low)} to {signed(high)} over the dial are not ruled out."
        )
    return said


def _shapes(here: Sequence[Row]) -> list[str]:
    """Say where the levels are no line, and where a line ends at another level than the best."""
    said = [
        f"{row['strategy']} departs from a line ({row['curvature']['test']}, corrected p "
        f"{p_value(row['curvature']['p_adjusted'])}): read its levels, not its slope."
        for row in here
        if row["curvature"] and row["curvature"]["claimed"]
    ]
    for row in here:
        if row["slope"] is not None and row["claimed"]:
            end = row["levels"][-1] if row["slope"] > 0 else row["levels"][0]
            if row["best_level"] != end:
                said.append(
                    f"the line of {row['strategy']} points to {end:g} %, but the best level "
                    f"measured is {row['best_level']:g} %."
                )
    return said


def _best(here: Sequence[Row]) -> list[str]:
    """Say which level of each strategy is best, and how often resamples agree."""
    clear: list[str] = []
    unsettled: list[str] = []
    unknown: list[str] = []
    for row in here:
        shares, margin = row["best_level_share"], row["best_margin"]
        if row["best_level"] is None:
            continue
        name = f"{row['strategy']} {row['best_level']:g} %"
        if margin and margin["claimed"]:
            clear.append(
                f"{name} ({signed(margin['difference'])} above {margin['other']:g} %, corrected "
                f"p {p_value(margin['p_adjusted'])})"
            )
        elif shares:
            first = sorted(shares, key=lambda at: -shares[at])[:2]
            rank = [f"{at} % in {share(shares[at])}" for at in first if shares[at] >= 0.005]
            unsettled.append(f"{row['strategy']} ({', '.join(rank)} of resamples)")
        else:
            unknown.append(name)
    said = [f"the best level is clear for {'; '.join(clear)}."] if clear else []
    if unsettled:
        said.append(f"which level is best is not settled for {'; '.join(unsettled)}.")
    if unknown:
        said.append(
            f"the best levels measured are {', '.join(unknown)}; as no draws of a level "
            "differ, how sure that is is not known."
        )
    return said


def _few(here: Sequence[Row]) -> list[str]:
    """Warn of what few levels or draws leave unseen."""
    said = []
    fitted = [row for row in here if row["slope"] is not None]
    scarce = sorted({row["t_df"] for row in fitted if 0 < row["t_df"] <= _FEW_DF})
    if scarce:
        degrees = " or ".join(f"{df:.2g}" for df in scarce)
        said.append(
            f"few points: the t interval has {degrees} degree{'s' * (scarce != [1])} of freedom "
            "and is wide; a slope must be steep against the noise to be seen."
        )
    single = [row for row in fitted if any(point["draws"] < 2 for point in row["points"])]
    if single:
        said.append(f"{names_of(single)}: some level has one draw, whose spread is not known.")
    return said


def _against(baselines: Sequence[Row]) -> list[str]:
    """Say for every baseline which strategies are above it, below it, or neither."""
    hows = {
        "highest": ", at the highest level",
        "best": ", at the best level (corrected for choosing it)",
        "only": "",
    }
    asked = [(RANDOM, chosen) for chosen in hows]
    asked += [(name, "highest") for name in BASELINES if name != RANDOM]
    said = []
    for baseline, chosen in asked:
        rows = [r for r in baselines if (r["baseline"], r["chosen"]) == (baseline, chosen)]
        if rows:
            said.append(f"{_sides(rows, baseline)}{hows[chosen]}.")
    return said


def _sides(rows: Sequence[Row], baseline: str) -> str:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["p"] is None:
            how = f"compared with {baseline} without an interval"
        elif row["claimed"]:
            how = f"{side(row['difference'])} {baseline}"
        else:
            how = f"not distinguishable from {baseline}"
        groups.setdefault(how, []).append(row)
    said = []
    for how, own in sorted(groups.items()):
        names = ", ".join(f"{row['strategy']} ({signed(row['difference'])})" for row in own)
        said.append(f"{names} {are(own)} {how}")
    return "; ".join(said)


def _metrics(rows: Sequence[Row], where: str) -> list[str]:
    said = []
    for pooled in (False, True):
        tested = [r for r in rows if (r["strategy"] == "pooled") == pooled and r["p"] is not None]
        if not tested:
            continue
        kept = [row for row in tested if row["claimed"]]
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
