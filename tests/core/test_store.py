"""What the store promises of every stage, on stages that are made up and by real processes."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.core import folder, stopping
from sft_diversity.core import store as stores
from sft_diversity.core.errors import DataError, Interrupted, UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.stage import Made
from tests.core import making
from tests.core.making import CORPUS, Task, noted, store
from tests.making import contents, left_behind, outputs

UNITS = ["words/0.txt", "1.txt", "words/2.txt"]
KILLED = -signal.SIGKILL


@pytest.fixture(autouse=True)
def here(tmp_path):
    """This machine, as it is at the start of every test."""
    making.here = making.Here(beside=tmp_path)
    yield making.here
    making.here = making.Here()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def alone(tmp_path):
    """The outputs of a work folder in which `total` was made undisturbed."""
    place = tmp_path / "alone"
    store(place).get("total", {}, CORPUS)
    noted(tmp_path)
    return outputs(place)


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
    with pytest.raises(UsageError, match="is no output of `count`; name another folder or remove"):
        store(root).get("total", {}, CORPUS)


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
    kept.note("other", root / "x", {"rows": 3, "state": "reused"})
    assert kept.plan[-1] == {"stage": "other", "rows": 3, "state": "cached", "out": f"{root}/x"}


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


# ---- stopped and killed -------------------------------------------------------------------------


def test_a_run_that_is_stopped_keeps_its_units(root, tmp_path, alone, monkeypatch):
    safe, calls = stopping.safe_point, itertools.count()

    def third(stage):
        if next(calls) == 2:
            raise Interrupted(f"{stage}: stopped")
        safe(stage)

    monkeypatch.setattr(stopping, "safe_point", third)
    with pytest.raises(Interrupted, match="count: stopped"):
        store(root).get("total", {}, CORPUS)
    assert outputs(root) == {}
    assert not list(root.rglob("*.lock")), "others could not go on"
    assert noted(tmp_path) == UNITS[:2]
    said: list[str] = []
    store(root, say=said.append).get("total", {}, CORPUS)
    assert said[0] == "count: resumed, resumed: an earlier run was stopped"
    assert noted(tmp_path) == [*UNITS[2:], "total"]
    assert outputs(root) == alone
    assert left_behind(root) == []


def without_locks(root):
    """Return what is left behind, but for the empty locks of the killed, which hold nobody up."""
    return [name for name in left_behind(root) if not name.endswith(".lock")]


def finished_units(root):
    """Return the units that a killed run has left, in the draft or in the output."""
    return {name for name in UNITS for _ in root.glob(f"count/*/{name}")}


@pytest.mark.parametrize(
    ("part", "renames"),
    [
        ("", 10),  # work.json, three units, manifest, folder; three files and folder of `total`
        ("1/1", 10),  # work.json, manifest, folder of the record; each unit twice; a draft's folder
    ],
)
def test_killed_before_any_rename_the_same_call_ends_with_the_same_bytes(
    tmp_path, alone, part, renames
):
    for number in itertools.count():
        root = tmp_path / f"killed-{number}" / "work"
        root.parent.mkdir()
        making.here.beside = root.parent
        code = making.run(root, Task(part=part, die_before=number))
        if code == 0:
            break
        assert code == KILLED
        there, units = outputs(root), finished_units(root)
        assert all(folder.verify(root / place)["faults"] == [] for place in there)
        noted(root.parent)
        dry = store(root, dry=True)
        assert not making.do(dry, Task(part=part)).there
        making.do(store(root), Task(part=part))
        assert set(noted(root.parent)) - {"total"} == set(UNITS) - units
        store(root).get("total", {}, CORPUS)
        assert set(noted(root.parent)) <= {"total"}
        assert outputs(root) == alone
        assert without_locks(root) == []
    assert number == renames


@pytest.mark.parametrize("seed", range(4))
def test_killed_again_and_again_at_random_moments_it_ends_with_the_same_bytes(
    root, tmp_path, alone, seed
):
    dice = random.Random(seed)
    tasks = [Task(), Task("count"), *(Task(part=f"{i}/2") for i in (1, 2))]
    for _ in range(8):
        processes = [making.start(root, task, pause_s=0.01) for task in dice.sample(tasks, 2)]
        for process in processes:
            time.sleep(dice.uniform(0, 0.12))
            process.kill()
            process.join()
        for place in outputs(root):
            assert folder.verify(root / place)["faults"] == []
    for i in (1, 2):
        store(root).get_part("total", {}, CORPUS, Part(i, 2))
    store(root).get("total", {}, CORPUS)
    assert outputs(root) == alone
    assert without_locks(root) == []


# ---- processes at once --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_processes_at_once_make_everything_once(root, tmp_path, seed):
    dice = random.Random(seed)
    options = dice.choice([[{}, {}], [{}, {"times": 2}], [{}, {"count": {"word": "b"}}]])
    processes = []
    for one in [*options, dice.choice(options)]:
        processes.append(making.start(root, Task(options=one), pause_s=dice.choice([0, 0.01])))
        time.sleep(dice.uniform(0, 0.02))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    made = noted(tmp_path)
    for one in options:
        store(root).get("total", one, CORPUS)
    assert noted(tmp_path) == []
    counts = len(list(root.glob("count/*")))
    assert sorted(made) == sorted(UNITS * counts + ["total"] * len(list(root.glob("total/*"))))
    assert left_behind(root) == []


@pytest.mark.parametrize("seed", range(6))
def test_parts_at_once_and_with_the_whole_end_with_the_same_bytes(root, tmp_path, alone, seed):
    dice = random.Random(seed)
    tasks = [Task(part=f"{i}/3") for i in (1, 2, 3)] + [Task()] * dice.choice([0, 1])
    dice.shuffle(tasks)
    processes = []
    for task in tasks:
        processes.append(making.start(root, task, pause_s=dice.choice([0, 0.01])))
        time.sleep(dice.uniform(0, 0.04))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(tasks)
    if Task() not in tasks:
        assert sorted(noted(tmp_path)) == sorted(UNITS)
    store(root).get("total", {}, CORPUS)
    assert outputs(root) == alone
    assert left_behind(root) == []
    assert len(list(root.glob("parts/*/*/manifest.json"))) == 3


@pytest.mark.parametrize("moment", ["units", "each", "writing"])
def test_a_part_that_the_whole_overtakes_leaves_nothing(root, tmp_path, alone, moment):
    part = making.start(root, Task(part="2/3"), hold=moment)
    while not (tmp_path / "holding").exists():
        time.sleep(0.002)
    store(root).get("total", {}, CORPUS)
    assert outputs(root) == alone
    (tmp_path / "go").touch()
    part.join()
    assert part.exitcode == 0
    assert outputs(root) == alone
    assert left_behind(root) == []
    assert all(folder.verify(root / place)["faults"] == [] for place in outputs(root))


def test_what_a_part_finishes_meanwhile_the_whole_does_not_make(root, tmp_path, alone):
    whole = making.start(root, Task(), hold="writing")
    while not (tmp_path / "holding").exists():
        time.sleep(0.002)
    assert making.run(root, Task(part="1/1")) == 0
    assert noted(tmp_path) == UNITS
    (tmp_path / "go").touch()
    whole.join()
    assert noted(tmp_path) == [UNITS[0], "total"]
    assert outputs(root) == alone
    assert left_behind(root) == []


# ---- parts --------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.permutations(range(1, 4)), st.sampled_from(["count", "total"]))
def test_parts_in_any_order_are_the_whole(tmp_path_factory, order, stage):
    tmp_path = tmp_path_factory.mktemp("parts")
    making.here.beside = tmp_path
    root = tmp_path / "work"
    for number in order:
        part = Part(number, 3)
        dry = store(root, dry=True)
        planned = dry.get_part(stage, {}, CORPUS, part)
        assert not planned.there
        assert [(step["stage"], step["rows"], step["state"]) for step in dry.plan] == [
            ("count", 10, "to do")
        ]
        assert (dry.plan[0]["seconds"], dry.plan[0]["bytes"]) == (2.0, 100)
        made = store(root).get_part(stage, {}, CORPUS, part)
        assert (made.path, made.there) == (planned.path, True)
        assert noted(tmp_path) == [UNITS[number - 1]]
        assert folder.verify(made.path)["faults"] == []
        assert folder.read_manifest(made.path)["result"] == {
            "part": f"{number}/3", "rows": 10, "units": 1,
        }  # fmt: skip
        store(root).get_part(stage, {}, CORPUS, part)
        assert noted(tmp_path) == []
        again = store(root, dry=True)
        again.get_part(stage, {}, CORPUS, part)
        assert [step["state"] for step in again.plan] == ["cached"]
    assert outputs(root) == {}
    store(root).get(stage, {}, CORPUS)
    assert noted(tmp_path) == ["total"] * (stage == "total")
    store(tmp_path / "alone").get(stage, {}, CORPUS)
    assert outputs(root) == outputs(tmp_path / "alone")
    assert left_behind(root) == []


def test_what_parts_made_serves_a_place_of_ones_own(root, tmp_path):
    for number in (1, 3):
        store(root).get_part("count", {}, CORPUS, Part(number, 3))
    noted(tmp_path)
    store(root).get("count", {}, CORPUS, out=tmp_path / "mine")
    assert noted(tmp_path) == [UNITS[1]]
    store(tmp_path / "alone").get("count", {}, CORPUS, out=tmp_path / "other")
    assert contents(tmp_path / "mine") == contents(tmp_path / "other")
    assert left_behind(tmp_path) == []


def test_a_place_of_ones_own_takes_no_draft_from_who_works_on_it(root, tmp_path, alone):
    whole = making.start(root, Task(), hold="join")
    while not (tmp_path / "holding").exists():
        time.sleep(0.002)
    noted(tmp_path)
    store(root).get("count", {}, CORPUS, out=tmp_path / "mine")
    (tmp_path / "go").touch()
    whole.join()
    assert whole.exitcode == 0
    assert noted(tmp_path) == ["total"]
    assert outputs(root) == alone
    assert left_behind(tmp_path) == []


def test_what_parts_lack_the_whole_makes(root, tmp_path, alone):
    store(root).get_part("total", {}, CORPUS, Part(2, 3))
    store(root).get_part("total", {}, CORPUS, Part(1, 2))  # another split: units 0 and 2
    assert sorted(noted(tmp_path)) == sorted(UNITS)
    store(root).get("total", {}, CORPUS)
    assert noted(tmp_path) == ["total"]
    assert outputs(root) == alone


def test_a_part_of_what_is_finished_is_finished(root, tmp_path):
    store(root).get("total", {}, CORPUS)
    noted(tmp_path)
    made = store(root).get_part("total", {}, CORPUS, Part(1, 2))
    assert folder.read_manifest(made.path)["result"]["units"] == 2
    assert noted(tmp_path) == []
    assert left_behind(root) == []


def test_parts_whose_units_are_gone_are_made_again(root, tmp_path, alone):
    for number in (1, 2):
        store(root).get_part("total", {}, CORPUS, Part(number, 2))
    shutil.rmtree(next(root.glob("count/.*.partial")))
    noted(tmp_path)
    dry = store(root, dry=True)
    dry.get_part("total", {}, CORPUS, Part(1, 2))
    assert [step["state"] for step in dry.plan] == ["to do"]
    store(root).get_part("total", {}, CORPUS, Part(1, 2))
    assert noted(tmp_path) == [UNITS[0], UNITS[2]]
    store(root).get("total", {}, CORPUS)
    assert outputs(root) == alone


def test_parts_of_other_options_lie_apart(root, here):
    kept = store(root)
    places = {
        kept.get_part("total", options, CORPUS, Part(1, 3)).path
        for options in ({}, {"count": {"word": "b"}}, {"count": {"model": "n"}}, {"times": 2})
    }
    assert len(places) == 4
    here.scale = "high"  # what a machine has does not move the record
    request = store(root).request("total", {}, CORPUS)
    assert store(root).part_folder(request, Part(1, 3)) in places


def test_parts_that_another_machine_resolved_otherwise_are_refused(root, here):
    store(root).get_part("total", {}, CORPUS, Part(1, 2))
    here.scale = "high"
    for refused in (store(root), store(root, dry=True)):
        with pytest.raises(
            UsageError, match=r'part 1/2 was made otherwise .*: scale changed: "low"'
        ):
            refused.get_part("total", {}, CORPUS, Part(2, 2))
        with pytest.raises(UsageError, match="give that option on every machine, or remove"):
            refused.get("total", {}, CORPUS)
    named = {"count": {"scale": "low"}}
    store(root).get_part("total", named, CORPUS, Part(2, 2))
    low = store(root).get("total", named, CORPUS)
    here.scale = "low"
    assert store(root).get("total", {}, CORPUS) == low


def test_a_part_beyond_the_units_has_nothing_to_do_and_is_finished(root):
    made = store(root).get_part("total", {}, CORPUS, Part(4, 4))
    assert folder.read_manifest(made.path)["result"]["units"] == 0


def test_what_cannot_be_split_says_so(root):
    with pytest.raises(UsageError, match="lone: more jobs would not speed it up"):
        store(root).get_part("lone", {}, CORPUS, Part(1, 2))
    assert store(root).get("lone", {"number": 1}).there
    assert store(root).get("lone", {"number": 1}).rows == 0


def test_a_corpus_is_known_by_its_samples(tmp_path):
    from tests.embedding import make

    first = make.corpus(tmp_path / "a", make.pairs(7))
    second = make.corpus(tmp_path / "b", make.pairs(7))
    one, other = stores.corpus_at(first), stores.corpus_at(second)
    assert (one.key, one.rows, one.there) == (other.key, 7, True)
