"""Every block of README, AGENTS.md and docs runs, in the folder of a reader who has what they name.

`test_docs.py` parses all commands; here they run, small things in the place of large ones. What
needs the Hub, a GPU, Slurm or another program stays parsed, as far as it goes with `--dry-run`.
"""

from __future__ import annotations

import csv
import glob
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import yaml

import sft_diversity as sd
from sft_diversity.core import corpus as corpora
from sft_diversity.core.folder import verify
from tests.command import sftdiv
from tests.endpoint.scripted import Reply, serving
from tests.reporting import making as reports
from tests.scoring import fixtures
from tests.studies import making as studies
from tests.test_docs import EVERY, README, ROOT, Block, blocks, commands

#: PEFT asks transformers by a name that it will drop.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
#: A word of a command, or a number of Python code, and what stands for it.
WORDS = {
    "10000": "40", "2000": "40", "1000": "40", "500": "40", "10_000": "40",
    "meta-llama/Llama-3.2-1B": "llama", "MODEL": "llama", "OTHER": "llama", "CORPUS": "corpus",
    "SUBSET": "subset", "DIR": "out", "CONFIG.yaml": "studies/study.yaml", "pool/": "corpus",
    "URL": "http://127.0.0.1:9/v1", "FOLDER": "tasks",
    "hub:my-org/my-subset": "shared",
}  # fmt: skip
#: Options that a command gets besides: an encoder and held-out sets that take no minute.
BESIDES = {
    "measure": ["--encoder", "encoder"],
    "embed": ["--encoder", "encoder"],
    "score": ["--config", "score.yaml"],
    "score --suite generate": ["--config", "generate.yaml"],
}
#: Programs that make environments, run this very test, or are not ours.
OTHERS = {"make", "pip", "hf", "transformers", "accelerate", "python"}
#: Verbs that a test of their own runs: a server that waits, jobs that have to be there.
ELSEWHERE = {"explore", "mcp", "status", "cancel", "retry"}
#: `configs/` holds what is made for real use; the others would ask a machine that is not there.
PLANNED = ("configs/", "http:", "hub:")
#: Would ask the Hub, a bucket or a package's tasks even for a plan, or reads what no checkout has.
PARSED = (
    "--to hub:", "ingest hub:", "select hub:", "--suite harness", "-117k",
    "s3://", "https://", "hf://",
)  # fmt: skip
#: Blocks of Python that need more than is here, and what it is.
NOT_HERE = {"load_dataset(": "the Hub", "SFTTrainer(": "minutes; tests/training runs it"}


@dataclass(frozen=True)
class Desk:
    """The folder in which a reader sits, and what Python finds there."""

    at: Path
    names: dict[str, Any]


@pytest.fixture(scope="session")
def desk_made(tmp_path_factory, llama, tiny, topical, tokenizer) -> Path:
    """Everything that pages name: raw files, a corpus, subsets, a study, a model, sets, vectors."""
    root = tmp_path_factory.mktemp("desk") / "made"
    (root / "more").mkdir(parents=True)
    with gzip.open(ROOT / "data/sample/dolly_3k/dolly_3k.json.gz") as file:
        rows = json.load(file)
    rows = [row for row in rows if sum(map(len, row.values())) < 700][:240]  # tiny's 512 tokens
    fixtures.lines(root / "pool.jsonl", rows[:200])
    (root / "more/some.json.gz").write_bytes(gzip.compress(json.dumps(rows[200:]).encode()))
    fixtures.lines(root / "my.jsonl", rows[:5])
    fixtures.lines(root / "own.jsonl", [{"prompt": row["instruction"]} for row in rows[:5]])
    tags = [{**row, "tags": [f"t{i % 7}", f"u{i % 3}"]} for i, row in enumerate(rows)]
    fixtures.lines(root / "tagged.jsonl", tags)
    helpdesk = [
        {"subject": f"Case {i}", "body": "It broke.", "answer": {"text": "Mend it. " * (1 + i)},
         "team": "tools"} for i in range(9)
    ]  # fmt: skip
    (root / "helpdesk").mkdir()
    fixtures.lines(root / "helpdesk/one.jsonl", helpdesk)
    sets = {"eval_dir": str(fixtures.write(root / "eval")),
            "sets": [fixtures.ALPACA.model_dump(mode="json")]}  # fmt: skip
    (root / "score.yaml").write_text(json.dumps(sets), "utf-8")
    rules = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    asked = [{"prompt": row["instruction"], **rules} for row in rows[:3]]
    fixtures.lines(root / "eval/ruled.jsonl", asked)
    ruled = {"name": "ruled", "file": "ruled.jsonl", "prompt": "prompt", "check": "constraints"}
    generate = {"eval_dir": sets["eval_dir"], "max_new_tokens": 8, "sets": [ruled]}
    (root / "generate.yaml").write_text(json.dumps(generate), "utf-8")
    (root / "subset.yaml").write_text("strategy: micro-response\n", "utf-8")
    (root / "studies").mkdir()
    random = {"random": 2, "random_common": 0, "longest": False}  # as a race needs
    studies.write(root / "studies", baselines=random)
    for name, there in (("llama", llama), ("encoder", tiny)):
        (root / name).symlink_to(there)
    for name in ("configs", "data", "benchmarks"):
        (root / name).symlink_to(ROOT / name)
    for words in (
        "ingest pool.jsonl more/some.json.gz --out corpus",
        "select corpus --strategy micro-response --size 40 --out subset",
        "select corpus --strategy random --size 40 --out other",
    ):
        done = sftdiv(*words.split(), cwd=root)
        assert done.returncode == 0, done.stderr
    ids = corpora.ids(root / "corpus")
    held = sd.select(root / "corpus", size=100, match_length="corpus", work=root / ".sftdiv").ids
    others = sorted({*ids.to_pylist()} - {*held})
    (root / "known.txt").write_text("\n".join(others[:9]), "utf-8")
    vectors = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
    table = pa.table({"id": ids, "embedding": list(vectors)})
    pq.write_table(table, root / "vectors.parquet")
    shutil.move(reports.study(root / "reports", topical, 12), root / "study")
    recipe = sftdiv("export", "subset", "--to", "card", cwd=root)
    assert recipe.returncode == 0, recipe.stderr
    shutil.copy(root / "card/selection.yaml", root / "selection.yaml")
    return root


