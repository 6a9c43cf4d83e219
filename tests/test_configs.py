"""Every YAML of configs/ loads under the model it is for, and opens with its command."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from sft_diversity.cleaning.config import CleanConfig
from sft_diversity.cluster.profile import Profile
from sft_diversity.core import config as configs
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.levels.stage import IndexConfig
from sft_diversity.rewriting.stage import RewriteConfig
from sft_diversity.scoring import suites
from sft_diversity.selection.config import SelectConfig
from sft_diversity.studies.config import StudyConfig, load_study
from sft_diversity.training.config import FinetuneConfig

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {n: runpy.run_path(str(ROOT / f"pipelines/{n}.py")) for n in ("curate", "reference")}
MODELS = {
    "cluster": Profile,
    "ingest": IngestConfig,
    "index": IndexConfig,
    "rewrite": RewriteConfig,
    "clean": CleanConfig,
    "select": SelectConfig,
    "finetune": FinetuneConfig,
    "study": StudyConfig,
    "curate": RECIPES["curate"]["CurateConfig"],
    "reference": RECIPES["reference"]["ReferenceConfig"],
}


@pytest.mark.parametrize(
    "path",
    sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name != "accelerate"),
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_every_config_loads_and_opens_with_its_command(path):
    if path.parent.name == "score":
        suites.config_of(path, {})
    else:
        configs.load(path, MODELS[path.parent.name])
    assert path.read_text().startswith("# sftdiv ")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/accelerate").glob("*.yaml")), ids=str)
def test_accelerate_reads_our_launch_configs(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes == 2
    assert path.read_text().startswith("# accelerate launch --config_file configs/accelerate/")


def test_the_recipes_name_selections_that_exist():
    for path in (ROOT / "configs/curate").glob("*.yaml"):
        for options in configs.load(path, MODELS["curate"]).subsets.values():
            SelectConfig(**options)
    for path in (ROOT / "configs/reference").glob("*.yaml"):
        config = configs.load(path, MODELS["reference"])
        assert config.against in config.runs
        for run in config.runs.values():
            FinetuneConfig(**config.finetune | run.finetune)
            assert run.match_length is None or run.match_length in config.runs


@pytest.mark.parametrize("path", sorted((ROOT / "configs/study").glob("*.yaml")), ids=str)
def test_the_files_that_a_study_names_load_under_their_models(path):
    study = load_study(path, {})
    assert study.finetuning.budget
    assert study.scoring.sets
