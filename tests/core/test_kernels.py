"""Kept machine code is that of the kernels as they stand, those that they call included."""

import subprocess
import sys

FILES = {
    "called.py": """
from sft_diversity.core.kernels import compiled

@compiled
def step(x):
    return x + 1
""",
    "between.py": """
from kept.called import step
from sft_diversity.core.kernels import compiled

@compiled
def twice(x):
    return step(step(x))
""",
    "caller.py": """
from kept.between import twice
from sft_diversity.core.kernels import compiled

@compiled
def run(x):
    return inner(x)

@compiled
def inner(x):
    return 10 * twice(x)
""",
}
RUN = "from kept.caller import run; print(run(1), sum(run.stats.cache_hits.values()))"


def test_a_kernel_is_compiled_anew_when_one_it_calls_in_another_file_changes(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)

    def ran() -> list[str]:
        run = [sys.executable, "-c", RUN]
        return subprocess.run(run, cwd=tmp_path, capture_output=True, text=True).stdout.split()

    assert ran() == ["30", "0"]
    assert ran() == ["30", "1"]
    (folder / "called.py").write_text(FILES["called.py"].replace("x + 1", "x + 2"))
    assert ran() == ["50", "0"]
