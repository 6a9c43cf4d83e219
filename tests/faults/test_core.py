"""The cheap part of the campaign, in the default suite; `make faults` runs all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sft_diversity.stages import StageTable
from tests.faults import damage, kills, writers
from tests.faults.world import STAGES, World


def test_every_stage_is_killed_raced_and_damaged():
    world = World(Path())
    assert STAGES.keys() == set(StageTable())
    for name in STAGES.values():
        assert name in kills.groups(world)
        assert name in writers.groups(world)
        assert any(target.maker == name for target in damage.TARGETS.values())


def test_the_core_of_the_campaign_passes():
    """In an interpreter of its own: it forks, which threads of a test run do not go with."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--core"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
