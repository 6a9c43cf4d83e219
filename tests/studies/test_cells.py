from __future__ import annotations

from pathlib import Path

import pytest

from sft_diversity.core import config as configs
from sft_diversity.core.errors import UsageError
from sft_diversity.studies import cells
from sft_diversity.studies.config import StudyConfig

GRID = {
    "strategy": ["micro-response", "macro-instruction"],
    "size": [100],
    "diversity": [0, 50, 100],
    "seed": [0, 1],
}


def make(**changes) -> StudyConfig:
    return configs.build(StudyConfig, {"corpus": "corpus", "grid": GRID} | changes, "test")


def test_a_grid_has_every_combination_in_both_regimes_and_its_baselines():
    made = cells.cells(make(baselines={"random": 2, "random_common": 1}))
    dial = [cell for cell in made if cell.diversity is not None]
    assert len(dial) == 2 * 2 * 3 * 2
    others = [(c.regime, c.strategy, c.seed) for c in made if c.diversity is None]
    assert others == [
        ("A", "random", 0), ("A", "random", 1), ("A", "random-common", 0), ("A", "longest", 0),
        ("B", "random", 0), ("B", "random", 1), ("B", "random-common", 0),
    ]  # fmt: skip
    assert len({cell.name for cell in made}) == len(made)


def test_base_is_run_once_and_the_first_draws_of_all_cells_before_the_second():
    runs = cells.runs(make())
    assert [run.name for run in runs].count("base") == 1
    seeds = [run.cell.seed for run in runs if run.cell]
    assert seeds == sorted(seeds)


def test_the_noise_cell_is_trained_with_as_many_seeds_as_asked_for():
    study = make(
        train_seeds=[3],
        noise={"strategy": "micro-response", "diversity": 50, "train_seeds": 4, "seed": 1},
    )
    names = [run.name for run in cells.runs(study)]
    found = [name for name in names if name.startswith("B-micro-response-n100-d50-s1-")]
    assert found == [f"B-micro-response-n100-d50-s1-t{seed}" for seed in (3, 0, 1, 2)]
    assert "B-micro-response-n100-d50-s0-t1" not in names


def test_regime_b_holds_lengths_and_random_common_draws_from_what_all_may_pick():
    study = make(
        select={"quota": "source=corpus", "max_per_kind": 9, "no_kind": "fill", "band": "5:90"}
    )
    found = {
        cell.name: cells.select_options(cell, study, Path("ids")) for cell in cells.cells(study)
    }
    free, held = (found[f"{regime}-micro-response-n100-d50-s1"] for regime in "AB")
    assert held == free | {
        "match_length": "ids/B-common.parquet",
        "exclude": "ids/B-long.parquet",
    }
    assert free["max_per_kind"] == 9
    assert free["diversity"] == 50
    assert free["seed"] == 1
    drawn = found["B-random-common-n100-s0"]
    assert drawn["strategy"] == "random"
    assert drawn["exclude"] == "ids/B-others.parquet"
    assert drawn["quota"] == "source=corpus"
    assert (free["no_kind"], free["band"]) == ("fill", "5:90")
    assert not {"max_per_kind", "no_kind", "band"} & drawn.keys()


@pytest.mark.parametrize("word", ["eligible", "corpus", "some/subset"])
def test_the_words_of_select_and_other_subsets_are_passed_on(word):
    study = make(match=word)
    cell = next(cell for cell in cells.cells(study) if cell.regime == "B")
    assert cells.select_options(cell, study, Path("ids"))["match_length"] == word


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": GRID | {"strategy": ["random"]}}, "has no dial"),
        ({"grid": GRID | {"fill": ["draws"]}}, "must have the axes"),
        ({"grid": {"strategy": "all", "size": 9}}, "must have the axes"),
        ({"ingest": {"root": "x"}}, "one of corpus and ingest"),
        ({"select": {"match_length": "corpus"}}, "select.match_length is the study's own"),
        ({"finetune": {"train_seed": 1}}, "finetune.train_seed is the study's own"),
        ({"noise": {"strategy": "meso-response", "diversity": 0}}, "not in the grid"),
        ({"regimes": ["A", "A"]}, "twice"),
        ({"sizes": [3]}, "unknown key `sizes`"),
        ({"baselines": {"random_eligible": 1}}, "random_eligible is random_common now"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_words(changes, said):
    with pytest.raises(UsageError, match=said):
        make(**changes)
