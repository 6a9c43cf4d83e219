from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sft_diversity
from sft_diversity.core import chat, drafts, folder, stopping
from sft_diversity.core.errors import DataError, Interrupted, UsageError
from sft_diversity.exporting import stage
from sft_diversity.exporting.formats import exported
from tests import making, tiny
from tests.exporting import fixtures

datasets.disable_progress_bars()


def export(source: Path, out: Path, **options) -> dict[str, Any]:
    return making.export(source, str(out), stage.ExportConfig(**options))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A subset, its corpus, and the subset's export with the corpus's licences."""
    root = tmp_path_factory.mktemp("made")
    subset, corpus = fixtures.subset(root / "subset"), fixtures.corpus(root / "corpus")
    export(subset, root / "out", corpus=corpus)
    return root


def expected(made: Path) -> list[Any]:
    files = sorted((made / "subset" / "samples").glob("*.parquet"))
    return list(exported(pa.concat_tables(pq.read_table(f) for f in files)).to_pylist())


def contents(out: Path) -> dict[str, bytes]:
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["run"]
    return found | {"manifest": json.dumps(manifest, sort_keys=True).encode()}


def test_datasets_reads_back_what_was_selected(made, tmp_path):
    loaded = datasets.load_dataset(str(made / "out"), cache_dir=str(tmp_path))
    assert list(loaded) == ["train"]
    assert loaded["train"].to_list() == expected(made)
    assert [row["pick"] for row in loaded["train"]] == list(range(6))


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("messages", ["id", "source", "pick", "messages"]),
        ("prompt-completion", ["id", "source", "pick", "prompt", "completion"]),
    ],
)
def test_each_config_of_the_card_has_its_columns(made, tmp_path, name, columns):
    rows = datasets.load_dataset(str(made / "out"), name, split="train", cache_dir=str(tmp_path))
    assert rows.column_names == columns
    assert rows.to_list() == [{c: row[c] for c in columns} for row in expected(made)]


def test_polars_reads_it_too(made):
    assert pl.read_parquet(made / "out/data/*.parquet").to_dicts() == expected(made)


def test_shards_are_named_and_split_evenly(tmp_path):
    long = [[("user", f"{i} " + "x" * 99_000), ("assistant", "y" * 100)] for i in range(50)]
    source = fixtures.subset(tmp_path / "subset", fixtures.samples(long), per_file=13)
    assert (
        making.plan("export", stage.ExportConfig(max_shard_mb=1), Path("out"), subject=source)[
            "shards"
        ]
        > 1
    )
    manifest = export(source, tmp_path / "out", max_shard_mb=1)
    shards = sorted((tmp_path / "out/data").iterdir())
    n = manifest["result"]["shards"]
    assert [s.name for s in shards] == [f"train-{i:05}-of-{n:05}.parquet" for i in range(n)]
    sizes = [pq.read_metadata(s).num_rows for s in shards]
    assert sum(sizes) == 50
    assert max(sizes) - min(sizes) <= 1
    assert pl.read_parquet(tmp_path / "out/data/*.parquet")["pick"].to_list() == list(range(50))


def test_equal_exports_are_equal_bytes_and_verify(made, tmp_path):
    export(made / "subset", tmp_path / "again", corpus=made / "corpus")
    assert contents(tmp_path / "again") == contents(made / "out")
    assert folder.verify(made / "out")["faults"] == []


def test_nothing_of_this_machine_is_in_what_others_see(made):
    seen = contents(made / "out")
    assert sorted(seen) == [
        "README.md", "axolotl.yaml", "chat_template.jinja", "data/train-00000-of-00001.parquet",
        "dataset_info.json", "manifest", "selection.json", "selection.yaml", "trl_sft.sh",
    ]  # fmt: skip
    for raw in seen.values():
        assert str(made).encode() not in raw
    assert "run" not in json.loads(seen["selection.json"])


def test_a_finished_export_is_reused(made, tmp_path):
    said: list[str] = []
    for _ in range(2):
        making.export(made / "subset", str(tmp_path / "out"), stage.ExportConfig(), said.append)
    assert "up to date" in said[-1]


def test_a_stopped_export_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    long = [[("user", f"{i} " + "x" * 99_000), ("assistant", "y" * 100)] for i in range(50)]
    source = fixtures.subset(tmp_path / "subset", fixtures.samples(long))
    export(source, tmp_path / "whole", max_shard_mb=1)
    calls = []

    def stop_at_the_third(_stage):
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted("export: stopped")

    monkeypatch.setattr(stopping, "safe_point", stop_at_the_third)
    with pytest.raises(Interrupted):
        export(source, tmp_path / "out", max_shard_mb=1)
    monkeypatch.undo()
    export(source, tmp_path / "out", max_shard_mb=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_corpus_exports_without_picks(made, tmp_path):
    manifest = export(made / "corpus", tmp_path / "out")
    rows = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert "pick" not in rows.column_names
    assert manifest["rows"]["kept"] == 6
    assert manifest["result"]["unknown_licences"] == ["b"]
    assert (tmp_path / "out/corpus.json").is_file()


def test_a_model_exports_its_own_files_and_no_pickle(tmp_path):
    source = tmp_path / "model"
    draft = drafts.open_draft(source, drafts.Work("finetune", 1, {"subset": "1"}, {"phi": 2.0}))
    tiny.save(draft.path)
    (draft.path / "README.md").write_text("# model\n")
    (draft.path / "optimizer.pt").write_bytes(b"pickle")
    draft.commit(result={"steps": 2})
    manifest = export(source, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "training.json"} <= names
    assert "optimizer.pt" not in names
    assert "model.safetensors" in manifest["result"]["files"]
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_an_empty_subset_is_refused(tmp_path):
    source = fixtures.subset(tmp_path / "subset", fixtures.samples([]))
    with pytest.raises(DataError, match="has no rows"):
        export(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_folders_are_refused(made, tmp_path):
    with pytest.raises(UsageError, match="no finished output"):
        export(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="output of `export`"):
        export(made / "out", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("x")
    with pytest.raises(UsageError, match="is no output of `export`"):
        export(made / "subset", tmp_path / "mine")


def test_the_plan_touches_nothing(made, tmp_path):
    found = sft_diversity.export(made / "subset", to="hub:me/subset", dry_run=True)["plan"][0]
    assert (found["rows"], found["shards"], found["repository"]) == (6, 1, "me/subset")
    assert list(tmp_path.iterdir()) == []


def templated(folder_: Path, template: str = chat.TEMPLATE):
    """A tiny model whose tokenizer has a chat template: ours, as `finetune` would save it."""
    from transformers import AutoTokenizer

    model = tiny.save(folder_)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(model)
    return tokenizer


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the trainer's own
def test_trl_puts_the_loss_on_the_completion_alone(made, tmp_path):
    from trl import SFTConfig, SFTTrainer

    tokenizer = templated(tmp_path / "model")
    trainer = SFTTrainer(
        model=str(tmp_path / "model"),
        args=SFTConfig(
            output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.load_dataset(str(made / "out"), split="train"),
    )  # fmt: skip
    rows = expected(made)
    prepared = {row["id"]: row["labels"] for row in trainer.train_dataset}
    assert set(prepared) == {row["id"] for row in rows}
    for row in rows:
        said = tokenizer.decode([label for label in prepared[row["id"]] if label != -100])
        assert said.rstrip("\n") == row["completion"][0]["content"] + tokenizer.eos_token


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "options", "with_template"),
    [
        ("chat", [], False),
        ("messages", [], False),
        ("prompt-completion", [], False),
        ("chat", ["--dataset_config", "messages", "--assistant_only_loss", "True"], True),
    ],
)
def test_the_script_of_an_export_trains_two_steps(made, tmp_path, layout, options, with_template):
    """Also a base model: one whose tokenizer has no chat template."""
    own = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    if with_template:
        templated(tmp_path / "model", own)
    else:
        tiny.save(tmp_path / "model")
    export(made / "subset", tmp_path / "data", format=layout, leave_out_unfit=True)
    command = [
        "sh", str(tmp_path / "data/trl_sft.sh"), str(tmp_path / "model"), str(tmp_path / "out"),
        "--max_steps", "2", "--use_cpu", "True", "--bf16", "False", "--report_to", "none",
        "--gradient_checkpointing", "False", "--logging_steps", "1", *options,
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HOME": str(tmp_path / "hf")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("'loss'") == 2
    assert (tmp_path / "out/model.safetensors").is_file()
    saved = (tmp_path / "out/chat_template.jinja").read_text("utf-8")
    assert saved == (own if with_template else chat.TEMPLATE)
