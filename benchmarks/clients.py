"""Every client on every export: what it reads, against what was exported.

    python benchmarks/clients.py --venvs DIR [--only NAME ...] [--scratch DIR]

Makes a corpus of six dialogues (several turns, a system turn, a tool, text that breaks careless
readers), exports it in every format and file type, and lets each client read the folder as its
own documentation says. DIR gets one virtual environment for each trainer that is not among this
package's own dependencies (LLaMA-Factory, axolotl; some GB, made once; torch as in
constraints.txt). `trl` trains two steps of a tiny random model by the `trl_sft.sh` of the export,
LLaMA-Factory's and axolotl's loaders read by the `dataset_info.json` and `axolotl.yaml` of it.
Writes benchmarks/results/clients.json (the runs of `--only` in the place of its old ones) and the
table of docs/clients.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity import export, ingest
from sft_diversity.core.folder import dump_json
from sft_diversity.exporting import clients, formats
from sft_diversity.exporting.formats import exported

ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCS = ROOT / "benchmarks/results/clients.json", ROOT / "docs/clients.md"
MARK = "<!-- table: benchmarks/clients.py -->"
FILE_TYPES = ("parquet", "jsonl")
DIALOGUES = [
    [("user", "Why?"), ("assistant", "Because.")],
    [("system", "Be brief."), ("user", "Sort 3, 1, 2"), ("assistant", "1, 2, 3")],
    [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "See you")],
    [("user", "Rain?"), ("assistant", '{"call": 1}'), ("tool", "yes"), ("assistant", "Rain.")],
    [("user", "日本 🗾 \u2028 \u0000 e\u0301 <b>|</b>"), ("assistant", "Ünïcode \ud7ff")],
    [("user", "Why?"), ("assistant", "So."), ("user", "And what else?")],
]
# LLaMA-Factory imports torchaudio, whose wheel wants CUDA's libraries, for audio alone.
LLAMA_FACTORY = """
import json, sys, types, transformers
try:
    import torchaudio
except (ImportError, OSError):
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    sys.modules["torchaudio"].__spec__ = json.__spec__
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.hparams import get_train_args
for out, model in json.loads(sys.argv[1]):
    name = next(iter(json.load(open(out + "/dataset_info.json"))))
    model_args, data_args, training_args, _, _ = get_train_args({
        "stage": "sft", "do_train": True, "model_name_or_path": model, "dataset_dir": out,
        "dataset": name, "template": "default", "finetuning_type": "full", "output_dir": "unused",
        "report_to": "none", "overwrite_cache": True, "use_cpu": True})
    rows = _get_merged_dataset(data_args.dataset, model_args, data_args, training_args, "sft")
    print("ROWS " + json.dumps([out, rows.to_list()]))
