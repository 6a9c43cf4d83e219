"""From commands to steps, by the commands' own dry runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_diversity.cluster import plan, stage
from sft_diversity.cluster.profile import Profile
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.studies.config import load_study
from sft_diversity.verbs import VERBS
from sft_diversity.verbs.options import command
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
    runs = plan.steps(plan.parse(("study", str(config), "--out", "st")), Profile())[1]
    assert runs.environment["OMP_NUM_THREADS"] == "2" == str(load_study(config, {}).threads)
    names = [task.label for task in runs.tasks]
    cell = "A-micro-response-n24-d0-s0"
    assert {"base", f"{cell}-t0", f"measure:{cell}"} < set(names)
    assert [task.argv for task in runs.tasks] == [
        ("study", str(config), "--out=st", f"--run={name}") for name in names
    ]
    outputs = {task.label: task.outputs for task in runs.tasks}
    assert outputs[f"{cell}-t0"] == (f"st/runs/{cell}-t0.json",)
    assert outputs[f"measure:{cell}"] == (f"st/measures/{cell}",)


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
    parts, last = plan.steps(plan.parse(argv), Profile(parts=10))
    assert [task.argv for task in parts.tasks] == [
        ("embed", "corpus", "--work=w", f"--part={i}/10") for i in range(1, 11)
    ]
    assert len({task.outputs for task in parts.tasks}) == 10
    assert last.after == ("parts",)
    assert last.tasks[0].outputs == ("vectors",)
    assert last.tasks[0].argv == ("embed", "corpus", "--out=vectors", "--work=w")


def test_a_command_line_is_a_call_of_the_library_and_back():
    argv = ("report", "a", "b", "--no-measure", "--json", "--out=page.html", "--work", "w")
    call = plan.parse(argv)
    assert (call.verb, call.arguments) == ("report", (Path("a"), Path("b")))
    given = {"out": Path("page.html"), "work": Path("w"), "json": True, "measure": False}
    assert call.options == given
    assert " ".join(call.argv) == "report a b --out=page.html --work=w --json --no-measure"
    call = plan.parse(("finetune", "s", "--out=m", "--report-to", "wandb", "--report-to=trackio"))
    assert call.options["report_to"] == ["wandb", "trackio"]
    assert plan.parse(call.argv) == call
    with pytest.raises(UsageError, match="finetune: No such option: --oot"):
        plan.parse(("finetune", "s", "--oot", "m"))


def test_every_option_is_written_as_its_name_says():
    """Else `Call.argv` would write it wrong."""
    for verb in VERBS.values():
        for option in command(verb, lambda *_: None).params:
            ours = {*plan._OURS, "--json"} & set(option.opts)
            if option.param_type_name == "option" and not ours:
                assert option.opts[0] == "--" + option.name.replace("_", "-")


def test_finetune_is_launched_where_several_processes_share_it(corpus, monkeypatch):
    call = plan.parse(("finetune", "corpus", "--out", "m", "--steps=1"))

    def launched(**profile):
        (step,) = plan.steps(call, Profile(**profile))
        return step.launch

    assert not launched(gpus=1)
    assert launched(steps={"finetune": {"gpus": 4}})
    assert launched(nodes=2)
    with pytest.raises(UsageError, match="launch is 'nosuch'"):
        launched(gpus=2, launch="nosuch")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([], "no command"),
        (["sftdiv"], "no command"),
        (["rm", "-rf", "x"], "'rm' cannot be submitted"),
        (["submit", "--", "study", "x"], "'submit' cannot be submitted"),
        (["embed", "corpus", "--part", "1/2"], "--part is not for a job"),
        (["ingest", "x", "--dry-run"], "--dry-run is not for a job"),
        (["study", "x", "--prepare"], "--prepare is not for a job"),
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
