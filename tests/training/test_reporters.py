from __future__ import annotations

import json

import pytest

from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError
from sft_diversity.training import reporters
from sft_diversity.training.stage import finetune


def test_a_missing_package_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"\[reporters\]', or pip install wandb alone"):
        reporters.check_reporters(["wandb"])


def test_tensorboard_gets_every_step_and_the_folder_no_event_file(
    subset, config, tmp_path, monkeypatch
):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")  # undone with what `aim` sets
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    finetune(subset, tmp_path / "plain", config(epochs=1))
    manifest = finetune(subset, tmp_path / "out", config(epochs=1, report_to=["tensorboard"]))
    read = events.EventAccumulator(str(tmp_path / "runs" / "out"))
    read.Reload()
    log = [json.loads(x) for x in (tmp_path / "out" / "training.jsonl").read_text().splitlines()]
    for ours, theirs in [("loss", "train/loss"), ("grad_ratio", "train/grad_ratio")]:
        assert [e.value for e in read.Scalars(theirs)] == pytest.approx([x[ours] for x in log])
    assert manifest["digest"] == folder.read_manifest(tmp_path / "plain")["digest"]
