from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from sft_diversity.core.errors import DataError
from sft_diversity.core.numbers import draw
from sft_diversity.scoring.heldout import RECORDS, Figures, compare, pair, summarise_records


def table(rows: list[Any]) -> pa.Table:
    """Records with sensible rests: one prompt each, ten tokens and forty bytes."""
    whole = []
    for i, row in enumerate(rows):
        made = {
            "set": "s", "record": str(i), "kind": "transfer", "reference": "short", "domain": "d",
            "prompt": f"p{i}", "status": "scored", "truncated": False, "prompt_tokens": 5,
            "reference_bytes": 40, "tokens": 10, "bytes": 40, "nll": 20.0, "end_nll": None, **row,
        }  # fmt: skip
        for name in ("tokens", "bytes", "nll"):
            made.setdefault(f"{name}_first64", made[name])
        whole.append(made)
    return pa.Table.from_pylist(whole, schema=RECORDS)


def everything(figures: Figures):
    return np.ones(figures.table.num_rows, dtype=bool)


def test_a_ratio_weighs_tokens_alike_and_the_record_mean_records():
    figures = Figures(
        table(
            [{"tokens": 10, "bytes": 50, "nll": 30.0}, {"tokens": 90, "bytes": 350, "nll": 90.0}]
        ),
        100,
        0,
    )
    found = figures.ratio(everything(figures))
    assert found["nll_per_token"] == pytest.approx(120 / 100)
    assert found["bits_per_byte"] == pytest.approx(120 / math.log(2) / 400)
    assert found["nll_record_mean"] == pytest.approx((3.0 + 1.0) / 2)
    assert (found["records"], found["tokens"], found["bytes"]) == (2, 100, 400)


def test_the_first_64_tokens_have_their_own_columns():
    figures = Figures(
        table([{"nll_first64": 4.0, "tokens_first64": 8, "bytes_first64": 16}]), 100, 0
    )
    found = figures.ratio(everything(figures), "_first64")
    assert found["nll_per_token"] == 0.5
    assert found["bits_per_byte"] == pytest.approx(4 / math.log(2) / 16)


def test_no_rows_give_no_figure():
    found = summarise_records(table([{"kind": "in-mix"}]), 100, 0)["headline"]["transfer_first64"]
    assert found["records"] == 0
    assert found["nll_per_token"] is None


