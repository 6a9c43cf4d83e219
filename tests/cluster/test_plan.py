"""From commands to steps, by the commands' own dry runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_diversity.cluster import plan, stage
from sft_diversity.cluster.profile import Profile
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.studies.config import load
from tests.studies import making as studies


def test_a_study_is_prepared_run_as_an_array_collected_and_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = studies.write(tmp_path, metrics=True, threads=2)
    said = stage.submit(
        ["sftdiv", "study", str(config), "--out", "st"], executor="local", dry_run=True
    )
    assert said["steps"] == [
        {"name": "prepare", "tasks": 1, "after": []},
        {"name": "runs", "tasks": 5, "after": ["prepare"]},
        {"name": "collect", "tasks": 1, "after": ["prepare", "runs"]},
        {"name": "report", "tasks": 1, "after": ["collect"]},
    ]
    assert not (tmp_path / ".sftdiv").exists()
    assert not (tmp_path / "st").exists()
    planned = {"runs": ["base", "x-t0"], "measures": ["x"], "out": "st", "plan": {"threads": 2}}
    steps = plan.graph(("study", str(config), "--out", "st"), planned, Profile())
    runs = {step.name: step for step in steps}["runs"]
    assert runs.environment["OMP_NUM_THREADS"] == "2" == str(load(config, {}).threads)
    assert [task.argv[-2:] for task in runs.tasks] == [
        ("--run", "base"), ("--run", "x-t0"), ("--run", "measure:x")
    ]  # fmt: skip
    assert runs.tasks[1].output == {"kind": "run", "study": "st", "run": "x-t0"}
    assert runs.tasks[2].output == {"kind": "folder", "path": "st/measures/x"}


def test_jobs_go_to_slurm_where_sbatch_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["study", str(studies.write(tmp_path)), "--out", "st"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert stage.submit(argv, dry_run=True)["executor"] == "local"
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o700)
    assert stage.submit(argv, dry_run=True)["executor"] == "slurm"
    assert stage.submit(argv, executor="local", dry_run=True)["executor"] == "local"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    from sft_diversity import ingest

    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"instruction": f"Say {i}.", "output": f"{i}."}) for i in range(30)]
    Path("pool.jsonl").write_text("\n".join(rows))
    ingest("pool.jsonl", out="corpus")


def test_embed_is_an_array_over_parts_and_the_command_behind_it(corpus):
    argv = ("embed", "corpus", "--out=vectors", "--work", "w")
    parts, last = plan.steps(argv, Profile(parts=10))
    assert [task.argv[-2:] for task in parts.tasks] == [("--part", f"{i}/10") for i in range(1, 11)]
    assert all("--out=vectors" not in task.argv for task in parts.tasks)
    assert len({task.output["path"] for task in parts.tasks}) == 10
    assert last.after == ("parts",)
    assert last.tasks[0].output == {"kind": "folder", "path": "vectors"}
    assert last.tasks[0].argv == argv


def test_options_are_left_out_however_they_are_written():
    argv = ("index", "corpus", "--work", "w", "--out", "place", "--seed", "--out")
    assert plan._without(argv, "--out") == ("index", "corpus", "--work", "w", "--seed")
    assert plan._without(("embed", "--out=place"), "--out") == ("embed",)


def test_finetune_is_launched_where_several_processes_share_it():
    planned = {"plan": [{"stage": "finetune", "out": "m"}]}
    argv = ("finetune", "subset", "--out", "m")
    assert not plan.graph(argv, planned, Profile(gpus=1))[0].launch
    assert plan.graph(argv, planned, Profile(steps={"finetune": {"gpus": 4}}))[0].launch
    assert plan.graph(argv, planned, Profile(nodes=2))[0].launch
    with pytest.raises(UsageError, match="launch is 'nosuch'"):
        plan.graph(argv, planned, Profile(gpus=2, launch="nosuch"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([], "no command"),
        (["sftdiv"], "no command"),
        (["rm", "-rf", "x"], "'rm' cannot be submitted"),
        (["submit", "--", "study", "x"], "'submit' cannot be submitted"),
        (["embed", "corpus", "--part", "1/2"], "--part is not for a job"),
        (["ingest", "x", "--dry-run"], "--dry-run is not for a job"),
    ],
)
def test_what_is_no_command_for_a_job_is_refused(command, reason):
    with pytest.raises(UsageError, match=reason):
        plan.checked(command)


def test_a_recipe_that_would_fail_is_refused_before_it_is_submitted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ingest.yaml").write_text("sources: [{name: pool, path: pool.jsonl}]\n")
    Path("pool.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    subset = "{strategy: micro-response, size: 1, tokenizer: ./nope}"
    Path("recipe.yaml").write_text(f"ingest: ingest.yaml\nsubsets: {{one: {subset}}}\n")
    with pytest.raises(UsageError, match=r"no tokenizer.*: it is not there"):
        stage.submit(
            ["run", "curate", "--config", "recipe.yaml", "--out", "made"], executor="local"
        )
    assert not (tmp_path / ".sftdiv").exists()
    assert not (tmp_path / "made").exists()


def test_a_command_that_would_fail_is_refused_before_it_is_submitted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, DataError), match="nosuch"):
        stage.submit(["measure", "nosuch"], executor="local")
    assert not (tmp_path / ".sftdiv").exists()