"""
AXOLOTL = """
import json, sys
from datasets import load_from_disk
from pathlib import Path
found = [load_from_disk(str(p.parent)) for p in Path(sys.argv[1]).rglob("state.json")]
rows = [row for one in found for row in one.to_list()]
print("ROWS " + json.dumps([[r["input_ids"], r["labels"]] for r in rows]))
"""


def make_exports(scratch: Path) -> list[tuple[str, str, Path]]:
    """Return format, file type and folder of every export, made by the library itself."""
    source = scratch / "rows.jsonl"
    with source.open("wb") as out:
        for turns in DIALOGUES:
            row = {"messages": [{"role": role, "content": text} for role, text in turns]}
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    ingest(source, out=scratch / "corpus")
    made = []
    for name in formats.FORMATS:
        for file_type in FILE_TYPES:
            out_folder = scratch / f"{name}-{file_type}"
            export(
                scratch / "corpus", to=str(out_folder), format=name, file_type=file_type,
                leave_out_unfit=True,
            )  # fmt: skip
            made.append((name, file_type, out_folder))
    return made


def held(scratch: Path, name: str, kind: str) -> pa.Table:
    """Return the samples that an export holds, as `chat` rows."""
    files = sorted((scratch / "corpus/samples").glob("*.parquet"))
    samples = pa.concat_tables(pq.read_table(file) for file in files)
    unfit = {one["id"] for one in formats.survey_rows([samples], name, kind).unfit}
    mask = [one not in unfit for one in samples["id"].to_pylist()]
    return exported(samples.filter(pa.array(mask)))


def dialogues(scratch: Path, name: str, kind: str) -> list[list[tuple[str, str]]]:
    """Return the turns of the samples that an export holds."""
    turns = held(scratch, name, kind)["messages"].to_pylist()
    return [[(one["role"], one["content"]) for one in row] for row in turns]


Run = dict[str, Any]  # client, version, format, file_type, command, rows, exported, equal, note


def run_of(client: str, version: str, name: str, kind: str, command: str, **found: Any) -> Run:
    """Return one line of the table."""
    return {"client": client, "version": version, "format": name, "file_type": kind} | {
        "command": command, "note": ""
    } | found  # fmt: skip


def tables(made: list[tuple[str, str, Path]], scratch: Path) -> Iterator[Run]:
    """Let `datasets`, polars and DuckDB read each export whole."""
    import datasets
    import duckdb
    import polars as pl

    datasets.disable_progress_bars()
    for name, kind, out in made:
        files = f"{out}/data/*.{kind}"
        polars = f"{'read_parquet' if kind == 'parquet' else 'read_ndjson'}('data/*.{kind}')"
        loaded = datasets.load_dataset(
            str(out), split="train", cache_dir=str(scratch / "cache")
        ).to_list()
        framed = (pl.read_parquet(files) if kind == "parquet" else pl.read_ndjson(files)).to_dicts()
        relation = duckdb.sql(f"SELECT * FROM '{files}'")
        assert relation is not None
        reads: dict[str, tuple[str, list[dict[str, Any]]]] = {
            "datasets": ("load_dataset(DIR)", loaded),
            "polars": (f"pl.{polars}", framed),
            "duckdb": (
                f"SELECT * FROM 'data/*.{kind}'",
                relation.to_arrow_table().to_pylist(),
            ),
        }
        wanted = formats.formatted(held(scratch, name, kind), name).to_pylist()
        for client, (command, found) in reads.items():
            rows = sorted(found, key=lambda row: str(row["id"]))
            yield run_of(
                client, importlib.metadata.version(client), name, kind, command,
                rows=len(rows), exported=len(wanted), equal=rows == wanted,
            )  # fmt: skip


def trl(made: list[tuple[str, str, Path]], scratch: Path) -> Iterator[Run]:
    """Train two steps by the script of the export."""
    model = tiny_model(scratch)
    for name, kind, out in made:
        if not (out / clients.TRL).exists():
            continue
        options = "--max_steps 2 --use_cpu True --bf16 False --gradient_checkpointing False"
        options += " --report_to none --save_strategy no --logging_steps 1"
        done = subprocess.run(
            ["sh", str(out / clients.TRL), str(model), str(scratch / "trained"), *options.split()],
            capture_output=True, text=True, env=_environment(Path(sys.executable).parent, scratch),
        )  # fmt: skip
        steps = (done.stdout + done.stderr).count("'loss'")
        note = f"{steps} steps" if done.returncode == 0 else done.stderr.strip()[-300:]
        command = f"sh {clients.TRL} MODEL OUT --max_steps 2 ..."
        version = importlib.metadata.version("trl")
        yield run_of(
            "trl sft", version, name, kind, command, rows=None,
            exported=len(dialogues(scratch, name, kind)), equal=None, note=note,
        )  # fmt: skip


def llama_factory(made: list[tuple[str, str, Path]], scratch: Path, venvs: Path) -> Iterator[Run]:
    """Read by LLaMA-Factory's loader; equal where system, prompt and response are our turns."""
    place = environment(venvs, "llamafactory")
    model = tiny_model(scratch)
    wanted = {str(out): (name, kind) for name, kind, out in made
              if (out / clients.LLAMA_FACTORY).exists()}  # fmt: skip
    done = subprocess.run(
        [str(place / "python"), "-c", LLAMA_FACTORY,
         json.dumps([[out, str(model)] for out in wanted])],
        capture_output=True, text=True, env=_environment(place, scratch), cwd=scratch,
    )  # fmt: skip
    roles = {"observation": "tool"}
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("ROWS "):
            out, rows = json.loads(line.removeprefix("ROWS "))
            found[out] = [
                [("system", row["_system"])] * bool(row["_system"])
                + [(roles.get(turn["role"], turn["role"]), turn["content"])
                   for turn in row["_prompt"] + row["_response"]]
                for row in rows if row["_response"]
            ]  # fmt: skip
    for out, (name, kind) in wanted.items():
        ours = [
            turns for turns in dialogues(scratch, name, kind)
            if formats.alternates([{"role": role} for role, _ in turns])
        ]  # fmt: skip
        left = len(dialogues(scratch, name, kind)) - len(ours)
        note = f"{left} that does not alternate left out, as the card says" if left else ""
        if out not in found:
            note = done.stderr.strip()[-300:]
        rows = found.get(out, [])
        yield run_of(
            "LLaMA-Factory", version_in(place, "llamafactory"), name, kind,
            "loader of llamafactory-cli train --dataset_dir DIR", rows=len(rows),
            exported=len(ours) + left, equal=sorted(rows) == sorted(ours), note=note,
        )  # fmt: skip


