"""Processes that are stopped, killed, or work at once leave what one alone would leave."""

from __future__ import annotations

import itertools
import random
import signal
import time

import pytest

from sft_diversity.core import folder, stopping
from sft_diversity.core.errors import Interrupted
from sft_diversity.core.parts import Part
from tests.core import making
from tests.core.making import CORPUS, UNITS, Task, noted, store
from tests.making import left_behind, outputs

KILLED = -signal.SIGKILL


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
