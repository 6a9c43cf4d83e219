from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sft_diversity.core import folder, stopping
from sft_diversity.core.errors import DataError, Interrupted, UsageError
from sft_diversity.scoring import stage
from tests import making, tiny
from tests.scoring import fixtures


def config(files: Path, **options) -> stage.ScoreConfig:
    defaults: dict[str, Any] = {
        "sets": fixtures.SETS,
        "eval_dir": files,
        "draws": 100,
        "batch_tokens": 512,
        "dtype": "float32",
    }
    return stage.ScoreConfig(**(defaults | options))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return fixtures.write(tmp_path_factory.mktemp("eval"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def scored(files, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("scored") / "run"
    making.score(model, out, config(files))
    return out


def contents(out: Path) -> dict[str, bytes]:
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["run"]
    return found | {"manifest": json.dumps(manifest, sort_keys=True).encode()}


def test_every_record_is_in_the_account_once(scored, files, model):
    manifest = folder.read_manifest(scored, "score")
    assert manifest["rows"] == {
        "in": 26, "kept": 25, "dropped": {"no-reference": 1}, "quarantined": 0,
    }  # fmt: skip
    assert stage.read_records(scored).num_rows == 26
    assert making.planned_score(model, config(files))["rows"] == 26


def test_an_untrained_model_is_about_as_good_as_a_uniform_guess(scored):
    import math

    figure = folder.read_manifest(scored)["result"]["headline"]["transfer_first64"]
    assert figure["nll_per_token"] == pytest.approx(math.log(384), rel=0.05)
    assert figure["nll_low"] <= figure["nll_per_token"] <= figure["nll_high"]


def test_the_scores_file_is_the_manifests_result(scored):
    assert (
        json.loads((scored / "scores.json").read_text()) == folder.read_manifest(scored)["result"]
    )
    assert folder.verify(scored)["faults"] == []


def test_no_path_of_this_machine_is_in_the_output(scored, files):
    manifest = contents(scored)["manifest"].decode()
    assert str(files) not in manifest
    assert str(scored.parent) not in manifest


def test_equal_runs_write_equal_bytes(scored, files, model, tmp_path):
    making.score(model, tmp_path / "again", config(files))
    assert contents(tmp_path / "again") == contents(scored)


def test_the_batch_size_changes_nothing_but_float_noise(scored, files, model, tmp_path):
    making.score(model, tmp_path / "b", config(files, batch_tokens=128))
    one, two = (stage.read_records(out)["nll"].to_pylist() for out in (scored, tmp_path / "b"))
    assert [x is None for x in one] == [x is None for x in two]
    assert [x or 0.0 for x in one] == pytest.approx([x or 0.0 for x in two], rel=1e-4)


def test_a_finished_result_is_reused_and_a_changed_option_says_so(scored, files, model, tmp_path):
    out = tmp_path / "run"
    said: list[str] = []
    making.score(model, out, config(files), say=said.append)
    before = (out / "manifest.json").stat().st_mtime_ns
    making.score(model, out, config(files), say=said.append)
    assert (out / "manifest.json").stat().st_mtime_ns == before
    assert "up to date" in said[-1]
    making.score(model, out, config(files, draws=101), say=said.append)
    assert "recomputed because draws changed: 100 -> 101" in said[-1]


def test_a_stop_between_sets_resumes_to_the_same_bytes(scored, files, model, tmp_path, monkeypatch):
    out = tmp_path / "run"
    done = tmp_path / ".run.partial" / "records"

    def stop_within_the_third(_stage):
        if len(list(done.glob("*.parquet"))) == 2:
            raise Interrupted("score: stopped")

    monkeypatch.setattr(stopping, "safe_point", stop_within_the_third)
    with pytest.raises(Interrupted):
        making.score(model, out, config(files))
    assert not out.exists()
    monkeypatch.undo()
    said: list[str] = []
    making.score(model, out, config(files), say=said.append)
    assert "resumed" in said[0]
    assert contents(out) == contents(scored)


def test_a_limit_of_the_model_itself_bounds_the_length(files, model, tmp_path):
    making.score(model, tmp_path / "run", config(files, max_length=100_000))
    assert folder.read_manifest(tmp_path / "run")["result"]["max_length"] == 512


def test_references_that_do_not_fit_are_cut_and_counted(files, model, tmp_path):
    making.score(model, tmp_path / "run", config(files, max_length=128))
    long = folder.read_manifest(tmp_path / "run")["result"]["sets"]["long"]
    assert long["truncated"] == 4
    assert long["end_nll"] is None


def test_broken_weights_are_an_error_and_not_a_score(files, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    broken = tiny.save(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        loaded.model.norm.weight.fill_(float("nan"))
    loaded.save_pretrained(broken)
    with pytest.raises(DataError, match="loss is nan"):
        making.score(broken, tmp_path / "run", config(files))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
def test_an_adapter_is_scored_on_its_base_and_keyed_with_it(scored, files, model, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = AutoModelForCausalLM.from_pretrained(model)
    adapted = peft.get_peft_model(whole, peft.LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path / "adapter")
    making.score(tmp_path / "adapter", tmp_path / "run", config(files))
    # a fresh adapter adds nothing: the scores are the base's
    one, two = (stage.read_records(out)["nll"].to_pylist() for out in (scored, tmp_path / "run"))
    assert [x or 0.0 for x in one] == pytest.approx([x or 0.0 for x in two], rel=1e-5)
    keys = [folder.read_manifest(out)["inputs"]["model"] for out in (scored, tmp_path / "run")]
    assert keys[0] != keys[1]
    assert folder.read_manifest(tmp_path / "run")["result"]["max_length"] == 512


@pytest.mark.parametrize("named", ["./nowhere", "/no/where", "../nosuch-model"])
def test_a_folder_that_is_not_there_is_wrong_usage(files, tmp_path, named):
    with pytest.raises(UsageError, match="no such folder"):
        making.score(named, tmp_path / "run", config(files))


def test_a_folder_without_a_model_is_wrong_usage(files, tmp_path):
    with pytest.raises(UsageError, match=r"no config\.json"):
        making.score(tmp_path, tmp_path / "run", config(files))


def test_missing_evaluation_sets_name_the_option(model, tmp_path):
    with pytest.raises(UsageError, match="--eval-dir"):
        making.score(model, tmp_path / "run", config(tmp_path / "none"))


def test_a_set_named_twice_is_refused():
    with pytest.raises(ValueError, match="each once"):
        stage.ScoreConfig(sets=(fixtures.ALPACA, fixtures.ALPACA))


def test_importing_the_stage_loads_no_heavy_library():
    code = (
        "import sys; from sft_diversity.scoring import stage; "
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'huggingface_hub'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(scored, files, model, tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests import making;"
        "from tests.scoring import test_stage as t;"
        "making.score(Path(sys.argv[1]), Path(sys.argv[2]), t.config(Path(sys.argv[3])))"
    )
    out = tmp_path / "run"
    command = [sys.executable, "-c", code, str(model), str(out), str(files)]
    partial = tmp_path / ".run.partial" / "records"
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while run.poll() is None and not list(partial.glob("*.parquet")):
        os.sched_yield()
    run.send_signal(signal.SIGKILL)
    run.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert contents(out) == contents(scored)
