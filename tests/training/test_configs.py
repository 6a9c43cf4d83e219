from __future__ import annotations

import pytest

from sft_diversity.core import config, resources
from sft_diversity.training.config import FinetuneConfig

FILES = sorted((resources.shipped("configs") / "finetune").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_loads_and_opens_with_its_command(path):
    config.load(path, FinetuneConfig)
    assert path.read_text("utf-8").startswith(
        f"# sftdiv finetune SUBSET --config configs/finetune/{path.name} "
    )
