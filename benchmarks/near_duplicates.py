"""Near-duplicates: `sftdiv clean` beside text-dedup (MinHash) and semhash (embeddings).

    python benchmarks/near_duplicates.py CORPUS [--embeddings DIR] [--rows 117000]
        [--text-dedup PYTHON] [--semhash PYTHON]

The peers run under interpreters of their own (text-dedup needs Python 3.12), each in a process
that is timed whole: start, reading, writing. MinHash: both compare instruction and response as one
text, by word 3-grams at Jaccard 0.8, 128 permutations, candidates verified. Embeddings: both get
the same unit vectors of one component, cosine 0.95; semhash searches approximately and only among
them, ours also reads and writes the corpus. `--truth N` looks at all pairs of the first N samples
by id: how many that were kept still have a twin that was kept, and, where N is all, how many went
without one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.cleaning import minhash
from sft_diversity.cleaning.compiled import Bounds, Hashes
from sft_diversity.cleaning.pairs import jaccard
from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, vectors
from sft_diversity.core.kernels import compiled

RESULTS = Path(__file__).parent / "results"
JACCARD, COSINE = 0.8, 0.95

TEXT_DEDUP = """
import sys
from text_dedup.config.base import Config, load_config_from_toml
from text_dedup.minhash import main
from pathlib import Path
main(load_config_from_toml(Path(sys.argv[1])))
"""
TOML = """
[input]
input_type = "local_files"
file_type = "parquet"
read_arguments = {{ path = "parquet", data_files = "{source}", split = "train" }}
[algorithm]
algorithm_name = "minhash"
text_column = "text"
ngram_size = 3
num_perm = 128
threshold = {jaccard}
seed = 0
check_false_positive = true
num_proc = {cores}
[output]
output_dir = "{out}"
save_clusters = false
skip_filtering = true
keep_index_column = true
keep_cluster_column = true
clean_cache = true
[debug]
enable_profiling = false
"""
SEMHASH = """
import json, sys
import numpy as np
from semhash import SemHash
vectors = np.load(sys.argv[1])
class Given:
    def encode(self, inputs, **_):
        return vectors[[int(i) for i in inputs]]
hashed = SemHash.from_records([str(i) for i in range(len(vectors))], model=Given())
result = hashed.self_deduplicate(threshold=float(sys.argv[2]))
json.dump([int(i) for i in result.selected], open(sys.argv[3], "w"))
"""


def main() -> None:
    """Run each tool once, print a line each, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--component", default="instruction")
    parser.add_argument("--rows", type=int, default=1 << 40)
    parser.add_argument("--truth", type=int, default=5_000)
    parser.add_argument("--text-dedup", help="an interpreter that has text-dedup")
    parser.add_argument("--semhash", help="an interpreter that has semhash")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        where = Path(place)
        table = corpora.read(asked.corpus).slice(0, asked.rows)
        measured: dict[str, Any] = {"rows": table.num_rows}
        measured["minhash"] = _minhash(table, where, asked.text_dedup, asked.truth)
        if asked.embeddings is not None:
            measured["cosine"] = _cosine(table, where, asked)
    _write(measured, load)


def _minhash(table: pa.Table, where: Path, peer: str | None, truth: int) -> dict[str, Any]:
    texts = [
        f"{i}\n\n{r}"
        for i, r in zip(
            table["instruction"].to_pylist(), table["response"].to_pylist(), strict=True
        )
    ]
    whole = table.set_column(6, "response", pa.array(texts, pa.string()))
    source = _corpus(whole, where / "corpus")
    out = where / "ours"
    command = [sys.executable, "-c", "from sft_diversity.cli import main; main()", "clean"]
    command += [str(source), "--out", str(out), "--component", "response", "--jaccard", "0.8"]
    measured: dict[str, Any] = {"ours": _timed(command)}
    removed = set(pq.read_table(out / "removed.parquet")["id"].to_pylist())
    stays = {"ours": np.array([i not in removed for i in table["id"].to_pylist()])}
    if peer is not None:
        pq.write_table(pa.table({"text": texts}), where / "text.parquet")
        toml = where / "config.toml"
        toml.write_text(
            TOML.format(
                source=where / "text.parquet",
                out=where / "theirs",
                jaccard=JACCARD,
                cores=os.cpu_count(),
            )
        )
        measured["text-dedup"] = _timed([peer, "-c", TEXT_DEDUP, str(toml)])
        stays["text-dedup"] = _kept_of(where / "theirs", len(texts))
        ratio = measured["text-dedup"]["seconds"] / measured["ours"]["seconds"]
        measured["ratio"] = {"seconds": round(ratio, 1)}
    values, bounds = minhash.sets([""] * len(texts[:truth]), texts[:truth], 3)
    for name, kept in stays.items():
        measured[name]["removed"] = int((~kept).sum())
        missed, alone = _against_all_pairs(values, bounds, kept, JACCARD)
        measured[name]["kept_with_a_twin_kept"] = missed
        if truth >= len(texts):
            measured[name]["removed_without_a_twin_kept"] = alone
    measured["truth_rows"] = min(truth, len(texts))
    return measured


