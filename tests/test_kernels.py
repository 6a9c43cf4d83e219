"""Kept machine code is that of the kernels as they stand, those that they call included."""

import pytest

from tests.processes import Child

FILES = {
    "called.py": """
from typing import NamedTuple
from sft_diversity.core.kernels import compiled

class Given(NamedTuple):
    by: int
    to: int

@compiled
def step(given, x):
    return given.to + x + 1
""",
    "between.py": """
from kept.called import step
from sft_diversity.core.kernels import compiled

@compiled
def twice(given, x):
    return step(given, step(given, x))
""",
    "caller.py": """
from kept.called import Given as Told
from kept.between import twice
from sft_diversity.core.kernels import compiled

@compiled
def run(given, x):
    return inner(given, x)

@compiled
def inner(given, x):
    return given.by * twice(given, x)
""",
}
RUN = """
import sys
sys.path.insert(0, ".")
from kept.caller import run, Told
print(run(Told(10, 0), 1), *run.stats.cache_hits.values())
"""


@pytest.fixture
def ran(tmp_path):
    """Return what a process prints: the result, and how often it was found compiled, if it was."""
    folder = tmp_path / "kept"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)

    def ran(*change: str) -> list[str]:
        if change:
            for file in folder.glob("*.py"):
                file.write_text(file.read_text().replace(*change))
        process = Child(RUN, cwd=tmp_path)
        assert process.wait() == 0, process.stderr
        return process.stdout.split()

    assert ran() == ["30"]
    return ran


def test_a_kernel_is_compiled_anew_when_one_it_calls_in_another_file_changes(ran):
    assert ran("x + 1", "x + 2") == ["50"]
    assert ran() == ["50", "1"]


def test_a_kernel_is_compiled_anew_when_the_class_of_its_tuple_has_another_name(ran):
    assert ran("Given", "Asked") == ["30"]


def test_a_kernel_is_compiled_anew_when_the_fields_of_its_tuple_change_places(ran):
    assert ran("by: int\n    to: int", "to: int\n    by: int") == ["0"]  # by = 0 is told second
