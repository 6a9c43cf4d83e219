from __future__ import annotations

import csv
import json
import math

import numpy as np
import polars as pl
import pytest

import sft_diversity as sd
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.fitting.advice import advise_table, worth_paying
from sft_diversity.fitting.config import AdviseConfig
from tests.command import sftdiv

ENDS = ("mean", "low_80", "low_50", "high_50", "high_80")


def table(gain=3.0, sizes=(500, 1000, 2000), models=("one",), seeds=2, level=40.0, noise=0.3):
    """Scores that rise by `gain` a doubling for `good`, by half a point for `random`."""
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        [
            {
                "model": model, "task": "sums", "strategy": strategy, "size": size, "seed": seed,
                "score": level + start + rise * math.log2(size / 500) + noise * rng.normal(),
            }
            for model in models
            for strategy, rise, start in (("good", gain, 0), ("random", 0.5, -6))
            for size in sizes
            for seed in range(seeds)
        ]
    )  # fmt: skip


def advise(frame, **options):
    return advise_table(frame, AdviseConfig(**options))


def only(rows, **names):
    (row,) = [row for row in rows if all(row[name] == names[name] for name in names)]
    return row


def test_a_series_that_rises_goes_on_and_one_that_does_not_stops():
    said = advise(table(), at=8000)
    good, random = (only(said["advice"], strategy=name) for name in ("good", "random"))
    assert (good["measured"], random["next_size"]) == (2000, "stop")
    assert good["next_size"] > 2000
    assert good["pays"] > 0.5 > random["pays"]
    at = only(said["predictions"], strategy="good")
    assert at["beats_random"] > 0.99
    assert only(said["predictions"], strategy="random")["beats_random"] is None
    assert 46 < at["mean"] < 52


def test_intervals_lie_in_each_other_and_widen_with_the_distance():
    said = advise(table(), at=(2000, 4000, 16_000))
    for row in said["predictions"]:
        low_80, low_50, high_50, high_80 = (row[name] for name in ENDS[1:])
        assert low_80 < low_50 < high_50 < high_80
        assert low_80 < row["mean"] < high_80
    widths = [r["high_80"] - r["low_80"] for r in said["predictions"] if r["strategy"] == "good"]
    assert widths == sorted(widths)


def test_groups_and_series_are_those_that_the_table_has():
    frame = table(models=("one", "two"))
    said = advise(frame, at=4000)
    names = ["model", "task", "strategy", "size"]
    assert [list(row)[:4] for row in said["predictions"]] == [names] * 4
    alone = advise(
        frame.filter(pl.col("strategy") == "good", model="one").select("size", "score"), at=4000
    )
    assert [next(iter(row)) for row in alone["predictions"]] == ["size"]
    # a model says nothing of another one
    one = advise(frame.filter(model="one"), at=4000)["predictions"]
    assert one == [row for row in said["predictions"] if row["model"] == "one"]


def test_rows_in_another_order_give_the_same():
    frame = table(models=("b", "a"))
    said, shuffled = (advise(one, at=4000)["predictions"] for one in (frame, frame.reverse()))
    for row in said:
        other = only(shuffled, model=row["model"], strategy=row["strategy"])
        assert [row[name] for name in ENDS] == pytest.approx(
            [other[name] for name in ENDS], rel=1e-6
        )


def test_shares_and_error_rates_are_points_in_another_unit():
    frame = table()
    points = advise(frame, at=8000)
    share = advise(frame.with_columns(score=pl.col("score") / 100), at=8000)
    errors = frame.with_columns(score=1 - pl.col("score") / 100)
    rates = advise(errors, at=8000, lower_is_better=True, scale="share")
    assert (points["scale"], share["scale"], share["delta"]) == ("points", "share", 0.01)
    for one, other, rate in zip(*(x["predictions"] for x in (points, share, rates)), strict=True):
        assert [100 * other[n] for n in ENDS] == pytest.approx([one[n] for n in ENDS], rel=1e-5)
        mirrored = [100 * (1 - rate[n]) for n in ("mean", "high_80", "high_50", "low_50", "low_80")]
        assert mirrored == pytest.approx([one[n] for n in ENDS], rel=1e-5)
        assert (one["beats_random"] or 0) == pytest.approx(rate["beats_random"] or 0, abs=1e-6)


