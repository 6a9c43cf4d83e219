"""What the store promises of every stage, on stages that are made up: made, found, planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.core import folder
from sft_diversity.core import store as stores
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.stage import Made
from tests.core.making import CORPUS, UNITS, noted, store
from tests.making import left_behind, outputs

# ---- made, found, made anew ---------------------------------------------------------------------


def test_what_is_asked_for_is_made_after_what_it_needs(root, tmp_path):
    made = store(root).get("total", {"times": 2}, CORPUS)
    assert noted(tmp_path) == [*UNITS, "total"]
    assert json.loads((made.path / "said.json").read_text()) == "a aa aaa" * 2 + "!"
    manifest = folder.read_manifest(made.path, "total")
    assert made == Made(made.path, manifest["key"], CORPUS.rows, there=True)
    assert made.path == root / "total" / manifest["key"][:16]
    assert manifest["result"] == {"length": 17}
    assert manifest["seeds"] == {"seed": 7}
    assert manifest["recipe"] == {"again": True}
    counts = folder.read_manifest(next(root.glob("count/*")))
    assert manifest["inputs"] == {"corpus": CORPUS.key, "counts": counts["key"], "shout": "shout!"}
    assert manifest["lineage"]["counts"]["config"] == counts["config"]
    assert manifest["lineage"]["shout"] == {"stage": "shout", "version": 1}
    assert counts["run"]["wrote"] == 3
    assert left_behind(root) == []


def test_what_is_there_is_found_and_nothing_is_made_again(root, tmp_path):
    first = store(root).get("total", {}, CORPUS)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    noted(tmp_path)
    said: list[str] = []
    kept = store(root, say=said.append)
    assert kept.get("total", {}, CORPUS) == first
    assert kept.get("total", {}, CORPUS) == first
    assert said == [f"total x1: {first.path} is up to date"]
    assert noted(tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(
    "other", [{"word": "b"}, {"model": "n"}, {"scale": "high"}, {"units": 4}], ids=str
)
def test_other_options_are_other_outputs_side_by_side(root, other):
    kept = store(root)
    first = kept.get("count", {}, CORPUS)
    second = kept.get("count", other, CORPUS)
    assert first.path != second.path
    for _ in range(2):  # found as well as made
        assert kept.get("count", {}, CORPUS) == first
        assert kept.get("count", other, CORPUS) == second
    assert kept.get("count", {}, Made(CORPUS.path, "another corpus", 30)).path != first.path
    assert [path for path, _ in store(root).finished("count")] == sorted(root.glob("count/*"))


def test_options_that_two_outputs_share_are_made_once(root, tmp_path):
    kept = store(root)
    for times in (1, 2, 3):
        kept.get("total", {"times": times}, CORPUS)
    assert noted(tmp_path) == [*UNITS, "total", "total", "total"]


def test_what_a_machine_resolves_is_what_counts(root, here):
    named = store(root).get("count", {"scale": "high"}, CORPUS)
    low = store(root).get("count", {}, CORPUS)
    here.scale = "high"
    assert store(root).get("count", {}, CORPUS) == named
    assert low != named
    assert folder.read_manifest(named.path)["config"]["scale"] == "high"


def test_a_new_version_of_a_stage_makes_anew_says_why_and_leaves_the_old(root):
    old = store(root).get("count", {}, CORPUS)
    said: list[str] = []
    new = store(root, say=said.append, count=2).get("count", {}, CORPUS)
    assert said[0] == "count: new, recomputed because the stage's version went from 1 to 2"
    assert {old.path, new.path} == set(root.glob("count/*"))
    assert folder.read_manifest(new.path)["version"] == 2


def test_what_the_work_folder_has_too_is_made_at_another_place_for_no_cause(root, tmp_path):
    store(root).get("count", {}, CORPUS)
    said: list[str] = []
    store(root, say=said.append).get("count", {}, CORPUS, out=tmp_path / "mine")
    assert said[0] == "count: new, starting"


def test_a_place_of_ones_own_is_filled_and_filled_anew(root, tmp_path):
    said: list[str] = []
    kept, out = store(root, say=said.append), tmp_path / "mine"
    assert kept.get("total", {}, CORPUS, out=out).path == out
    assert store(root, say=said.append).get("total", {}, CORPUS, out=out).path == out
    kept.get("total", {"times": 2}, CORPUS, out=out)
    assert [line for line in said if line.startswith("total")] == [
        "total x1: new, starting",
        f"total x1: reused, {out} is up to date",
        "total x2: new, recomputed because times changed: 1 -> 2",
    ]
    assert not (root / "total").exists()
    assert folder.verify(out)["faults"] == []
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/text").touch()
    noted(tmp_path)
    with pytest.raises(UsageError, match="is no output of `total`"):
        kept.get("total", {"count": {"word": "c"}}, CORPUS, out=tmp_path / "thesis")
    assert noted(tmp_path) == []


def test_what_a_stage_refuses_is_refused_before_anything_is_made(root):
    wrong = {"count": {"word": "refused"}}
    for ask in (store(root).get, store(root).check, store(root, dry=True).get):
        with pytest.raises(UsageError, match="give another"):
            ask("total", wrong, CORPUS)
        with pytest.raises(UsageError, match="unknown key `wort`; did you mean `word`"):
            ask("total", {"count": {"wort": "b"}}, CORPUS)
    store(root).check("total", {}, CORPUS)
    assert not root.exists()


def test_damage_of_what_is_read_is_named(root):
    made = store(root).get("count", {}, CORPUS)
    (made.path / "1.txt").write_text("aaaaa")
    folder._sound.clear()  # as another process sees it
    for stage in ("count", "total"):
        with pytest.raises(DataError, match=r"1.txt has 5 bytes, not 2.*make it again"):
            store(root).get(stage, {}, CORPUS)
    (made.path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest.json is damaged, .*remove the folder and make"):
        store(root).get("total", {}, CORPUS)


def test_a_corpus_is_known_by_its_samples(tmp_path):
    from tests.embedding import make

    first = make.corpus(tmp_path / "a", make.pairs(7))
    second = make.corpus(tmp_path / "b", make.pairs(7))
    one, other = stores.corpus_at(first), stores.corpus_at(second)
    assert (one.key, one.rows, one.there) == (other.key, 7, True)


# ---- the plan -----------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["a", "b", "c", "ab"]), max_size=3), st.sampled_from("abc"))
def test_the_plan_is_what_is_done(tmp_path_factory, before, word):
    root = tmp_path_factory.mktemp("plan") / "work"
    for name in before:
        if len(name) > 1:
            store(root).get_part("total", {"count": {"word": name[0]}}, CORPUS, Part(1, 2))
        else:
            store(root).get(*(("total", {"count": {"word": name}}) if name != "c" else
                              ("count", {"word": name})), CORPUS)  # fmt: skip
    there = outputs(root)
    dry = store(root, dry=True)
    planned = dry.get("total", {"count": {"word": word}}, CORPUS)
    assert outputs(root) == there
    assert [step["stage"] for step in dry.plan] == ["count", "total"]
    assert dry.get("total", {"count": {"word": word}}, CORPUS) == planned
    assert len(dry.plan) == 2, "a step is planned twice"
    made = store(root).get("total", {"count": {"word": word}}, CORPUS)
    assert (made.path, made.key) == (planned.path, planned.key)
    steps = {str(Path(step["out"]).relative_to(root)): step["state"] for step in dry.plan}
    assert outputs(root).keys() - there.keys() == {n for n, s in steps.items() if s == "to do"}
    assert {n for n, s in steps.items() if s == "cached"} <= there.keys()
    assert planned.there == (str(made.path.relative_to(root)) in there)


def test_a_plan_has_costs_and_touches_nothing(root, here):
    kept = store(root, dry=True)
    kept.get("total", {}, CORPUS)
    assert [(step["state"], step["rows"], step["seconds"]) for step in kept.plan] == [
        ("to do", 30, 6.0), ("to do", 30, 0.0),
    ]  # fmt: skip
    assert not root.exists()
    store(root).get("total", {}, CORPUS)
    kept = store(root, dry=True)
    kept.get("total", {}, CORPUS)
    assert [(step["state"], step["seconds"]) for step in kept.plan] == [("cached", 0.0)] * 2


def test_what_is_not_fetched_or_not_made_yet_is_planned_all_the_same(root, here):
    here.fetched = False
    kept = store(root, dry=True)
    assert kept.get("total", {}, CORPUS).key is None
    assert [step["out"].split("/")[-1] for step in kept.plan] == ["not made yet"] * 2
    part = store(root, dry=True)
    part.get_part("total", {}, CORPUS, Part(1, 3))
    assert [(step["state"], step["seconds"]) for step in part.plan] == [("to do", 2.0)]
    later = store(root, dry=True)
    later.get("total", {}, Made(root / "corpus", None, 12, there=False))
    assert [(step["rows"], "seconds" in step) for step in later.plan] == [(12, False)] * 2
    assert store(root).get("total", {}, CORPUS).there
    assert left_behind(root) == []
