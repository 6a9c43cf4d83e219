"""Tokens stay out of what a scheduler or a job folder keeps."""

from __future__ import annotations

import os

import pytest

from sft_diversity.cluster import secrets, slurm, stage
from sft_diversity.core.errors import UsageError

TOKEN = "hf_" + "a" * 34


def test_a_submission_leaves_tokens_behind_and_the_rest_as_it_is():
    given = {
        "HF_TOKEN": TOKEN, "WANDB_API_KEY": "0123", "AWS_SECRET_ACCESS_KEY": "x",
        "MY_PASSWORD": "y", "INNOCENT": f"--token {TOKEN}", "PATH": "/usr/bin",
        "TOKENIZERS_PARALLELISM": "false", "SLURM_CONF": "/etc/slurm.conf", "KEYBOARD": "us",
    }  # fmt: skip
    assert set(secrets.without(given)) == {
        "PATH", "TOKENIZERS_PARALLELISM", "SLURM_CONF", "KEYBOARD"
    }  # fmt: skip


def test_sbatch_is_called_in_such_an_environment(tmp_path, monkeypatch):
    """A program in sbatch's place writes down what it was given."""
    fake = tmp_path / "sbatch"
    fake.write_text(f"#!/bin/sh\nenv > {tmp_path}/env\necho 7\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert slurm.sbatch(tmp_path / "x.sbatch") == "7"
    assert TOKEN not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("command", "profile", "reason"),
    [
        (["score", "m", "--out", "s", f"--x={TOKEN}"], "executor: local", "holds a token"),
        (["doctor"], f"setup: ['export A={TOKEN}']", "holds a token"),
        (["ingest", f"https://kim:{TOKEN}@host/a.jsonl"], "executor: local", "holds a token"),
        (["ingest", f"https://host/a.jsonl?sig={TOKEN}"], "executor: local", "holds a token"),
        (["doctor"], "environment: {HF_TOKEN: abc}", "environment.HF_TOKEN looks like a token"),
    ],
)
def test_a_token_in_command_or_profile_is_refused_and_not_repeated(
    tmp_path, monkeypatch, command, profile, reason
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(profile)
    with pytest.raises(UsageError, match=reason) as fault:
        stage.submit(command, profile="p.yaml")
    assert TOKEN not in str(fault.value)
    assert not (tmp_path / ".sftdiv").exists()
