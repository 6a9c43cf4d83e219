"""How many samples, which strategy, when to stop: from scores at some sizes, by `growth`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_diversity.core.cells import BASE, BASELINES, RANDOM, RANDOM_COMMON
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.fitting.config import AdviseConfig
from sft_diversity.fitting.growth import Cells, Growth, Mixture, learnt, posterior
from sft_diversity.fitting.reading import label, need, numeric, score_kind

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]
#: Columns that part a table into groups, each with curves of its own, and groups into series.
GROUPS, SERIES = ("pool", "model", "task"), ("regime", "strategy", "diversity")
_RUN = ("seed", "train_seed", "draw")
#: Columns of a study's figures of its subsets: there `pool` is how many samples the dial left.
_OF_A_STUDY = {"pool", "kinds", "random_percent"}
_INTERVALS = {"low_50": 0.25, "high_50": 0.75, "low_80": 0.1, "high_80": 0.9}
_MIRROR = {"low_50": "high_50", "high_50": "low_50", "low_80": "high_80", "high_80": "low_80"}
_OF_OTHER = (0.25, 0.5, 1.0, 2.0, 4.0)  # what a point may be, where scores have no known scale
_BLOCK = 64  # cells whose series are looked at together
_STEPS = 12  # doublings that are looked at
_CHECKED = 10  # times the largest size to which predictions were checked on public runs


@dataclass(eq=False)
class Series:
    """Scores of one strategy, by size; the sign is turned where lower is better.

    `is_random`: it is the baseline that the others are held against.
    """

    names: Row
    scores: dict[int, list[float]] = field(default_factory=dict)
    is_random: bool = False

    @property
    def strategy(self) -> str:
        """Its name, in small letters; empty where the table has none."""
        return str(self.names.get("strategy", "")).lower()

    @property
    def last(self) -> int:
        """The largest size that has a score."""
        return max(self.scores)

    def asked(self, at: Sequence[int]) -> list[int]:
        """Return the sizes to look at: the last, its doublings as far as asked, and `at`."""
        end = max(*at, 2 * self.last)
        steps = [self.last * 2**i for i in range(_STEPS + 1)]
        return sorted({*at, *(size for size in steps if size <= end)})


@dataclass(frozen=True)
class Scale:
    """What stands for a point of a benchmark, in units of the score, and within which bounds."""

    name: str
    point: float
    factors: tuple[float, ...] = (1.0,)
    low: float = -math.inf
    high: float = math.inf


def advise_table(frame: pl.DataFrame, config: AdviseConfig) -> dict[str, Any]:
    """Advise on a table of runs.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns `size` and the score, one row a run; maybe `seed`, `train_seed`, `draw`, and what
        parts it: `pool, model, task` into groups, `regime, strategy, diversity` into series. Other
        columns are not read.
    config : AdviseConfig

    Returns
    -------
    dict
        `predictions`: a row a series and size asked for, `mean` and intervals of the mean of as
        many runs as cells have, and `beats_random`, the probability that its score is above that of
        random at that size; `doublings`: a row a series and doubling from its largest size on,
        `gain` with its interval and `pays`, the probability of at least `delta`, by what was
        measured or predicted before it; `advice`: a row a series, `next_size` a number or "stop";
        `measured`: means by series and size. A gain is an improvement, also where lower is better.
        What cannot be said is None.

    Raises
    ------
    DataError
        If a column is missing, a cell is no number, a run is there twice with different scores, or
        no group has scores at two sizes.
    UsageError
        If a size that is asked for is below those measured.
    """
    sign = -1.0 if config.lower_is_better else 1.0
    groups, account = _groups(frame, config, sign)
    scale = _scale(groups, config, sign)
    at = config.at or (4 * max(one.last for group in groups for one in group),)
    _check_sizes(groups, at)
    result: dict[str, Any] = {
        "predictions": [],
        "doublings": [],
        "advice": [],
        "measured": [],
        "score": config.score,
        "score_kind": score_kind(frame, config),
        "scale": scale.name,
        "delta": config.delta or scale.point,
        "price": config.price,
        "worth": config.worth,
        "lower_is_better": config.lower_is_better,
        "at": list(at),
        **account,
    }
    blocks = [block for group in groups for block in _blocks(group)]
    told: set[Series] = set()
    for block, known in zip(blocks, _known(blocks, at, scale), strict=True):
        for which, one in enumerate(block):
            if one not in told:
                told.add(one)
                _add(result, block, which, known, config, scale)
    result["notes"] += _far(groups, at)
    return result


def _check_sizes(groups: Sequence[Sequence[Series]], at: Sequence[int]) -> None:
    for group in groups:
        first = min(size for one in group for size in one.scores)
        if at[0] < first:
            raise UsageError(
                f"fit: size {at[0]:,} is below the smallest one measured"
                f"{_of(group[0].names)}, {first:,}; ask for larger ones"
            )


def _far(groups: Sequence[Sequence[Series]], at: Sequence[int]) -> list[str]:
    last = min(one.last for group in groups for one in group)
    if at[-1] <= _CHECKED * last:
        return []
    return [
        f"{at[-1]:,} is {at[-1] / last:,.0f} times the largest size measured ({last:,}); on public "
        f"runs predictions were checked up to {_CHECKED} times."
    ]


# ---- reading


def _groups(
    frame: pl.DataFrame, config: AdviseConfig, sign: float
) -> tuple[list[list[Series]], Row]:
    """Return the series of each group that has two sizes, and what became of the rows."""
    need(frame, ["size", config.score], "the table")
    if not frame.height:
        raise DataError("fit: the table has a header but no rows; it needs one row a run")
    named = [name for name in (*GROUPS, *SERIES) if name in frame.columns]
    if _OF_A_STUDY.issubset(frame.columns):
        named.remove("pool")
    of_run = [name for name in _RUN if name in frame.columns]
    found: dict[tuple[Any, ...], dict[tuple[Any, ...], Series]] = {}
    seen: dict[tuple[Any, ...], tuple[float, int]] = {}
    trained: dict[Series, dict[tuple[Any, ...], list[float]]] = {}
    left_out = {"base": 0, "no_score": 0, "repeated": 0}
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        names = {name: label(row[name]) for name in named}
        score = numeric(row[config.score], config.score, number)
        size = numeric(row["size"], "size", number)
        if names.get("strategy") == BASE or size == 0:
            left_out["base"] += 1
            continue
        if score is None or not math.isfinite(score):
            left_out["no_score"] += 1
            continue
        if size is None or not 1 <= size <= 1e9 or size % 1:
            raise DataError(
                f"fit: row {number:,}: size is {row['size']!r}; it is the number of samples"
            )
        key = tuple(names.values())
        run = (*key, int(size), *(label(row[name]) for name in of_run))
        if of_run and run in seen:
            if seen[run][0] != score:
                raise DataError(
                    f"fit: rows {seen[run][1]:,} and {number:,} are the same run "
                    f"({', '.join([*filter(None, names.values()), f'size {int(size):,}'])}) with "
                    "different scores; give each its own `seed`, or name the column that tells "
                    f"them apart one of {', '.join((*GROUPS, *SERIES))}"
                )
            left_out["repeated"] += 1
            continue
        seen[run] = (score, number)
        group = found.setdefault(tuple(names.get(name, "") for name in GROUPS), {})
        series = group.setdefault(key, Series(_values(names)))
        # Subsets that count as one draw, trained alike, are one run.
        draw = label(row.get("draw")) or label(row.get("seed"))
        alike = (int(size), draw, label(row.get("train_seed"))) if of_run else (int(size), number)
        runs = trained.setdefault(series, {}).setdefault(alike, [])
        left_out["repeated"] += bool(runs)
        runs.append(sign * score)
    for series, by_run in trained.items():
        for (samples, *_), scores in by_run.items():
            series.scores.setdefault(samples, []).append(fmean(scores))
    groups = [list(group.values()) for _, group in sorted(found.items())]
    for several in groups:
        _mark_random(several)
    kept = [group for group in groups if len({n for one in group for n in one.scores}) > 1]
    if not kept:
        raise DataError(_one_size(groups))
    notes = [
        f"Scores at one size{_of(group[0].names)}, {group[0].last:,}: nothing is said of it."
        for group in groups
        if group not in kept
    ]
    used = sum(len(runs) for group in kept for one in group for runs in one.scores.values())
    rows = {"in": frame.height, "used": used, **left_out}
    rows["one_size"] = frame.height - used - sum(left_out.values())
    return kept, {"rows": rows, "notes": notes}


def _mark_random(group: Sequence[Series]) -> None:
    """Say which series are the baseline: random, else random of what all strategies may pick."""
    names = {one.strategy for one in group}
    for one in group:
        one.is_random = one.strategy == (RANDOM if RANDOM in names else RANDOM_COMMON)


def _one_size(groups: Sequence[Sequence[Series]]) -> str:
    sizes = sorted({size for group in groups for one in group for size in one.scores})
    if not sizes:
        return "fit: no row has a score; advice needs scores at two or more sizes"
    where = f"all scores are at one size, {sizes[0]:,}" if len(sizes) == 1 else "no group has two"
    return f"fit: {where}; advice needs scores at two or more sizes of a model and task"


def _values(names: Mapping[str, str]) -> Row:
    """Return names as JSON has them: a level of diversity as a number, nothing as None."""
    values: Row = {name: text or None for name, text in names.items()}
    if values.get("diversity") and values.get("strategy") not in BASELINES:
        values["diversity"] = numeric(values["diversity"], "diversity", 0)
    return values


def _of(names: Mapping[str, Any]) -> str:
    said = [str(names[name]) for name in GROUPS if names.get(name)]
    return f" of {', '.join(said)}" if said else ""


def _scale(groups: Sequence[Sequence[Series]], config: AdviseConfig, sign: float) -> Scale:
    """Return the scale of the scores: as given, or as their range and sign tell."""
    scores = np.array(
        [s for group in groups for one in group for r in one.scores.values() for s in r]
    )
    low, high = sorted((float(sign * scores.min()), float(sign * scores.max())))
    name = config.scale
    if name == "auto":
        name = "other"
        if low >= 0 and high <= 100 and not config.lower_is_better:
            name = "share" if high <= 1 else "points"
    if name == "other":
        spread = float(np.median([_cells(group).mean.std() for group in groups]))
        if spread == 0:
            raise DataError(
                "fit: the scores do not differ, so how large a point is cannot be told; name their "
                "scale with --scale share or points"
            )
        return Scale(name, spread / learnt()["spread"], _OF_OTHER)
    end = 1.0 if name == "share" else 100.0
    if low < 0 or high > end:
        raise UsageError(
            f"fit: scores go from {low:g} to {high:g}, which is no scale of {name}, 0 to {end:g}; "
            "name another with --scale"
        )
    ends = sorted((0.0, sign * end))
    return Scale(name, end / 100, (1.0,), *ends)


# ---- predicting


def _cells(block: Sequence[Series]) -> Cells:
    rows = [
        (
            number,
            float(size),
            math.fsum(runs) / len(runs),
            len(runs),
            float(np.var(runs)) * len(runs),
        )
        for number, one in enumerate(block)
        for size, runs in sorted(one.scores.items())
    ]
    number, size, mean, runs, within = zip(*rows, strict=True)
    return Cells(np.array(number), np.array(size), np.array(mean), np.array(runs), sum(within))


def _blocks(group: Sequence[Series]) -> list[list[Series]]:
    """Return the series of a group in blocks of so many cells, random in each of them."""
    room = _BLOCK - sum(len(one.scores) for one in group if one.is_random)
    blocks: list[list[Series]] = [[]]
    taken = 0
    for one in group:
        if one.is_random:
            continue
        if taken and taken + len(one.scores) > room:
            blocks.append([])
            taken = 0
        blocks[-1].append(one)
        taken += len(one.scores)
    return [[one for one in group if one.is_random or one in block] for block in blocks]


@dataclass(frozen=True)
class Known:
    """What is known of a block: scores of its series at sizes, and means of runs about them."""

    columns: list[tuple[int, int]]  # number of the series, size
    scores: Mixture
    observed: Mixture

    def column(self, series: int, size: int) -> int:
        """Return where the score of a series at a size stands."""
        return self.columns.index((series, size))


def _known(blocks: Sequence[Sequence[Series]], at: Sequence[int], scale: Scale) -> list[Known]:
    """Return what is known of each block; where the scale is open, all weigh it together."""
    prior = Growth.of(learnt())
    columns = [[(n, size) for n, one in enumerate(b) for size in one.asked(at)] for b in blocks]
    log_weights = np.zeros(len(scale.factors))
    parts: list[list[list[Mixture]]] = [[] for _ in blocks]
    for i, factor in enumerate(scale.factors):
        point = factor * scale.point
        for block, wanted, own in zip(blocks, columns, parts, strict=True):
            cells = _cells(block).scaled(1 / point)
            number, size = (np.array(one) for one in zip(*wanted, strict=True))
            found = posterior(cells, number, size.astype(np.float64), prior)
            log_weights[i] += found.evidence - (cells.runs.sum() - 1) * math.log(factor)
            several = found.observed(float(np.median(cells.runs)))
            own.append([one.scaled(point) for one in (found.scores, several)])
    weights = np.exp(log_weights - log_weights.max())
    return [
        Known(
            wanted,
            *(Mixture.join(kind, weights / weights.sum()) for kind in zip(*own, strict=True)),
        )
        for wanted, own in zip(columns, parts, strict=True)
    ]


def _add(
    result: Row,
    block: Sequence[Series],
    which: int,
    known: Known,
    config: AdviseConfig,
    scale: Scale,
) -> None:
    """Add the rows of one series of a block to the result."""
    one, sign = block[which], -1.0 if config.lower_is_better else 1.0
    rival = _random_of(one, block)
    result["measured"] += [
        {**one.names, "size": size, "mean": sign * math.fsum(runs) / len(runs), "runs": len(runs)}
        for size, runs in sorted(one.scores.items())
    ]
    for size in result["at"]:
        column = known.column(which, size)
        row = {**one.names, "size": size, "mean": float(known.observed.mean()[column])}
        row |= {name: known.observed.quantile(p, column) for name, p in _INTERVALS.items()}
        row = _turned(row, sign, scale)
        beats = None
        if rival is not None:
            over = _difference(known, column, known.column(rival, size))
            beats = over.above(0.0)
        result["predictions"].append(row | {"beats_random": beats})
    steps = [size for size in one.asked(result["at"]) if size % one.last == 0]
    steps = [size for size in steps if (size // one.last).bit_count() == 1]
    gains = [0.0]
    for before, size in itertools.pairwise(steps):
        gain = _difference(known, known.column(which, size), known.column(which, before))
        gains.append(gains[-1] + float(gain.mean()[0]))
        result["doublings"].append(
            {
                **one.names,
                "from": before,
                "to": size,
                "gain": float(gain.mean()[0]),
                **{name: gain.quantile(p) for name, p in _INTERVALS.items()},
                "pays": gain.above(result["delta"]),
                "cost": None if config.price is None else config.price * (size - before),
            }
        )
    chosen = worth_paying(gains, _costs(steps, config, result["delta"]))
    result["advice"].append(
        {
            **one.names,
            "measured": one.last,
            "doubling": gains[1],
            "pays": result["doublings"][1 - len(steps)]["pays"],
            "next_size": steps[chosen] if chosen else "stop",
            "gain": gains[chosen] if chosen else None,
            "cost": None if config.price is None else config.price * (steps[chosen] - one.last),
        }
    )


def worth_paying(gains: Sequence[float], costs: Sequence[float]) -> int:
    """Return which step has the largest expected gain less its cost; the first, 0, is to stop."""
    return int(np.argmax(np.subtract(gains, costs)))


def _costs(steps: Sequence[int], config: AdviseConfig, delta: float) -> list[float]:
    """Return what going to each step must gain to pay: by the price, or delta a doubling."""
    if config.price is not None and config.worth is not None:
        return [config.price * (size - steps[0]) / config.worth * delta for size in steps]
    return [delta * i for i in range(len(steps))]


def _difference(known: Known, one: int, other: int) -> Mixture:
    by = np.zeros((1, len(known.columns)))
    by[0, one], by[0, other] = 1, -1
    return known.scores.of(by)


def _random_of(one: Series, block: Sequence[Series]) -> int | None:
    """Return the random series beside one: of its regime, or of none."""
    if one.is_random:
        return None
    rivals = {block[n].names.get("regime"): n for n in range(len(block)) if block[n].is_random}
    return rivals.get(one.names.get("regime"), rivals.get(None))


def _turned(row: Row, sign: float, scale: Scale) -> Row:
    """Return a prediction within the bounds of its scale, and as the table's scores are turned."""
    kept = {name: min(max(row[name], scale.low), scale.high) for name in ("mean", *_INTERVALS)}
    if sign < 0:
        kept = {name: -kept[_MIRROR.get(name, name)] for name in kept}
    return row | kept
