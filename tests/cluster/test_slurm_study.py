"""A study on a real Slurm: as many jobs, the same tables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sft_diversity.cluster import jobs
from sft_diversity.studies.stage import study
from tests.cluster import making
from tests.cluster.controlling import WORK, record, until, wait
from tests.studies import making as studies
from tests.studies.test_stage import read, tables

pytestmark = pytest.mark.slurm


def sftdiv(*arguments: str) -> str:
    argv = [sys.executable, "-m", "sft_diversity", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_study_of_four_runs_ends_with_its_report_and_the_tables_of_a_local_one(
    slurm, home, tmp_path_factory
):
    place = tmp_path_factory.mktemp("study")
    grid = {"strategy": ["micro-response"], "size": [24], "diversity": [0, 100], "seed": [0, 1]}
    none = {"base": False, "random": 0, "random_common": 0, "longest": False}
    config = studies.write(place, grid=grid, baselines=none)
    profile = {"executor": "slurm", "memory_gb": 2.5, "offline": True}
    Path("cluster.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    said = sftdiv("submit", "--profile", "cluster.yaml", "--", "study", str(config), "--out", "out")
    assert "0001-study submitted (slurm: " in said
    (job,) = jobs.listed(WORK)
    assert "runs: 4 waiting (Dependency)" in sftdiv("status", job.name)
    until(lambda: record(job, "runs", 1)["state"] != "waiting")
    assert re.search(r"runs .*: running \[\d+_\d\]", sftdiv("status", job.name))
    found = wait(job)
    assert set(making.states(found).values()) == {"finished"}, found
    assert "7 finished" in sftdiv("status", job.name, "--verify")
    assert Path("out/report.html").stat().st_size > 10_000
    study(config, out=Path("alone"), jobs=2)
    assert tables(Path("out")) == tables(Path("alone"))
    assert len(read(Path("out/results.csv"))) == 4
    assert all(record(job, "runs", i)["attempts"] == 1 for i in range(4))
