"""The suite decides which options there are."""

from __future__ import annotations

import pytest

from sft_diversity.core.errors import UsageError
from sft_diversity.scoring import suites
from sft_diversity.scoring.stage import ScoreConfig
from tests import making


def test_heldout_is_the_suite_where_none_is_named():
    assert isinstance(suites.config_of(None, {"draws": 200, "limit": None}), ScoreConfig)


def test_a_file_names_the_suite_and_a_flag_overrides_it(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("suite: harness\ntasks: [a, b]\n")
    assert suites.config_of(file, {}).tasks == ("a", "b")
    assert suites.config_of(file, {"tasks": "c,d"}).tasks == ("c", "d")
    with pytest.raises(UsageError, match="tasks is an option of suite harness, not of pairwise"):
        suites.config_of(file, {"suite": "pairwise"})


def test_an_option_of_another_suite_says_so():
    with pytest.raises(UsageError, match="judge_url is an option of suite pairwise, not of heldo"):
        suites.config_of(None, {"judge_url": "http://x"})
    with pytest.raises(UsageError, match="must be one of heldout, generate, pairwise, harness"):
        suites.config_of(None, {"suite": "pairwize"})


def test_every_option_of_every_suite_is_a_flag():
    fields = suites.ScoreOptions.model_fields
    for model in suites.CONFIGS.values():
        assert set(model.model_fields) <= set(fields)


def test_heldout_refuses_an_endpoint(tmp_path):
    with pytest.raises(UsageError, match="is an endpoint, which gives no likelihoods"):
        making.planned_score("http://127.0.0.1:1/v1", suites.config_of(None, {}))
