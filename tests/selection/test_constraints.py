"""Constraints from options to a finished subset, on a small corpus with sources and meta."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from sft_diversity import ingest
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.verbs.selecting import select

SIZE = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("constraints")
    rng = np.random.default_rng(0)
    for name, rows in (("a", 200), ("b", 60)):
        lines = [
            {
                "instruction": f"Question {name}{i}?",
                "output": " ".join(f"w{k}" for k in rng.integers(0, 50, size=rng.integers(1, 60))),
                "lang": "en" if i % 4 else "de",
                "rating": None if i % 10 == 0 else i % 7,
            }
            for i in range(rows)
        ]
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    ingest(place / "a.jsonl", place / "b.jsonl", out=place / "corpus")
    return place


def subset(place, name, **options):
    options = {"strategy": "random", "size": SIZE} | options
    made = select(place / "corpus", out=place / name, work=place / "work", **options)
    files = sorted((place / name / "samples").glob("*.parquet"))
    return made, [row for path in files for row in pq.read_table(path).to_pylist()]


def test_a_quota_as_in_the_corpus_keeps_the_mix_to_the_sample(place):
    made, rows = subset(place, "mix", quota="source=corpus")
    assert sum(row["source"] == "a" for row in rows) == round(SIZE * 200 / 260)
    assert made["limits"]["quota"]["source"] == {"a": 31, "b": 9}


def test_quotas_on_source_and_meta_hold_together(place):
    _, rows = subset(place, "joined", quota="source=a:0.5,b:0.5; meta.lang=de:0.75,en:0.25")
    assert sum(row["source"] == "b" for row in rows) == SIZE / 2
    assert sum(json.loads(row["meta"])["lang"] == "de" for row in rows) == 0.75 * SIZE


def test_a_length_match_holds_bins_and_mean(place):

    made, rows = subset(place, "matched", match_length="corpus", quota="source=a:0.5,b:0.5")
    wanted, got = made["limits"]["tokens_wanted"], made["limits"]["tokens"]
    assert abs(got / wanted - 1) <= 0.01
    assert len({row["id"] for row in rows}) == SIZE


def test_a_subset_can_be_matched_avoided_and_grown(place):
    _, first = subset(place, "first", strategy="longest", size=20)
    made, _ = subset(place, "like", match_length=str(place / "first"), size=20)
    assert made["limits"]["tokens_met"]
    ids = [row["id"] for row in first]
    _, others = subset(place, "others", exclude=str(place / "first"))
    assert not set(ids) & {row["id"] for row in others}
    (place / "ids.txt").write_text("\n".join(ids[:5]) + "\n", "utf-8")
    _, grown = subset(place, "grown", must_include=str(place / "ids.txt"))
    assert [row["id"] for row in grown[:5]] == ids[:5]
    with pytest.raises(UsageError, match="5 samples are both in must-include and in exclude"):
        subset(place, "both", must_include=str(place / "ids.txt"), exclude=str(place / "first"))


def test_a_quality_floor_drops_the_worst_and_what_has_no_score(place):
    made, rows = subset(place, "good", quality="meta.rating", quality_floor=50.0)
    ratings = [json.loads(row["meta"])["rating"] for row in rows]
    assert None not in ratings
    assert min(ratings) >= 3
    mean = made["limits"]["quality_mean"]
    assert mean["subset"] == pytest.approx(np.mean(ratings))
    assert mean["eligible"] > mean["corpus"]


@pytest.mark.parametrize(
    ("options", "fault", "reason"),
    [
        ({"quota": "source"}, UsageError, "must be COLUMN=corpus, COLUMN=eligible or"),
        ({"quota": "source=a:x"}, UsageError, "must be COLUMN=corpus, COLUMN=eligible or"),
        ({"quota": "source=c:1"}, DataError, "source is never 'c'; it is a, b"),
        ({"quota": "source=a:0.7,b:0.5"}, UsageError, "shares of source add up to 1.2"),
        ({"quota": "source=a:0.7"}, UsageError, "shares of source add up to 0.7"),
        ({"quota": "source=a:0.5,a:1"}, UsageError, "each value named once"),
        ({"quota": ""}, UsageError, "`quota` is empty; give a value, or leave it out"),
        ({"quota": " "}, UsageError, "quota is '' but must be COLUMN=corpus"),
        ({"quota": ";"}, UsageError, "quota is '' but must be COLUMN=corpus"),
        ({"size": True}, UsageError, "`size` is true, which it cannot be"),
        ({"quota": "colour=corpus"}, UsageError, "no column 'colour'; known: id, source"),
        ({"quota": "meta.colour=corpus"}, UsageError, "no sample has 'colour' in its meta"),
        ({"quota": "source=b:1", "size": 70}, DataError, "source b is to give 70 samples but"),
        ({"quality": "meta.lang"}, DataError, "meta.lang is no number everywhere"),
        ({"must_include": "nosuch"}, UsageError, "nosuch is not there; give a subset folder"),
        ({"token_budget": 10}, DataError, "the fewest tokens are"),
        ({"strategy": "longest", "token_budget": 10}, UsageError, "contradict strategy longest"),
    ],
)
def test_what_cannot_be_held_is_one_line_with_the_way_out(place, options, fault, reason):
    with pytest.raises(fault) as caught:
        subset(place, "never", **options)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (place / "never").exists()


@pytest.mark.parametrize("option", ["exclude", "must_include", "match_length"])
@pytest.mark.parametrize(
    ("text", "fault", "reason"),
    [
        ("nobody\n", DataError, r"ids\.txt has 1 ids that are not in this corpus \('nobody'\)"),
        (" \n\n", UsageError, r"ids\.txt is empty; give a subset folder"),
    ],
)
def test_ids_that_name_no_sample_are_refused(place, tmp_path, option, text, fault, reason):
    ids = pq.read_table(next((place / "corpus/samples").glob("*.parquet")))["id"].to_pylist()
    known = ids[0] + "\n" if text.strip() else ""
    (tmp_path / "ids.txt").write_text(known + text, "utf-8")
    with pytest.raises(fault, match=f"{option.replace('_', '-')}: .*{reason}"):
        subset(place, "never", **{option: str(tmp_path / "ids.txt")})


def test_of_a_subset_that_is_excluded_some_may_be_gone_but_not_all(place, tmp_path):
    subset(place, "drawn", size=200)
    rows = [json.loads(line) for line in (place / "a.jsonl").read_text("utf-8").splitlines()]
    for name, kept in (("fewer", rows[::2]), ("others", [{"instruction": "a", "output": "b"}])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, kept)), "utf-8")
        ingest(tmp_path / f"{name}.jsonl", out=tmp_path / name)
    asked = {"strategy": "random", "exclude": str(place / "drawn"), "work": tmp_path / "work"}
    made = select(tmp_path / "fewer", size=5, out=tmp_path / "out", **asked)
    drawn = {
        row["id"]
        for path in (place / "drawn/samples").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    left = {
        row["id"]
        for path in (tmp_path / "fewer/samples").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    assert made["limits"]["not_eligible"]["excluded"] == len(drawn & left)
    with pytest.raises(DataError, match="drawn has 200 ids that are not in this corpus"):
        select(tmp_path / "others", size=1, out=tmp_path / "out2", **asked)
