"""Children end with their parent, however it ends."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from sft_diversity.core import children

PARENT = """
import subprocess, sys
from sft_diversity.core import children
code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
subprocess.Popen(children.command(sys.executable, code)).wait()
"""


def alive(pid: int) -> bool:
    """Whether it runs: a zombie that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel does it")
def test_a_child_is_killed_with_its_parent():
    argv = [sys.executable, "-c", PARENT]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    end = time.monotonic() + 300
    while alive(child):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_child_whose_parent_has_gone_does_nothing():
    code = "import os; from sft_diversity.core.children import end_with; end_with(os.getpid())"
    code += "; print('went on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_arguments_are_the_codes_own():
    code = "import sys; print(sys.argv[1:])"
    argv = children.command(sys.executable, code, "a b", "--c")
    assert subprocess.check_output(argv, text=True).strip() == "['a b', '--c']"
