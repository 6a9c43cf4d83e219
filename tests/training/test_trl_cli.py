"""TRL's own command reads what we write, and reads it as we do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import chat

pytestmark = pytest.mark.slow


@pytest.fixture
def model(base: Path, tmp_path: Path) -> Path:
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat.ensure_template(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layout", ["messages", "prompt-completion"])
def test_trl_trains_on_the_rows_with_our_template(layout, model, rows, tmp_path):
    turns = [row["messages"] for row in rows]
    columns = {"messages": turns}
    if layout == "prompt-completion":
        columns = {"prompt": [t[:-1] for t in turns], "completion": [t[-1:] for t in turns]}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data" / "train.parquet")
    command = [
        str(Path(sys.executable).parent / "trl"), "sft",
        "--model_name_or_path", str(model), "--dataset_name", str(tmp_path / "data"),
        "--output_dir", str(tmp_path / "out"), "--max_steps", "2", "--use_cpu", "true",
        "--bf16", "false", "--report_to", "none", "--save_strategy", "no",
        *(["--assistant_only_loss", "true"] if layout == "messages" else []),
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "train_loss" in done.stdout + done.stderr
