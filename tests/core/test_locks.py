"""Two processes at one output: the second waits for the first, and neither harms the other."""

from __future__ import annotations

import time

from sft_diversity.core import folder, locks
from sft_diversity.core.drafts import Work, open_draft
from tests.processes import Child

WORK = Work("demo", 1, {"corpus": "abc"}, {"size": 3})
SLOW = """
import sys, time
from pathlib import Path
from sft_diversity.core.drafts import Work, open_draft
out, key = Path(sys.argv[1]), sys.argv[2]
draft = open_draft(out, Work("demo", 1, {"corpus": key}, {"size": 3}))
print(draft.state, flush=True)
if not draft.reused:
    draft.write_json("a.json", key)
    while not out.with_name("go").exists():
        time.sleep(0.01)
    draft.write_json("b.json", key)
    draft.commit()
"""


def start(out, key="abc"):
    return Child(SLOW, out, key)


def begun(out):
    """Start a writer and return it once it is in the middle of its work, until `go` is there."""
    process = start(out)
    process.until((out.parent / f".{out.name}.partial" / "a.json").exists)
    assert process.poll() is None, process.stderr
    return process


def waiting(first, out, key="abc"):
    """Start a second writer, and let the first go on once the second says that it waits."""
    second = start(out, key)
    second.until(lambda: f"demo: waiting for process {first.pid}, which writes" in second.stderr)
    assert second.poll() is None, second.stderr
    out.with_name("go").touch()
    assert (first.wait(), second.wait()) == (0, 0)
    out.with_name("go").unlink()
    assert folder.verify(out)["faults"] == []
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return second.stdout


def test_a_second_writer_waits_says_so_and_finds_the_folder_done(tmp_path):
    assert waiting(begun(tmp_path / "x"), tmp_path / "x") == "reused\n"


def test_a_second_writer_of_other_work_does_not_touch_the_draft_of_the_first(tmp_path):
    assert waiting(begun(tmp_path / "x"), tmp_path / "x", "other") == "new\n"
    assert folder.read_manifest(tmp_path / "x")["inputs"] == {"corpus": "other"}


def test_a_killed_writer_holds_nobody_up(tmp_path):
    first = begun(tmp_path / "x")
    assert locks.held(tmp_path / "x")
    with locks.alone(tmp_path / "x", "demo", wait=False) as got:
        assert not got
    first.kill()
    assert not locks.held(tmp_path / "x")
    draft = open_draft(tmp_path / "x", WORK)
    assert draft.state == "resumed"
    draft.commit()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x"]


def test_whoever_waited_for_a_lock_that_was_removed_asks_for_the_new_one(tmp_path):
    """Four processes in turn at one counter, each holding the lock for an instant."""
    code = (
        "import sys; from pathlib import Path; from sft_diversity.core import locks\n"
        "place = Path(sys.argv[1])\n"
        "for _ in range(25):\n"
        "    lock = locks.acquire(place / 'x', 'demo', lambda line: None)\n"
        "    number = int((place / 'n').read_text()); (place / 'n').write_text(str(number + 1))\n"
        "    lock.release()\n"
    )
    (tmp_path / "n").write_text("0")
    workers = [Child(code, tmp_path) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    assert (tmp_path / "n").read_text() == "100"


def test_where_the_file_system_has_no_flock_a_file_names_the_holder(tmp_path, monkeypatch):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = locks.acquire(tmp_path / "x", "demo")
    locks._held.clear()  # as another process sees it
    assert locks.acquire(tmp_path / "x", "demo", wait=False) is None
    assert locks.held(tmp_path / "x")
    lock.release()
    assert not locks.held(tmp_path / "x")
    locks.acquire(tmp_path / "x", "demo", wait=False).release()


def test_a_process_takes_up_what_it_began_itself(tmp_path):
    first = open_draft(tmp_path / "x", WORK)
    first.write_json("a.json", 1)
    started = time.monotonic()
    again = open_draft(tmp_path / "x", WORK)
    assert again.state == "resumed"
    again.commit()
    assert time.monotonic() - started < 5
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_is_finished_is_found_where_no_lock_can_be_made(tmp_path, monkeypatch):
    open_draft(tmp_path / "x", WORK).commit()

    def refuse(*_, **__):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(locks, "acquire", refuse)
    assert open_draft(tmp_path / "x", WORK).reused
