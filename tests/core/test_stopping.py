"""Signals while a stage computes: wherever it is, in Python's code or in compiled code."""

from __future__ import annotations

import signal

import pytest

from tests.processes import SFTDIV, Child

WORK = """
import hashlib, sys, time
from pathlib import Path
from sft_diversity.core import stopping

def python():
    while True:
        time.sleep(0.001)

def compiled():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # minutes, and it sees no signal

def translated():  # as numba's dispatcher does, and polars
    try:
        python()
    except KeyboardInterrupt:
        raise SystemError("returned a result with an exception set")

def nothing():
    pass

def failing():
    raise ValueError("ours")

if sys.argv[2] == "installed":
    stopping.install()
stopping.GRACE_S = 0.05
try:
    with stopping.at_once("demo"):
        Path("begun").touch()
        globals()[sys.argv[1]]()
    print("whole")
except stopping.Interrupted as fault:
    print(f"stopped: {fault}")
    sys.exit(fault.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("what", ["python", "compiled", "translated"])
def test_a_signal_stops_a_computation_wherever_it_is(tmp_path, what, number):
    child = Child(WORK, what, "installed", cwd=tmp_path)
    child.until((tmp_path / "begun").exists)
    child.send_signal(number)
    assert child.wait() == 75
    said = f"demo: stopped by {number.name}; run the same command to resume"
    assert said in child.stdout + child.stderr
    assert "Traceback" not in child.stderr


@pytest.mark.parametrize("installed", ["installed", "not"])
def test_without_a_signal_nothing_is_stopped(tmp_path, installed):
    child = Child(WORK, "nothing", installed, cwd=tmp_path)
    assert child.wait() == 0
    assert (child.stdout, child.stderr) == ("whole\n", "")


def test_an_error_without_a_signal_stays_what_it_is(tmp_path):
    child = Child(WORK, "failing", "installed", cwd=tmp_path)
    assert child.wait() == 1
    assert "ValueError: ours" in child.stderr


SELECT = f"""
import os, signal, time
from sft_diversity.selection import choices
whole = choices.choose_rows
def slow(pool, config):
    if config.seed == 1:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return whole(pool, config)
choices.choose_rows = slow
{SFTDIV}
"""
GRID = ("select", "pool.jsonl", "--strategy", "random", "--size", "3", "--grid", "seed=0,1,2")


def test_a_grid_that_is_stopped_keeps_what_it_has_and_goes_on(tmp_path):
    rows = "".join(f'{{"instruction": "a {i}", "output": "b {i}"}}\n' for i in range(9))
    (tmp_path / "pool.jsonl").write_text(rows, "utf-8")
    stopped = Child(SELECT, *GRID, "--out", "grid", cwd=tmp_path)
    assert stopped.wait() == 75
    last = stopped.stderr.splitlines()[-1]
    assert last == "error: select: stopped by SIGTERM; run the same command to resume"
    assert [path.parent.name for path in (tmp_path / "grid").glob("*/manifest.json")] == ["s0"]
    again = Child(SFTDIV, *GRID, "--out", "grid", cwd=tmp_path)
    assert again.wait() == 0
    assert "grid/s0 is up to date" in again.stderr
    undisturbed = Child(SFTDIV, *GRID, "--out", "other", cwd=tmp_path)
    assert undisturbed.wait() == 0
    for path in sorted((tmp_path / "other").glob("*/samples/*")):
        again_at = tmp_path / "grid" / path.relative_to(tmp_path / "other")
        assert again_at.read_bytes() == path.read_bytes()


TWICE = f"""
import os, signal
from sft_diversity.core import folder
def verify(place):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
folder.verify = verify
{SFTDIV}
"""


def test_a_second_interrupt_ends_in_one_line_that_says_how_to_resume(tmp_path):
    child = Child(TWICE, "verify", ".", cwd=tmp_path)
    assert child.wait() == 75
    last = child.stderr.splitlines()[-1]
    assert last == "error: interrupted; run the same command to resume"