@pytest.fixture
def desk(desk_made, tmp_path, monkeypatch) -> Iterator[Desk]:
    """A copy of it, and for Python what its blocks take for granted."""
    import torch
    from transformers import AutoTokenizer

    at = tmp_path / "desk"
    shutil.copytree(desk_made, at, symlinks=True)
    monkeypatch.chdir(at)
    rows = sd.Subset("subset").to_dataset().select_columns(["instruction", "response"])
    pool = [json.loads(line) for line in (at / "pool.jsonl").read_text("utf-8").splitlines()]
    with (ROOT / "docs/experiments/miniature/results.csv").open() as file:
        scores = list(csv.DictReader(file))
    weight = torch.nn.Parameter(torch.zeros(2))
    said = [{"prompt": row["instruction"], "completion": row["output"]} for row in pool]
    names = {
        "dataset": _dataset(said),
        "model": str(at / "llama"),
        "counts": sp.random(200, 300, 0.05, "csr", random_state=0),
        "benchmark": rows,
        "tokenizer": AutoTokenizer.from_pretrained(at / "llama"),
        "scores": scores,
        "texts": [row["output"] for row in pool],
        "optimizer": torch.optim.AdamW([weight]),
    }
    with serving(lambda call, _: Reply("A")) as server:
        yield Desk(at, {**names, "URL": server.url})


def _dataset(rows: list[dict[str, Any]]) -> Any:
    import datasets

    return datasets.Dataset.from_list(rows)


def run_python(block: Block, desk: Desk) -> None:
    """Run a block of Python; names that an earlier block of the page made are there."""
    text = block.text.replace("http://127.0.0.1:8000/v1", desk.names["URL"])
    for large, small in WORDS.items():
        text = re.sub(rf"\b{re.escape(large)}\b", small, text) if large[0].isdigit() else text
    exec(compile(text, block.at, "exec"), desk.names)


def run_command(block: Block, words: list[str], desk: Desk) -> str | None:
    """Run a command; return the verb, None where it is only planned or parsed."""
    program, *rest = words
    if program in OTHERS:
        return None
    assert program == "sftdiv", f"{block.at}: what to do with {program}?"
    rest = [WORDS.get(word, word) for word in rest[: rest.index(">") if ">" in rest else None]]
    verb, line = rest[0], " ".join(rest)
    if verb in ELSEWHERE or any(one in line for one in PARSED):
        return None
    if verb in ("explain",):
        rest[2] = corpora.ids(desk.at / "corpus")[0].as_py()
    if verb == "study" and "NAME" in rest:
        rest[rest.index("NAME")] = "A-micro-response-n24-d0-s0-t0"
    planned = verb == "submit" or any(word.startswith(PLANNED) for word in rest)
    rest = [path for word in rest for path in sorted(glob.glob(word)) or [word]]  # noqa: PTH207
    at = 2 if verb == "run" else 1
    suite = rest[rest.index("--suite") :][:2] if "--suite" in rest else []
    besides = BESIDES.get(" ".join([verb, *suite]), [])
    rest[at:at] = [*(["--dry-run"] if planned else []), *besides]
    done = sftdiv(*rest)
    assert done.returncode == 0, (block.at, rest, done.stderr)
    return None if planned else verb


def follow(page: Path, desk: Desk) -> list[str]:
    """Do what a page says from top to bottom; return the verbs that were run."""
    ran = []
    for block in blocks(page):
        if block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict), block.at
            if named := re.search(r'title="(.*?)"', block.info):  # a file that commands name
                (desk.at / named[1]).write_text(block.text, "utf-8")
        elif block.language == "python" and not any(one in block.text for one in NOT_HERE):
            run_python(block, desk)
        elif block.language in ("bash", "console"):
            ran += [verb for words in commands(block) if (verb := run_command(block, words, desk))]
    return ran


PAGES = sorted({block.at.partition(":")[0] for block in EVERY if block.language != "text"})


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_says_to_do_can_be_done(name, desk):
    ran = follow(ROOT / name, desk)
    if ROOT / name == README:
        assert {"ingest", "select", "finetune", "score", "export"} <= {*ran}
        assert verify(desk.at / "shared")["faults"] == []