def _kept_of(out: Path, n: int) -> npt.NDArray[np.bool_]:
    """Return which rows text-dedup would keep: those that name their cluster, and unread ones."""
    from datasets import load_from_disk

    table = load_from_disk(str(out))
    kept = np.ones(n, bool)
    rows = np.array(table["__INDEX__"])
    kept[rows] = np.array(table["__CLUSTER__"]) == rows
    return kept


def _cosine(table: pa.Table, where: Path, asked: argparse.Namespace) -> dict[str, Any]:
    ids, rows = vectors.read_component(asked.embeddings, asked.component)
    rows = rows[: table.num_rows]
    source = _corpus(table, where / "samples")
    draft = drafts.open_draft(where / "embeddings", drafts.Work("embed", 0, {}, {}))
    columns = [ids.slice(0, len(rows)), vectors.column(rows.astype(np.float16))]
    draft.write_table(f"{asked.component}/all.parquet", pa.table(columns, ["id", "embedding"]))
    draft.commit()
    code = (
        "import sys; from pathlib import Path; from sft_diversity.cleaning.stage import *\n"
        f"config = CleanConfig(minhash=False, cosine={COSINE}, component='{asked.component}', "
        "keep='first')\n"
        f"clean(Path(sys.argv[1]), Path(sys.argv[2]), config, "
        f"{{'{asked.component}': Path(sys.argv[3])}})"
    )
    out = where / "exact"
    measured = {
        "ours": _timed(
            [sys.executable, "-c", code, str(source), str(out), str(where / "embeddings")]
        )
    }
    gone = pq.read_table(out / "removed.parquet")
    measured["ours"]["removed"] = gone.num_rows
    if asked.semhash:
        np.save(where / "vectors.npy", rows, allow_pickle=False)
        kept = where / "kept.json"
        command = [asked.semhash, "-c", SEMHASH, str(where / "vectors.npy"), str(COSINE), str(kept)]
        measured["semhash"] = _timed(command)
        stays = np.zeros(len(rows), bool)
        stays[json.loads(kept.read_text())] = True
        measured["semhash"]["removed"] = int((~stays).sum())
        measured["semhash"]["kept_with_a_twin_kept"] = _unmet(rows[stays])
        ratio = measured["semhash"]["seconds"] / measured["ours"]["seconds"]
        measured["ratio"] = {"seconds": round(ratio, 2)}
    return measured


def _unmet(rows: vectors.Vectors) -> int:
    """Return how many rows still have a twin before them: what an approximate search missed."""
    missed = 0
    for start in range(0, len(rows), 2_048):
        products = rows[start : start + 2_048] @ rows[: start + 2_048].T
        products[np.triu(np.ones(products.shape, bool), k=start)] = -1
        missed += int((products >= COSINE).any(axis=1).sum())
    return missed


@compiled
def _against_all_pairs(
    values: Hashes, bounds: Bounds, kept: npt.NDArray[np.bool_], least: float
) -> tuple[int, int]:
    """Return how many kept rows have a kept twin before them, and removed ones have none at all."""
    n = len(bounds) // 2
    missed, alone = 0, 0
    for i in range(n):
        found = False
        for j in range(i if kept[i] else n):
            if kept[j] and jaccard(values, bounds, i, j, least) >= least:
                found = True
                break
        missed += kept[i] and found
        alone += not kept[i] and not found
    return missed, alone


def _corpus(table: pa.Table, out: Path) -> Path:
    draft = drafts.open_draft(out, drafts.Work("ingest", 0, {}, {"rows": table.num_rows}))
    for start in range(0, table.num_rows, 10_000):
        draft.write_table(f"samples/{start:09}.parquet", table.slice(start, 10_000))
    draft.commit(result={"sources": []})
    return out


def _timed(command: list[str]) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{command[:3]} failed: {done.stderr[-2_000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{Path(command[0]).name} {command[2][:40]!r}: {seconds:.1f} s, {cpu:.1f} s of processor")
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}


def _write(measured: dict[str, Any], load: float) -> None:
    result = measured | {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "load_before": load, "system": platform.platform()},
        "versions": {"rensa": metadata.version("rensa"), "numpy": metadata.version("numpy")},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "near_duplicates.json").write_text(folder.dump_json(result))
    print(folder.dump_json(result))


if __name__ == "__main__":
    main()
