"""What is handed to sbatch, against golden files; no Slurm is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sft_diversity.cluster import slurm
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import config as configs
from sft_diversity.core.errors import UsageError
from tests.cluster import making

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs" / "cluster"
RUNS = tuple(making.task(f"run{i}", "study", "s.yaml", "--run", f"run{i}") for i in range(6))
PLACE = Path("/shared/my work/jobs/0007-study")


def shipped(name: str) -> dict[str, Any]:
    return configs.load(CONFIGS / f"{name}.yaml", Profile).model_dump(exclude_unset=True)


def text(name: str) -> str:
    """Return the script of one case; every profile that we ship is in one."""
    array = making.step("runs", *RUNS, after=("prepare",), environment={"OMP_NUM_THREADS": "2"})
    if name == "single":
        step = making.step("select", making.task("select", "select", "pool", "--size", "9"))
        return slurm.script(making.job(PLACE, step), step, [0], [])
    if name == "array":
        job = making.job(PLACE, array, **shipped("slurm"))
        return slurm.script(job, array, [0, 1, 2, 5], ["17", "18"])
    if name == "split":
        job = making.job(PLACE, array, **shipped("slurm-preemptible"), concurrency=9)
        return slurm.script(job, array, [4, 5], ["17"], arrays=2)
    if name == "nodes":
        train = making.step(
            "finetune", making.task("finetune", "finetune", "s", "--out", "m"), launch=True
        )
        job = making.job(
            PLACE, train, **shipped("slurm-gpu") | {"steps": {"finetune": {"nodes": 2, "gpus": 4}}}
        )
        return slurm.script(job, train, [0], [])
    full: dict[str, Any] = {
        "partition": "p", "account": "a", "qos": "q", "constraint": "v100|a100", "gres": "lustre:1",
        "cpus": 3, "memory_gb": 1.5, "time_min": 90, "signal_s": 30, "concurrency": 2,
        "modules": ["gcc/12", "odd name"], "setup": ["ulimit -c 0"],
        "sbatch": {"exclusive": True, "mail-type": "FAIL", "nice": 10},
    }  # fmt: skip
    return slurm.script(making.job(PLACE, array, **full), array, range(6), [])


@pytest.mark.parametrize("name", ["single", "array", "split", "nodes", "everything"])
def test_the_batch_script_is_the_golden_one(name):
    golden = HERE / "golden" / f"{name}.sbatch"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text(name))
    assert text(name) == golden.read_text()


def test_a_long_step_is_split_into_arrays_and_the_next_waits_for_all(tmp_path, monkeypatch):
    """A program in sbatch's place counts its calls."""
    fake, count = tmp_path / "sbatch", tmp_path / "count"
    fake.write_text(f"#!/bin/sh\necho >> {count}\nwc -l < {count}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    collect = making.step("collect", making.task("collect", "verify", "made"), after=("runs",))
    options = {"executor": "slurm", "array_size": 4, "concurrency": 3}
    job = making.create(tmp_path, making.step("runs", *RUNS), collect, **options)
    assert slurm.start(job, job.tasks) == ["1", "2", "3"]
    assert [one.tasks for one in job.submissions()] == [[0, 1, 2, 3], [4, 5], [0]]
    first, second, last = (one.script.read_text() for one in job.submissions())
    assert "--array=0-3%1" in first
    assert "tasks=(4 5)" in second
    assert "--dependency=afterany:1:2\n" in last


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sbatch": {"array": "0-3"}}, "set by sftdiv"),
        ({"sbatch": {"x=1 --wrap": "y"}}, "no option of sbatch"),
        ({"sbatch": {"comment": "a\nrm -rf"}}, "must be one line"),
        ({"partition": "p\n#SBATCH --uid=0"}, "must be one line"),
        ({"account": "a\r#SBATCH --uid=0"}, "must be one line, without control characters"),
        ({"sbatch": {"comment": "\x1b[31m"}}, "must be one line, without control characters"),
        ({"environment": {"A": "1\n#SBATCH --uid=0"}}, "must be one line"),
        ({"python": "python\n#SBATCH --uid=0"}, "must be one line"),
        ({"setup": ["a\u2028b"]}, "must be one line"),
        ({"steps": {"runs": {"qos": "a\nb"}}}, "must be one line"),
        ({"steps": {"prepair": {"cpus": 2}}}, "did you mean 'prepare'"),
        ({"environment": {"A B": "1"}}, "no name of a variable"),
    ],
)
def test_a_profile_that_would_break_the_script_is_refused(options, reason):
    with pytest.raises(UsageError, match=reason):
        configs.build(Profile, options, "profile")


def test_a_place_with_a_line_break_gets_into_no_script(tmp_path):
    step = making.step("select", making.task("select", "select", "pool", "--size", "9"))
    with pytest.raises(UsageError, match="has a control character"):
        slurm.script(making.job(Path("/a\n#SBATCH --uid=0"), step), step, [0], [])
    with pytest.raises(UsageError, match="has a control character; name another --work"):
        making.create(tmp_path / "a\n#SBATCH --uid=0", step)
    assert list(tmp_path.iterdir()) == []


def test_what_a_job_writes_is_its_owners_alone(tmp_path, monkeypatch):
    fake = tmp_path / "sbatch"
    fake.write_text("#!/bin/sh\necho 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    step = making.step("runs", *RUNS)
    before = os.umask(0)
    try:
        job = making.create(tmp_path / "work", step, executor="slurm", array_size=9)
        slurm.start(job, job.tasks)
    finally:
        os.umask(before)
    files = [path for path in job.place.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".sbatch"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert job.place.stat().st_mode & 0o777 == 0o700
