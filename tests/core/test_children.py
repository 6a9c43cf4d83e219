"""Children end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from sft_diversity.core import children
from sft_diversity.core.errors import DataError, UsageError

PARENT = """
import subprocess, sys
from sft_diversity.core import children
code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
subprocess.Popen(children.tied_command(sys.executable, code)).wait()
"""


def alive(pid: int) -> bool:
    """Whether it runs: a zombie that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pid: int) -> bool:
    """Whether it ends before long."""
    end = time.monotonic() + 300
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel does it")


@linux
def test_a_child_is_killed_with_its_parent():
    argv = [sys.executable, "-c", PARENT]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    assert gone(child)


def test_a_child_whose_parent_has_gone_does_nothing():
    code = "import os; from sft_diversity.core.children import end_with; end_with(os.getpid())"
    code += "; print('went on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_arguments_are_the_codes_own():
    code = "import sys; print(sys.argv[1:])"
    argv = children.tied_command(sys.executable, code, "a b", "--c")
    assert subprocess.check_output(argv, text=True).strip() == "['a b', '--c']"


WORK = """
import os, time

def begin(): print(os.getpid(), flush=True)
def work(unit): time.sleep(600)
"""
POOL = """
import work
from sft_diversity.core import children

print("script", flush=True)
with children.pool(1, work.begin) as executor:
    children.drain("test", executor, work.work, [1], 1, print)
"""


@linux
def test_a_pool_is_killed_with_its_parent_and_loads_no_script(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "pool.py").write_text(POOL)
    argv = [sys.executable, str(tmp_path / "pool.py")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "script\n"
        child = int(parent.stdout.readline())
        parent.kill()
    assert gone(child)


def double(unit: int) -> int:
    """Do a unit; some end otherwise."""
    if unit == 7:
        raise UsageError("test: 7 is no unit")
    if unit == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)  # as a terminal or Slurm does to all: theirs to ignore
    return 2 * unit


def nothing() -> None:
    """Prepare a worker."""


def test_a_pool_does_its_units_and_its_faults_are_one_line():
    done: list[int] = []
    with children.pool(2, nothing) as executor:
        children.drain("test", executor, double, range(5), 3, done.append)
        assert sorted(done) == [0, 2, 4, 6, 8]
        assert list(children.in_order("test", executor, double, range(5), 2)) == [0, 2, 4, 6, 8]
        with pytest.raises(UsageError, match=r"^test: 7 is no unit$"):
            list(children.in_order("test", executor, double, [1, 7, 2], 1))
        with pytest.raises(UsageError, match=r"^test: 7 is no unit$"):
            children.drain("test", executor, double, [7], 3, done.append)
        with pytest.raises(DataError, match=r"^test: a worker process ended before its work"):
            children.drain("test", executor, double, [13], 3, done.append)


@pytest.mark.parametrize(
    ("code", "said"),
    [(3, "exit code 3"), (-15, "killed by SIGTERM"), (-9, "killed by SIGKILL (out of memory?)")],
)
def test_how_a_process_ended_is_said(code, said):
    assert children.how_it_ended(code) == said
