"""Samples that hold no kind: left out and named, or their share of the subset drawn."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity import explain, index, ingest
from sft_diversity.core import corpus as corpora
from sft_diversity.core import incidence
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.selection import show
from sft_diversity.selection.no_kind import draw_without_kind, shared_out, without_kind_by_source
from sft_diversity.selection.problem import FREE, PickLimits, Problem, without_kinds
from sft_diversity.selection.quotas import Factor, make_quotas
from sft_diversity.verbs.selecting import select

SIZE = 40
LEVEL = {"strategy": "micro-response", "index": {"micro": {"band": "4:40"}}}


@given(
    parts=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), min_size=1
    ),
    wanted=st.integers(-5, 200),
)
def test_numbers_are_shared_out_within_their_ends_and_in_proportion(parts, wanted):
    amounts, ends, others = (np.array(column) for column in zip(*parts, strict=True))
    most = np.minimum(amounts, np.maximum(ends, others))
    least = np.minimum(most, np.minimum(ends, others))
    numbers = shared_out(amounts, least, most, wanted)
    assert ((least <= numbers) & (numbers <= most)).all()
    assert numbers.sum() == min(max(wanted, least.sum()), most.sum())
    free = (least < numbers) & (numbers < most)  # held by neither end: all at one rate
    for at in np.flatnonzero(free):
        for other in np.flatnonzero(free):
            assert (numbers[at] - 1) * amounts[other] <= (numbers[other] + 1) * amounts[at]


@given(
    n=st.integers(1, 60),
    share=st.floats(0, 1),
    part=st.floats(0.01, 1),
    groups=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_the_share_is_drawn_whatever_the_quotas_and_leaves_what_the_dial_needs(
    n, share, part, groups, seed
):
    rng = np.random.default_rng(n)
    empty = np.flatnonzero(rng.random(n) < share)
    holding = np.setdiff1d(np.arange(n), empty)
    size = max(1, int(part * n))
    limits = FREE
    if groups:
        group = rng.integers(0, groups, n).astype(np.int32)
        shares = np.bincount(group, minlength=groups).astype(float)
        factor = Factor("source", [str(i) for i in range(groups)], group, shares)
        limits = PickLimits(quotas=make_quotas([factor], np.arange(n), size))
    drawn = draw_without_kind(empty, holding, size, limits, seed)
    assert len(set(drawn.tolist())) == len(drawn)
    assert set(drawn.tolist()) <= set(empty.tolist())
    least, most = len(empty) and 0, len(empty)
    if groups:
        room = limits.quotas.number[:-1]
        there = np.bincount(limits.quotas.group[empty], minlength=len(room))[: len(room)]
        others = np.bincount(limits.quotas.group[holding], minlength=len(room))[: len(room)]
        least, most = np.maximum(0, room - others).sum(), np.minimum(room, there).sum()
    assert len(drawn) == np.clip(round(size * len(empty) / n), least, most)
    left = Problem(without_kinds(n), holding, size - len(drawn), limits.after(drawn))
    assert left.lacking() == ""
    assert (draw_without_kind(empty, holding, size, limits, seed) == drawn).all()


def test_every_sample_without_a_kind_has_the_same_chance():
    empty, holding = np.arange(10), np.arange(10, 20)
    drawn = [draw_without_kind(empty, holding, 8, FREE, seed) for seed in range(500)]
    assert {len(one) for one in drawn} == {4}
    counts = np.bincount(np.concatenate(drawn), minlength=10)
    assert counts.sum() == 2000
    assert np.abs(counts - 200).max() < 60  # over 5 standard deviations


def test_sources_are_named_by_the_share_that_holds_no_kind():
    sources = pa.chunked_array([["a", "b", "b"], ["a", "c", "c"]])
    told = without_kind_by_source(sources, np.array([0, 1, 3]), np.arange(6))
    assert list(told.items()) == [
        ("a", {"no_kind": 2, "samples": 2}),
        ("b", {"no_kind": 1, "samples": 2}),
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """180 answers of words and, in sources of their own, 60 labels that no band holds."""
    place = tmp_path_factory.mktemp("no-kind")
    rng = np.random.default_rng(0)
    for name, rows in (("words", 180), ("yes", 55), ("rare", 5)):
        lines = []
        for i in range(rows):
            words = " ".join(f"{chr(97 + k)}{k}" for k in rng.integers(0, 26, rng.integers(3, 9)))
            answer = {"words": words, "yes": "Yes", "rare": "~^|{}"[i % 5]}[name]
            lines.append({"instruction": f"Question {name}{i}?", "output": answer})
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    ingest(*sorted(place.glob("*.jsonl")), out=place / "corpus")
    return place


def subset(place, name, **options):
    options = {**LEVEL, "size": SIZE, "no_kind": "fill"} | options
    made = select(place / "corpus", out=place / name, work=place / "work", **options)
    files = sorted((place / name / "samples").glob("*.parquet"))
    return made, [row for path in files for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def holding(place):
    """Ids of the samples that hold a kind."""
    made = index(place / "corpus", work=place / "work", strategy="micro-response", band="4:40")
    at = Path(made["out"])
    sizes = np.diff(incidence.load(at).indptr)
    return set(incidence.load_ids(at).filter(pa.array(sizes > 0)).to_pylist())


@pytest.mark.parametrize("fill", ["draws", "balance", "uniform"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"diversity": 0},
        {"max_per_kind": 12, "diversity": 50},
        {"quota": "source=corpus"},
        {"match_length": "corpus"},
        {"match_length": "eligible", "quota": "source=eligible"},
        {"token_budget": 450},
        {"size": 240},
    ],
)
def test_the_size_is_exact_and_the_share_right_within_the_limits(place, holding, options, fill):
    name = f"{fill}-{'-'.join(map(str, options.values())) or 'none'}".replace("/", "")
    made, rows = subset(place, name, fill=fill, **options)
    size = options.get("size", SIZE)
    assert made["rows"] == len({row["id"] for row in rows}) == size
    without = [row for row in rows if row["id"] not in holding]
    assert made["eligible"] == 240
    assert made["no_kind"] == 240 - len(holding)
    assert len(without) == made["no_kind_picks"] == round(size * (240 - len(holding)) / 240)
    assert rows[-len(without) :] == without
    assert "no_kind_sources" not in made
    if "quota" in options:
        wanted = made["limits"]["quota"]["source"]
        assert {name: n for name, n in wanted.items() if n} == made["sources"]
    if "limits" in made and "tokens" in made["limits"]:
        assert made["limits"]["tokens_met"]


def test_what_is_excluded_or_included_counts_among_those_without_a_kind(place, holding):
    _, rows = subset(place, "plain")
    without = [row["id"] for row in rows if row["id"] not in holding]
    (place / "two.txt").write_text("\n".join(without[:2]) + "\n", "utf-8")
    made, grown = subset(place, "grown", must_include=str(place / "two.txt"))
    assert [row["id"] for row in grown[:2]] == without[:2]
    assert made["no_kind_picks"] == sum(row["id"] not in holding for row in grown) == len(without)
    made, others = subset(place, "others", exclude=str(place / "two.txt"))
    assert not set(without[:2]) & {row["id"] for row in others}
    left = 240 - len(holding) - 2
    assert made["no_kind_picks"] == round(SIZE * left / 238)


def test_seeds_redraw_the_picks_without_a_kind_and_leave_the_dial(place, holding):
    made, first = subset(place, "s0", quota="source=corpus", seed=0)
    again, same = subset(place, "s0-again", quota="source=corpus", seed=0)
    other, second = subset(place, "s1", quota="source=corpus", seed=1)
    assert first == same
    assert made["k_max"] == again["k_max"] == other["k_max"]
    assert made["k_min"] == other["k_min"]
    ids = [{row["id"] for row in rows} - holding for rows in (first, second)]
    assert len(ids[0]) == len(ids[1])
    assert ids[0] != ids[1]


def test_the_dial_of_the_rest_is_that_of_a_subset_of_its_size(place):
    made, _ = subset(place, "filled", diversity=50)
    plain, _ = subset(
        place, "smaller", diversity=50, size=SIZE - made["no_kind_picks"], no_kind="out"
    )
    for name in ("k_min", "k_max", "kinds_target", "kinds_covered", "coverage_bound", "evenness"):
        assert made[name] == plain[name]
    assert plain["no_kind_picks"] == 0


def test_limits_that_leave_no_room_beside_the_share_are_one_line(place):
    with pytest.raises(DataError) as caught:
        subset(place, "never", token_budget=10**6)
    assert "with samples that hold no kind taken in, the most tokens are" in str(caught.value)
    assert "leave out --no-kind fill" in str(caught.value)
    with pytest.raises(UsageError, match="no_kind fill works with objective kinds of a level"):
        subset(place, "never", strategy="random", index={})


def test_a_warning_names_the_sources_that_fall_out(place):
    made, _ = subset(place, "out", no_kind="out")
    assert made["no_kind_sources"]["yes"] == {"no_kind": 55, "samples": 55}
    assert made["eligible"] == 240 - made["no_kind"]
    lines = show.selected(made).splitlines()
    warning = next(line for line in lines if line.startswith("warning: "))
    assert f"micro-response: {made['no_kind']} of 240 samples (25%) hold no kind" in warning
    assert "sources that fall out: yes (all 55), rare (all 5)" in warning
    assert "--no-kind fill" in warning
    assert any(
        line.startswith("micro-response: band 4:40 (published: 10:500), 75.0% of") for line in lines
    )
    filled, _ = subset(place, "filled-too")
    assert "warning" not in show.selected(filled)
    assert f"{filled['no_kind_picks']} of 40 picks hold no kind" in show.selected(filled)


def test_random_and_the_certificate_are_of_what_the_dial_rules_and_name_what_they_leave_out(place):
    made, _ = subset(place, "ruled")
    ruled = f"{SIZE - made['no_kind_picks']} "
    lines = show.selected(made).splitlines()
    assert any(line.startswith(f"{ruled}random samples with a kind hold ") for line in lines)
    certificate = next(line for line in lines if line.startswith("certificate: "))
    assert certificate.endswith(
        f"any {ruled}samples with a kind hold (at most {made['coverage_bound']} kinds)"
    )
    capped, _ = subset(place, "capped", no_kind="out", max_per_kind=39)
    assert "kinds), max per kind left out of account" in show.selected(capped)
    assert f"{SIZE} random eligible samples hold " in show.selected(capped)


def test_a_grid_warns_once_for_each_strategy(place):
    made = select(
        place / "corpus", out=place / "grid", work=place / "work", size=SIZE,
        grid="strategy=micro-response,micro-instruction diversity=0,100", index=LEVEL["index"],
    )  # fmt: skip
    table = show.selected(made)
    assert table.count("warning: micro-response: 60 of 240 samples (25%) hold no kind") == 1


def test_the_corpus_and_what_may_be_picked_are_two_words(place):
    made, _ = subset(place, "mix", no_kind="out", quota="source=eligible")
    assert made["limits"]["quota"]["source"] == {"rare": 0, "words": 40, "yes": 0}
    with pytest.raises(DataError) as caught:
        subset(place, "never", no_kind="out", quota="source=corpus")
    assert str(caught.value) == (
        "select: source yes is to give 9 samples but only 0 are eligible; source rare is to give "
        "1 samples but only 0 are eligible; --quota source=eligible holds to what may be picked, "
        "--no-kind fill picks more; or lower the size"
    )
    drawn = {"strategy": "random", "index": {}, "no_kind": "out"}
    subset(place, "out", no_kind="out")
    wanted = {}
    for word in ("corpus", "eligible"):
        made, _ = subset(
            place, f"random-{word}", match_length=word, exclude=str(place / "out"), **drawn
        )
        wanted[word] = made["limits"]["tokens_wanted"]
    whole, _ = subset(place, "random-all", match_length="corpus", **drawn)
    assert wanted["corpus"] == whole["limits"]["tokens_wanted"] != wanted["eligible"]


def test_explain_says_that_what_holds_no_kind_was_drawn_or_not(place, holding):
    made, rows = subset(place, "told")
    picked = rows[-1]["id"]
    told = explain(place / "told", picked, work=place / "work")
    assert "drawn at random among those that hold none" in show.explained(told)
    ids = set(corpora.read(place / "corpus", ["id"])["id"].to_pylist())
    left = min(ids - holding - {row["id"] for row in rows})
    told = explain(place / "told", left, work=place / "work")
    assert told["reason"] == "not_drawn"
    assert told["chance"] == round(made["no_kind_picks"] / made["no_kind"], 4)
    subset(place, "told-out", no_kind="out")
    assert explain(place / "told-out", left, work=place / "work")["reason"] == "no_kind"