def test_losses_of_any_unit_are_taken():
    """A loss has no known scale: its unit must not matter, and lower must be better."""
    frame = table().with_columns(score=4 - 0.05 * pl.col("score"))
    said = [
        advise(frame.with_columns(pl.col("score") * unit), at=8000, lower_is_better=True)
        for unit in (1, 1000)
    ]
    assert said[0]["scale"] == "other"
    for one, other in zip(*(x["predictions"] for x in said), strict=True):
        assert [other[n] / 1000 for n in ENDS] == pytest.approx([one[n] for n in ENDS], rel=1e-4)
    good = only(said[0]["predictions"], strategy="good")
    assert good["low_80"] < good["mean"] < 1.85
    assert good["beats_random"] > 0.9
    assert only(said[0]["advice"], strategy="good")["doubling"] > 0


def test_predictions_stay_on_the_scale():
    said = advise(table(level=97.0, gain=1.2), at=500_000)
    assert max(row["high_80"] for row in said["predictions"]) <= 100


def test_a_price_decides_how_far_to_go():
    frame, sizes = table(), []
    for price in (0.0, 0.0005, 0.01, 10.0):
        said = advise(frame, at=64_000, price=price, worth=1.0)
        row = only(said["advice"], strategy="good")
        sizes.append(2000 if row["next_size"] == "stop" else row["next_size"])
        step = only(said["doublings"], strategy="good", to=4000)
        assert step["cost"] == pytest.approx(price * 2000)
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (64_000, 2000)
    assert worth_paying([0, 1.0, 1.5], [0, 0.4, 1.2]) == 1
    assert worth_paying([0, 1.0, 1.5], [0, 1.1, 1.6]) == 0


def test_wide_tables_are_looked_at_in_blocks_each_with_random():
    rows = [
        {"strategy": name, "size": size, "seed": 0, "score": 30 + (size / 500) ** 0.5 + number % 3}
        for number, name in enumerate(["random", *(f"s{i}" for i in range(40))])
        for size in (500, 1000)
    ]
    said = advise(pl.DataFrame(rows), at=2000)
    assert [row["strategy"] for row in said["predictions"]] == [
        row["strategy"] for row in rows[::2]
    ]
    assert sum(row["beats_random"] is None for row in said["predictions"]) == 1


def test_rows_are_accounted_for():
    frame = table()
    first = frame.row(0, named=True)
    more = [
        {**first, "strategy": "base", "size": None, "seed": None},
        {**first, "strategy": "untrained", "size": 0},
        {**first, "seed": 9, "score": None},
        first,
        {**first, "model": "new"},
    ]  # fmt: skip
    said = advise(pl.concat([frame, pl.DataFrame(more, schema=frame.schema)]), at=4000)
    assert said["rows"] == {
        "in": 17, "used": 12, "base": 2, "no_score": 1, "repeated": 1, "one_size": 1,
    }  # fmt: skip
    assert said["notes"] == ["Scores at one size of new, sums, 500: nothing is said of it."]
    assert said["predictions"] == advise(frame, at=4000)["predictions"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("size,score\n500,1\n500,2\n", "all scores are at one size, 500"),
        ("size,score\n500,\n", "no row has a score"),
        ("size,score\n", "has a header but no rows"),
        ("size,score\n500,high\n1000,3\n", "score is 'high', which is no number"),
        ("size,score\nbig,2\n1000,3\n", "size is 'big', which is no number"),
        ("size,score\n-5,2\n1000,3\n", "size is '-5'; it is the number of samples"),
        ("size,score\n2.5,2\n1000,3\n", "size is '2.5'"),
        ("samples,score\n500,2\n", "lacks the column size"),
        ("size,acc\n500,2\n", "lacks the column score"),
        ("size,seed,score\n500,0,2\n500,0,3\n", "rows 1 and 2 are the same run (size 500)"),
        ("model,size,score\na,500,2\nb,1000,3\n", "no group has two"),
        ("size,score\n500,-7\n1000,-7\n", "the scores do not differ"),
        ("", "is empty"),
    ],
)  # fmt: skip
def test_bad_tables_are_one_line(tmp_path, text, complaint):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    run = sftdiv("advise", path, "--at", "4000")
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: advise: {path}")
    assert len(run.stderr.splitlines()) == 1
    assert complaint in run.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--at", "100"], "below the smallest one measured of one, sums, 500"),
        (["--at", "0"], "from 1 to"),
        (["--worth", "2"], "`worth` needs `price`"),
        (["--scale", "share"], "no scale of share"),
        (["--delta", "0"], "delta"),
    ],
)
def test_wrong_wishes_are_one_line(tmp_path, options, complaint):
    path = tmp_path / "scores.csv"
    table().write_csv(path)
    run = sftdiv("advise", path, *options)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert complaint in run.stderr


