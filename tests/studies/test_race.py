"""Races over runs whose truth is known: the driver takes a function that makes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sft_diversity.core import config as configs
from sft_diversity.core import spreads
from sft_diversity.core.errors import UsageError
from sft_diversity.studies import cells, looks, race_words
from sft_diversity.studies.config import StudyConfig
from sft_diversity.studies.race import Race, Ran

GOOD, BAD = "B-micro-response-n100-d100", "B-micro-response-n100-d0"


def study(**changes) -> StudyConfig:
    options = {
        "corpus": "corpus",
        "grid": {
            "strategy": ["micro-response", "macro-instruction"],
            "size": [100],
            "diversity": [0, 50, 100],
            "seed": list(range(5)),
        },
        "regimes": ["B"],
        "baselines": {"random": 5, "random_common": 0},
    }
    return configs.build(StudyConfig, options | changes, "test")


class Runner:
    """Makes a run's score of its cell's true mean and a noise that its name alone decides."""

    def __init__(self, truth, sd=1.0, seconds=1.0, failing=()):
        self.truth, self.sd, self.seconds, self.failing = truth, sd, seconds, failing
        self.records, self.asked = {}, []

    def __call__(self, runs):
        for run in runs:
            self.asked.append(run.name)
            if run.name not in self.records:
                noise = np.random.default_rng(list(run.name.encode())).normal()
                mean = self.truth.get(run.cell.group, 0.0) if run.cell else 0.0
                score = None if run.name in self.failing else mean + self.sd * noise
                self.records[run.name] = Ran(score, self.seconds)
        return {run.name: self.records[run.name] for run in runs}


def raced(asked, runner, **changes):
    race = Race(asked, cells.runs(asked), changes.pop("draw_of", {}), lambda run: 1.0)
    lines = []
    race.run(runner, lines.append)
    return race, lines


def test_what_differs_is_found_and_the_rest_is_left_with_two_draws():
    race, _ = raced(study(), Runner({GOOD: 12.0, BAD: -12.0}))
    status = {name: one.status for name, one in race.standing.items()}
    assert status.pop(GOOD) == "above"
    assert status.pop(BAD) == "below"
    assert set(status.values()) == {"level"}
    assert sum(len(arm.scores) == 2 for arm in race.arms.values()) >= 5
    leader, rest = race.best(("B", 100))
    assert (leader.name, rest) == (GOOD, [])
    found = race_words.outcome(race)
    assert found["stopped"] == "answered"
    assert found["runs"] < 0.6 * found["runs_of_grid"]
    text = "\n".join(found["sentences"])
    assert "above random: micro-response at 100 % (+" in text
    assert "the best is micro-response at 100 %, told from all others." in text
    assert "a chance of 5 % at most" in text


def test_two_good_arms_are_run_on_until_they_are_told_apart_or_never_will_be():
    near, _ = raced(study(), Runner({GOOD: 20.0, "B-macro-instruction-n100-d50": 20.0}))
    leader, rest = near.best(("B", 100))
    assert {leader.name, *(arm.name for arm in rest)} == {GOOD, "B-macro-instruction-n100-d50"}
    assert "not told from" in "\n".join(race_words.outcome(near)["sentences"])
    apart, _ = raced(study(), Runner({GOOD: 20.0, "B-macro-instruction-n100-d50": 17.0}))
    assert len(apart.arms["B-macro-instruction-n100-d50"].scores) > 2


def test_a_race_goes_on_from_its_records_and_makes_the_same_decisions():
    runner = Runner({GOOD: 3.0, BAD: -2.0})
    whole, lines = raced(study(), runner)
    made = dict(runner.records)
    half = Runner({GOOD: 3.0, BAD: -2.0})
    half.records = dict(list(made.items())[: len(made) // 2])
    again, repeated = raced(study(), half)
    assert repeated == lines
    assert again.standing == whole.standing
    assert half.records == made


def test_the_hours_are_kept_and_what_was_not_tried_is_said():
    asked = study(budget=11 / 3600)  # random, base, and five of six arms
    race, lines = raced(asked, Runner({}))
    assert race.spent_s == 11
    assert [len(line["runs"]) for line in lines] == [6, 5]
    untried = [name for name, one in race.standing.items() if one.status == "untried"]
    assert len(untried) == 1
    assert untried[0].endswith("d50")  # ends of the dials come first
    text = "\n".join(race_words.outcome(race)["sentences"])
    assert "not tried: " in text
    assert "the hours are spent" in text


def test_the_better_half_goes_on_where_the_hours_are_short():
    truth = {name: 0.3 * i for i, name in enumerate(sorted(_arms()))}
    race, lines = raced(study(budget=15 / 3600), Runner(truth, sd=0.01))
    third = [run.rpartition("-s")[0] for run in lines[2]["runs"]]
    assert sorted(third) == sorted(truth)[3:]
    assert race.spent_s <= 15


def _arms():
    return [f"B-{s}-n100-d{at}" for s in ("micro-response", "macro-instruction") for at in (0, 50, 100)]  # fmt: skip  # noqa: E501


def test_runs_that_take_longer_than_foreseen_are_counted_as_they_come():
    race, _ = raced(study(budget=40 / 3600), Runner({}, seconds=4.0))
    assert race.spent_s <= 40


def test_a_failed_run_is_asked_for_once_and_its_arm_stays_open():
    failing = {f"{GOOD}-s{seed}-t0" for seed in range(5)}
    runner = Runner({}, failing=failing)
    race, _ = raced(study(), runner)
    assert len(runner.asked) == len(set(runner.asked))
    assert race.standing[GOOD].status == "untried"


def test_draws_that_hardly_differ_are_one():
    same = {f"{BAD}-s{seed}": 0 for seed in range(5)}
    race, _ = raced(study(), Runner({BAD: -30.0}), draw_of=same)
    assert len(race.arms[BAD].draws) == 1
    assert race.standing[BAD].status == "below"


def test_without_random_subsets_there_is_no_race():
    with pytest.raises(UsageError, match=r"set baselines\.random"):
        raced(study(baselines={"random": 1}), Runner({}))


def test_with_many_draws_the_test_is_welchs():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.1, 1, 400), rng.normal(0, 2, 300)
    found = looks.contrast({"a": list(one), "b": list(other)}, {"a": 400, "b": 300}, "a", "b")
    assert found.p == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue, rel=0.1)


def test_spreads_are_drawn_towards_that_of_all():
    draws = {"a": [1.0, 1.0], "b": [0.0, 2.0], "random": [0.0, 1.0, 2.0]}
    full = dict.fromkeys(draws, 3)
    found = looks.contrast(draws, full, "a", "random")
    pooled = (0 + 2 + 2) / 4
    own = spreads.PRIOR_DF * pooled / (spreads.PRIOR_DF + 1)
    rival = (spreads.PRIOR_DF * pooled + 2) / (spreads.PRIOR_DF + 2)
    assert found.error == pytest.approx(math.sqrt(own / 2 + rival / 3))
    assert found.full_error == pytest.approx(math.sqrt(own / 3 + rival / 3))
    assert looks.contrast({"a": [1.0], "random": [1.0]}, full, "a", "random") is None


def test_what_is_foreseen_is_how_often_it_comes():
    now = looks.Contrast(1.2, 0.7, 0.4, 1e6)
    rng = np.random.default_rng(0)
    ahead = rng.normal(1.2, math.sqrt(0.7**2 - 0.4**2), 200_000)
    seen = np.abs(ahead) > stats.norm.ppf(0.995) * 0.4
    assert now.foreseen(0.01) == pytest.approx(seen.mean(), abs=0.005)


@pytest.mark.parametrize("looks_", [1, 2, 3, 5])
def test_the_error_is_shared_out_over_arms_and_looks(looks_):
    first = 1 if looks_ == 1 else 2
    shares = [looks.error_at(look, looks_, 7, 0.95) for look in range(first, looks_ + 1)]
    assert 7 * sum(shares) == pytest.approx(0.05)


def test_with_no_effect_few_races_find_one():
    asked, false = study(), 0
    for number in range(100):
        rng = np.random.default_rng(number)
        spread = {arm: float(np.exp(0.55 * rng.normal())) for arm in _arms()}

        def make(runs, rng=rng, spread=spread):
            return {
                run.name: Ran(spread.get(run.cell.group if run.cell else "", 1.0) * rng.normal(), 1)
                for run in runs
            }

        race, _ = raced(asked, make)
        false += any(one.status in ("above", "below") for one in race.standing.values())
    assert false <= 12  # 5 % or less: more in one of 500 sets of a hundred