def axolotl(made: list[tuple[str, str, Path]], scratch: Path, venvs: Path) -> Iterator[Run]:
    """Preprocess by the snippet; equal where the trained text holds what the assistant says."""
    from transformers import AutoTokenizer

    place = environment(venvs, "axolotl")
    model = tiny_model(scratch)
    tokenizer = AutoTokenizer.from_pretrained(model)
    for name, kind, out in made:
        if not (out / clients.AXOLOTL).exists():
            continue
        prepared = scratch / f"prepared-{name}-{kind}"
        settings = (out / clients.AXOLOTL).read_text() + (
            f"base_model: {model}\ndataset_prepared_path: {prepared}\nsequence_len: 512\n"
            "output_dir: unused\nmicro_batch_size: 1\nlearning_rate: 0.001\nnum_epochs: 1\n"
            "gradient_accumulation_steps: 1\nspecial_tokens: {pad_token: '<|pad|>'}\n"
        )
        (scratch / "axolotl-run.yaml").write_text(settings)
        environ = _environment(place, scratch)
        done = subprocess.run(
            [str(place / "axolotl"), "preprocess", str(scratch / "axolotl-run.yaml")],
            capture_output=True, text=True, env=environ, cwd=out,
        )  # fmt: skip
        read = subprocess.run(
            [str(place / "python"), "-c", AXOLOTL, str(prepared)],
            capture_output=True, text=True, env=environ,
        )  # fmt: skip
        rows: list[Any] = next(
            (json.loads(line[5:]) for line in read.stdout.splitlines() if line[:5] == "ROWS "), []
        )
        said = sorted(
            str(tokenizer.decode([one for one in labels if one != -100])).replace(" ", "")
            for _, labels in rows
        )
        ours = dialogues(scratch, name, kind)
        answers = sorted(
            "".join(text + tokenizer.eos_token for role, text in turns if role == "assistant")
            .replace(" ", "") for turns in ours
        )  # fmt: skip
        yield run_of(
            "axolotl", version_in(place, "axolotl"), name, kind,
            f"axolotl preprocess {clients.AXOLOTL}", rows=len(rows), exported=len(ours),
            equal=said == answers, note="" if rows else (done.stdout + done.stderr)[-300:],
        )  # fmt: skip


def environment(venvs: Path, package: str) -> Path:
    """Return the bin folder of a virtual environment with a package, made where there is none."""
    place = venvs / package
    if not (place / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        constraint = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([str(place / "bin/pip"), "install", "-q", *constraint, package], check=True)
    return place / "bin"


def version_in(place: Path, package: str) -> str:
    """Return a package's version in another environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [str(place / "python"), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def tiny_model(scratch: Path) -> Path:
    """Return a tiny random model with our chat template."""
    out = scratch / "model"
    if not out.exists():
        sys.path.insert(0, str(ROOT))
        from transformers import AutoTokenizer

        from sft_diversity.core import chat
        from tests import tiny

        tiny.save(out)
        tokenizer = AutoTokenizer.from_pretrained(out)
        chat.ensure_template(tokenizer)
        tokenizer.save_pretrained(out)
    return out


def _environment(place: Path, scratch: Path) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(scratch / "home"), "AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1",
        "DISABLE_VERSION_CHECK": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def table(runs: list[Run]) -> str:
    """Return the runs as a Markdown table."""
    lines = [
        "| client | version | format | file | command | rows read | turns equal | |",
        "| --- | --- | --- | --- | --- | ---: | --- | --- |",
    ]
    for run in runs:
        read = "" if run["rows"] is None else f"{run['rows']} of {run['exported']}"
        equal = {True: "yes", False: "**no**", None: ""}[run["equal"]]
        note = " ".join(run["note"].replace("|", "/").split())
        cells = [run["client"], run["version"], run["format"], run["file_type"]]
        lines.append("| " + " | ".join([*cells, f"`{run['command']}`", read, equal, note]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the clients that are asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--venvs", type=Path, required=True)
    names = ["tables", "trl", "llamafactory", "axolotl"]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--scratch", type=Path, default=None)
    asked = parser.parse_args()
    scratch = asked.scratch or Path(tempfile.mkdtemp(prefix="clients-"))
    scratch.mkdir(parents=True, exist_ok=True)
    made = make_exports(scratch)
    runs: list[Run] = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    jobs = {
        "tables": lambda: tables(made, scratch), "trl": lambda: trl(made, scratch),
        "llamafactory": lambda: llama_factory(made, scratch, asked.venvs),
        "axolotl": lambda: axolotl(made, scratch, asked.venvs),
    }  # fmt: skip
    for name in asked.only:
        found = list(jobs[name]())
        fresh = {run["client"] for run in found}
        runs = [run for run in runs if run["client"] not in fresh] + found
        RESULTS.write_text(dump_json({"runs": runs}))
        head = DOCS.read_text().split(MARK)[0]
        DOCS.write_text(f"{head}{MARK}\n\n{table(runs)}\n")
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
