"""Claims of tables in which nothing differs, counted as benchmarks/verdict_rates.py counts them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "verdict_rates.py"


@pytest.fixture(scope="module")
def rates():
    spec = importlib.util.spec_from_file_location("verdict_rates", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.claims_alone():
        yield module


def above(rates, layouts, times, seed):
    """Kinds of claim that are made too often in some lay-out."""
    found = {rates.Layout(*one): rates.counts(rates.Layout(*one), times, seed=seed)
             for one in layouts}  # fmt: skip
    return rates.summary(found, times)[1]


def test_no_kind_of_claim_is_made_of_nothing_above_its_rate(rates):
    assert above(rates, [(4, 2, 6), (2, 2, 2)], 60, 11) == []


@pytest.mark.slow
def test_no_kind_of_claim_is_made_of_nothing_above_its_rate_in_many_tables(rates):
    assert above(rates, [(3, 2, 6), (4, 3, 3), (7, 5, 2), (5, 4, 4), (6, 2, 1)], 1_000, 12) == []


def test_an_effect_is_claimed_of_its_strategy(rates):
    found = rates.counts(rates.Layout(4, 3, 3), 20, rise=rates.RISE, seed=13)
    for kind in ("slope", "ends differ", "against random, best", "against base, highest"):
        assert found[kind] >= 12, kind


def test_the_rates_at_hand_are_those_of_these_lay_outs(rates):
    report = json.loads(rates.RESULTS.read_text("utf-8"))
    assert [tuple(row[name] for name in ("levels", "draws", "strategies"))
            for row in report["counts"]] == [tuple(one) for one in rates.LAYOUTS]  # fmt: skip
    assert report["above_rate"] == []
    assert report["tables"] >= 1_000