def test_the_interval_agrees_with_scipys_bootstrap():
    rng = np.random.default_rng(1)
    tokens, nll = rng.integers(1, 60, 300), rng.gamma(3.0, 20.0, 300)
    figures = Figures(
        table([{"tokens": int(t), "nll": float(x)} for t, x in zip(tokens, nll, strict=True)]),
        4000,
        0,
    )
    found = figures.ratio(everything(figures))
    theirs = stats.bootstrap(
        (nll, tokens), lambda x, t, axis: x.sum(axis) / t.sum(axis), paired=True,
        method="percentile", n_resamples=4000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert abs(found["nll_low"] - theirs.low) < 0.06 * width
    assert abs(found["nll_high"] - theirs.high) < 0.06 * width


def test_records_that_share_a_prompt_are_drawn_together():
    rng = np.random.default_rng(0)
    losses = rng.normal(20, 5, 100)
    alone = table([{"nll": float(x)} for x in losses])
    twice = table([{"nll": float(x), "prompt": f"p{i // 2}"} for i, x in
                   enumerate(np.repeat(losses, 2))])  # fmt: skip
    one, two = (Figures(t, 1000, 3) for t in (alone, twice))
    a, b = one.ratio(everything(one)), two.ratio(everything(two))
    assert b["nll_high"] - b["nll_low"] == pytest.approx(a["nll_high"] - a["nll_low"], rel=0.15)


def drawn(prompts, seed):
    return draw(prompts, 50, np.random.default_rng(seed))


def test_draws_do_not_depend_on_the_order_of_records():
    prompts = [f"p{i}" for i in range(20)]
    forward, back = drawn(prompts, 7), drawn(prompts[::-1], 7)
    assert (forward.weights == back.weights).all()
    assert (forward.weights.sum(1) == 20).all()
    assert not (forward.weights == drawn(prompts, 8).weights).all()


def test_skipped_records_take_no_part_but_are_counted():
    rows = [{}, {"status": "no-reference", "nll": None, "tokens": None, "bytes": None}]
    found = summarise_records(table(rows), 100, 0)
    assert found["headline"]["transfer_first64"]["records"] == 1
    assert found["skipped"] == {"no-reference": 1}
    assert found["sets"]["s"]["skipped"] == {"no-reference": 1}


def test_the_headline_reads_transfer_sets_and_short_references_only():
    rows = [
        {"nll": 10.0, "nll_first64": 1.0},
        {"reference": "long", "nll": 30.0, "nll_first64": 3.0},
        {"kind": "related", "nll": 1e6},
        {"kind": "in-mix", "nll": 1e6},
    ]
    found = summarise_records(table(rows), 100, 0)["headline"]
    assert found["transfer_first64"]["nll_per_token"] == pytest.approx(4 / 20)
    assert found["short_references"]["nll_per_token"] == pytest.approx(1.0)


def test_length_bins_hold_each_transfer_record_once():
    sizes = [0, 99, 100, 399, 400, 1599, 1600, 9999]
    rows = [{"reference_bytes": size} for size in sizes]
    found = summarise_records(table([*rows, {"kind": "in-mix"}]), 100, 0)["transfer_by_length"]
    assert [(b["bytes_from"], b["bytes_below"], b["records"]) for b in found] == [
        (0, 100, 2), (100, 400, 2), (400, 1600, 2), (1600, None, 2),
    ]  # fmt: skip


def test_domains_below_fifty_records_are_pooled_and_others_weigh_alike():
    rows = [{"kind": "in-mix", "domain": "big", "nll": 10.0}] * 150
    rows += [{"kind": "in-mix", "domain": "fifty", "nll": 20.0}] * 50
    rows += [{"kind": "in-mix", "domain": "few", "nll": 30.0}] * 30
    rows += [{"kind": "in-mix", "domain": "fewer", "nll": 60.0}] * 15
    found = summarise_records(table(rows), 100, 0)
    assert found["domains"]["pooled"] == ["few", "fewer"]
    assert found["domains"]["each"]["pooled"]["nll_per_token"] == pytest.approx(4.0)
    assert found["domains"]["mean"]["nll_per_token"] == pytest.approx((1 + 2 + 4) / 3)
    assert found["in_mix"]["nll_per_token"] == pytest.approx((1500 + 1000 + 900 + 900) / 2450)


def test_a_result_compared_with_itself_differs_by_nothing():
    one = table([{"nll": float(x)} for x in range(1, 30)])
    found = compare(one, one)["transfer_first64"]
    assert (found["nll_per_token"], found["nll_low"], found["nll_high"]) == (0.0, 0.0, 0.0)


def test_a_shift_of_every_record_is_found_without_spread():
    rng = np.random.default_rng(0)
    losses = rng.normal(30, 10, 80)
    a = table([{"nll": float(x)} for x in losses])
    b = table([{"nll": float(x) - 2.0} for x in losses])
    found = compare(a, b)["short_references"]
    for name in ("nll_per_token", "nll_low", "nll_high"):
        assert found[name] == pytest.approx(-0.2)
    assert compare(b, a)["short_references"]["nll_per_token"] == pytest.approx(0.2)


def test_pairing_narrows_the_interval_where_records_differ_more_than_models():
    rng = np.random.default_rng(0)
    losses, noise = rng.normal(30, 10, 80), rng.normal(0, 0.5, 80)
    a = table([{"nll": float(x)} for x in losses])
    b = table([{"nll": float(x)} for x in losses + noise])
    paired = compare(a, b)["transfer_first64"]
    alone = Figures(a, 1000, 0).ratio(np.ones(80, dtype=bool))
    assert paired["nll_high"] - paired["nll_low"] < 0.2 * (alone["nll_high"] - alone["nll_low"])


def test_other_tokens_compare_by_bits_per_byte_only():
    a, b = table([{}, {}]), table([{"tokens": 12, "nll": 30.0}, {}])
    found = compare(a, b)["short_references"]
    assert found["nll_per_token"] is None
    assert found["bits_per_byte"] == pytest.approx(10 / math.log(2) / 80)


def test_only_records_that_both_scored_are_paired_in_any_order():
    a = table([{"nll": 1.0}, {"nll": 2.0}, {"nll": 3.0, "status": "over-length"}])
    b = a.take([2, 1, 0])
    one, two = pair(a, b)
    assert one["record"].to_pylist() == two["record"].to_pylist() == ["0", "1"]
    c = table([{"nll": 1.0, "status": "over-length"}, {"nll": 2.0}])
    assert pair(a, c)[0]["record"].to_pylist() == ["1"]


def test_results_on_other_records_are_refused():
    with pytest.raises(DataError, match="share no scored record"):
        compare(table([{}]), table([{"set": "other"}]))
    with pytest.raises(DataError, match="differ in reference_bytes"):
        compare(table([{}]), table([{"reference_bytes": 41}]))


def test_every_figure_in_bits_is_that_in_nats_over_ln_2():
    """With four bytes a token wherever: then bits per byte are nats a token over 4 ln 2."""
    rng = np.random.default_rng(3)
    kinds = ["transfer", "in-mix"]
    a, b = (
        table(
            [
                {"tokens": int(n), "bytes": 4 * int(n), "nll": float(n * rng.uniform(1, 3)),
                 "kind": kinds[i % 2], "domain": str(i % 3)}
                for i, n in enumerate(np.random.default_rng(4).integers(1, 60, 40))
            ]
        )
        for _ in range(2)
    )  # fmt: skip
    one = Figures(a, 200, 0)
    domains = {name: one.where("domain", name) for name in "012"}
    whole = [one.ratio(everything(one)), one.group_mean(domains), *compare(a, b).values()]
    for found in whole:
        for nats, bits in (
            ("nll_per_token", "bits_per_byte"), ("nll_low", "bits_low"), ("nll_high", "bits_high"),
        ):  # fmt: skip
            assert found[bits] == pytest.approx(found[nats] / (4 * math.log(2)), rel=1e-9)
    assert len(whole) == 5
