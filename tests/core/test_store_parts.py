"""Parts of an output add up to it, in any order; what parts cannot be is refused."""

from __future__ import annotations

import shutil
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.core import folder, locks
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.store import PARTS
from tests.core import making
from tests.core.making import CORPUS, UNITS, Task, noted, store
from tests.making import contents, left_behind, outputs


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


def test_a_draft_in_which_a_part_is_under_way_is_not_removed(root, tmp_path, alone):
    """Of the unit that it is at some files are there already; the others would come alone."""
    store(root).get_part("count", {}, CORPUS, Part(1, 3))
    record = next((root / PARTS).glob("*/*"))
    with locks.alone(record.with_name("2-of-3"), "count"):
        store(root).get("count", {}, CORPUS, out=tmp_path / "mine")
        assert list((root / "count").glob(".*.partial"))
    store(root).get("total", {}, CORPUS)
    assert outputs(root) == alone