def test_the_command_prints_predictions_as_json_and_writes_a_folder(tmp_path):
    path, out = tmp_path / "scores.csv", tmp_path / "out"
    table().write_csv(path)
    run = sftdiv("advise", path, "--at", "4000", "--at", "8000", "--out", out, "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert set(said["predictions"][0]) == {
        "model", "task", "strategy", "size", "mean", "low_50", "high_50", "low_80", "high_80",
        "beats_random",
    }  # fmt: skip
    assert {row["size"] for row in said["predictions"]} == {4000, 8000}
    assert (out / "advice.png").read_bytes()[:4] == b"\x89PNG"
    with (out / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(said["predictions"])
    assert sd.verify(out)["faults"] == []
    plan = json.loads(sftdiv("advise", path, "--dry-run", "--json").stdout)["plan"]
    assert (plan[0]["stage"], plan[0]["rows"]) == ("advise", 12)


def test_people_get_sentences_and_a_table_of_at_most_100_columns(tmp_path):
    path = tmp_path / "scores.csv"
    table(models=("a-model-with-a-very-long-name-indeed", "two")).write_csv(path)
    run = sftdiv("advise", path, "--at", "8000")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("Go on with 2 of 4: ")
    assert any("above random good" in line for line in lines)


def test_data_in_memory_gives_a_frozen_result(tmp_path):
    frame = table()
    one = sd.advise(frame, at=8000)
    assert one.predictions == sd.advise(frame.to_dicts(), at=[8000]).predictions
    assert one.to_polars()["mean"].to_list() == [row["mean"] for row in one.predictions]
    assert one.verdict
    with pytest.raises(AttributeError):
        one.figures = {}
    with pytest.raises(DataError, match="advise: "):
        sd.advise([{"size": 5, "score": 1.0}])
    with pytest.raises(UsageError, match="is no file"):
        sd.advise(tmp_path / "nothing.csv")


def test_a_study_is_read_by_its_dial(tmp_path):
    cells = [("B", "micro-response", 0), ("B", "micro-response", 100), (None, "random", None)]
    above = {0: 0.0, 100: 0.2, None: 0.05}
    rows = [
        {
            "regime": regime, "strategy": strategy, "size": size, "diversity": level, "seed": seed,
            "score": -6.5 + 0.1 * math.log2(size / 500) + above[level] + 0.01 * seed,
            "kinds": 10 * size, "random_percent": 60.0, "pool": 9000 - size, "draw": seed,
        }
        for regime, strategy, level in cells
        for size in (500, 1000)
        for seed in (0, 1)
    ]  # fmt: skip
    (tmp_path / "study").mkdir()
    pl.DataFrame(rows).write_csv(tmp_path / "study" / "results.csv")
    said = sd.advise(tmp_path / "study", at=2000)
    assert [(row["strategy"], row["diversity"]) for row in said.predictions] == [
        (strategy, level) for _, strategy, level in cells
    ]
    low, high, _ = said.predictions
    assert low["beats_random"] < 0.3
    assert high["beats_random"] > 0.7


def test_random_of_what_all_may_pick_stands_in_where_there_is_no_other():
    frame = table()
    common = pl.when(pl.col("strategy") == "random").then(pl.lit("random-common"))
    other = frame.with_columns(strategy=common.otherwise("strategy"))
    [found] = {row["beats_random"] for row in advise(other, at=4000)["predictions"]} - {None}
    assert found > 0.95
    both = pl.concat([frame, other.filter(pl.col("strategy") == "random-common")])
    shown = {row["strategy"]: row["beats_random"] for row in advise(both, at=4000)["predictions"]}
    assert shown["random"] is None
    assert shown["random-common"] is not None


def test_draws_of_a_study_that_picked_the_same_are_one_run():
    frame = table().with_columns(pl.col("seed").alias("draw"))
    again = frame.filter(pl.col("seed") == 0).with_columns(seed=pl.lit(7, pl.Int64))
    said = advise(pl.concat([frame, again]), at=4000)
    assert said["rows"]["used"] == advise(frame, at=4000)["rows"]["used"]
    assert said["rows"]["repeated"] == again.height > 0
    assert said["predictions"] == advise(frame, at=4000)["predictions"]
