from __future__ import annotations

import pytest

from sft_diversity.core import config, resources
from sft_diversity.core.errors import UsageError
from sft_diversity.training.config import FinetuneConfig

FILES = sorted((resources.shipped("configs") / "finetune").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_loads_and_opens_with_its_command(path):
    config.load(path, FinetuneConfig)
    assert path.read_text("utf-8").startswith(
        f"# sftdiv finetune SUBSET --config configs/finetune/{path.name} "
    )


def test_an_option_takes_the_place_of_what_it_stands_for_in_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("epochs: 2\nlr: 0.001\n", "utf-8")
    loaded = config.load(path, FinetuneConfig, {"steps": 5, "tokens": None, "model": "m"})
    assert (loaded.budget, loaded.lr) == ({"steps": 5}, 0.001)
    with pytest.raises(UsageError, match="one budget, not steps and tokens"):
        config.load(path, FinetuneConfig, {"steps": 5, "tokens": 9, "model": "m"})
    path.write_text("epochs: 2\nsteps: 3\n", "utf-8")
    with pytest.raises(UsageError, match="one budget, not epochs and steps"):
        config.load(path, FinetuneConfig, {"model": "m"})
