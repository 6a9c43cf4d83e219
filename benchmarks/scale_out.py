"""The data stages by parts: scaling over one and two processes, then 64 workers simulated.

    sftdiv ingest SOURCES --out pool/
    python benchmarks/scale_out.py --corpus pool/ --scratch scratch/

`--scratch` must not exist; it is left for inspection.

Measured on the first rows by id, which is a random sample: `--embed` of them for embed, `--index`
for the passes of micro and meso. One process does part 1/1, then two processes at once do 1/2 and
2/2, each with one core, each in a fresh work folder; the plain verb assembles, in this process, and
both results must be equal byte for byte. Start-up is the same command on eight rows; the cost of a
shard is the slope of processor time between 16 and 256 shards of the same rows. Then every shard is
timed alone.

Simulated: a corpus of `--simulate` samples whose shards are sums of measured ones, drawn with
replacement, each of a slice's rows, dealt out to tasks; a task goes to the first free worker, as
array tasks do, and each pays the measured start-up.

Entered into benchmarks/results/scale_out.json, verb by verb (`--verbs`). Processor seconds stand
beside wall seconds.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, machine, parts
from sft_diversity.core.parts import SLICE_ROWS, Slice
from sft_diversity.stages import store
from sft_diversity.verbs import data

RESULT = Path(__file__).parent / "results" / "scale_out.json"
VERBS: dict[str, list[str]] = {
    "embed": ["embed", "--workers", "1"],
    "index micro-response": ["index", "--strategy", "micro-response"],
    "index meso-response": ["index", "--strategy", "meso-response", "--config", "MESO"],
}
MESO = "meso: {merge: none}\n"  # merging synonyms embeds the units' names, in one process
SHARDS = 32
WORKERS = (1, 2, 4, 8, 16, 32, 64)
TASKS_A_WORKER = (1, 4, 16)


def main() -> None:
    """Measure, simulate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--embed", type=int, default=1_000, help="samples that are embedded")
    parser.add_argument("--index", type=int, default=8_000, help="samples that are indexed")
    parser.add_argument("--simulate", type=int, nargs="+", default=[1_000_000, 100_000_000])
    parser.add_argument("--core-rate", type=float, default=21.0, help="samples/s, docs/scale.md")
    parser.add_argument("--gpu-rate", type=float, default=4_000.0, help="samples/s, assumed")
    parser.add_argument("--verbs", nargs="*", choices=list(VERBS), default=list(VERBS))
    asked = parser.parse_args()
    asked.scratch.mkdir(parents=True)
    (asked.scratch / "meso.yaml").write_text(MESO, "utf-8")
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "0"}
    for verb in asked.verbs:
        rows = asked.embed if verb == "embed" else asked.index
        named = [str(asked.scratch / "meso.yaml") if w == "MESO" else w for w in VERBS[verb]]
        _enter("measured", {verb: scaling(verb, named, asked, rows)})
    assembled = assembling(asked.corpus, asked.scratch / "assemble", asked.index)
    told = _enter("assemble", assembled)
    sources = corpora.manifest(asked.corpus)["result"]["sources"]
    _enter("corpus", {source["name"]: source["rows"]["kept"] for source in sources})
    curves = [
        simulated(verb, told["measured"][verb.partition(",")[0]], samples, speed)
        for samples in asked.simulate
        for verb, speed in speeds(told["measured"], asked.core_rate, asked.gpu_rate).items()
    ]
    _enter("simulated", {f"{curve['verb']}, {curve['samples']:,}": curve for curve in curves})


def _enter(name: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Add entries to a block of the result; return it all."""
    told = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    told["benchmark"] = Path(__file__).stem
    told |= {"machine": machine.measured_on(), name: {**told.get(name, {}), **entries}}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(folder.dump_json(told), "utf-8")
    return told


def scaling(verb: str, command: list[str], asked: argparse.Namespace, rows: int) -> dict[str, Any]:
    """Return what one verb takes on one process and on two, and what a task and a shard cost."""
    place = asked.scratch / verb.replace(" ", "-")
    corpus = resharded(asked.corpus, place / "corpus", rows, SHARDS)
    few = resharded(asked.corpus, place / "few", 8, 1)
    runs, digests = {}, []
    for workers in (1, 2):
        work = place / f"work-{workers}"
        runs[str(workers)] = at_once(
            [[*command, str(corpus), "--part", f"{i}/{workers}", "--work", str(work)]
             for i in range(1, workers + 1)]
        )  # fmt: skip
        out = place / f"out-{workers}"
        runs[str(workers)]["assemble_cpu_s"] = here(verb, corpus, work=work, out=out)
        digests.append(folder.read_manifest(out)["digest"])
    start = at_once([[*command, str(few), "--part", "1/1", "--work", str(place / "start")]])
    if digests[0] != digests[1]:
        raise AssertionError(f"{verb}: two parts gave other bytes than one")
    return {
        "samples": rows,
        "shards": SHARDS,
        "load": [round(value, 1) for value in os.getloadavg()],
        "runs": runs,
        "equal": True,
        "startup": start["tasks"][0],
        "seconds_a_shard": a_shard(verb, asked.corpus, place, rows),
        "shard_cpu_seconds": [round(s, 4) for s in shard_times(verb, corpus)],
    }


def at_once(commands: Sequence[list[str]]) -> dict[str, Any]:
    """Run commands of `sftdiv` at once; return wall and processor seconds of each and of all."""
    clock = time.perf_counter()
    children = [
        subprocess.Popen([sys.executable, "-m", "sft_diversity", *command], stderr=subprocess.PIPE,
                         stdout=subprocess.DEVNULL)
        for command in commands
    ]  # fmt: skip
    tasks = []
    for child in children:
        assert child.stderr is not None
        said = child.stderr.read().decode()
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise RuntimeError(f"{commands}: {said[-500:]}")
        seconds = {"wall_s": time.perf_counter() - clock, "cpu_s": used.ru_utime + used.ru_stime}
        tasks.append({name: round(value, 2) for name, value in seconds.items()})
    return {
        "wall_s": max(task["wall_s"] for task in tasks),
        "cpu_s": round(sum(task["cpu_s"] for task in tasks), 2),
        "tasks": tasks,
    }


def here(verb: str, corpus: Path, **options: Any) -> float:
    """Run a verb in this process; return its processor seconds, imports and compiling aside."""
    chosen: dict[str, Any] = {"workers": 1} if verb == "embed" else {"strategy": verb.split()[1]}
    if "meso" in verb:
        chosen["meso"] = {"merge": "none"}
    run = data.embed if verb == "embed" else data.index
    clock = time.process_time()
    run(corpus, **chosen, **options)
    return round(time.process_time() - clock, 3)


def a_shard(verb: str, corpus: Path, place: Path, rows: int) -> float:
    """Return processor seconds that a shard costs beside its rows.

    For embed every vector is in the cache, so that what is left is reading and looking up.
    """
    cpu, many = [], []
    for number, shards in enumerate((16, 16, 256)):  # the first loads what there is to load
        cut = resharded(corpus, place / f"corpus-{shards}", rows, shards)
        work = place / ("work-1" if verb == "embed" else f"work-{number}-shards")
        if verb == "embed":
            for made in ("parts", "embed"):  # the vectors stay
                shutil.rmtree(work / made, ignore_errors=True)
        cpu.append(here(verb, cut, part="1/1", work=work))
        many.append(len(parts.slices(cut)))
    return round((cpu[2] - cpu[1]) / (many[2] - many[1]), 5)


def shard_times(verb: str, corpus: Path) -> list[float]:
    """Return processor seconds of every shard's rows, one after another in this process."""
    work = _worker(verb)
    pieces = parts.slices(corpus)
    work(pieces[0])  # loads and compiles
    found = []
    for piece in pieces:
        clock = time.process_time()
        work(piece)
        found.append(time.process_time() - clock)
    return found


def assembling(corpus: Path, place: Path, rows: int) -> dict[str, float]:
    """Return processor seconds and bytes a sample of `embed` where all is cached.

    The cached vectors are random: what is timed does not look at them.
    """
    from sft_diversity.embedding import batches, stage
    from sft_diversity.embedding import cache as caches
    from sft_diversity.embedding.encoders import ENCODERS

    cut = resharded(corpus, place / "corpus", rows, SHARDS)
    files, config = ENCODERS.find("packaged"), stage.EmbedConfig()
    at = stage.cache_folder(place / "work", config, files, stage.place_encoder(config))
    rng, texts = np.random.default_rng(0), 0
    keys, slices = batches.TextKeys(config.components), parts.slices(cut)
    for batch in batches.missing_texts(slices, keys, caches.Vectors(at), 400_000):
        vectors = rng.standard_normal((len(batch.texts), 384)).astype(np.float16)
        caches.write_part(at, batch.name, batch.keys, vectors, np.zeros(len(vectors), np.bool_))
        texts += len(batch.texts)
    clock = time.process_time()
    store(place / "work").get("embed", config, cut, out=place / "out")
    seconds = time.process_time() - clock
    stored = [sum(f.stat().st_size for f in at.rglob("*.arrow"))]
    stored.append(sum(f.stat().st_size for f in (place / "out").rglob("*.parquet")))
    return {
        "samples": rows,
        "cpu_s_a_sample": round(seconds / rows, 7),
        "texts_a_sample": round(texts / rows, 3),
        "cache_files_a_sample": round(len(list(at.glob("*.arrow"))) / rows, 6),
        "cache_bytes_a_sample": round(stored[0] / rows, 1),
        "out_bytes_a_sample": round(stored[1] / rows, 1),
    }


def _worker(verb: str) -> Callable[[Slice], object]:
    """Return the function that does what a part does with a slice, short of writing it."""
    if verb == "embed":
        import torch

        from sft_diversity.embedding.batches import encode
        from sft_diversity.embedding.encoders import ENCODERS
        from sft_diversity.embedding.stage import EmbedConfig, load_encoder, place_encoder

        torch.set_num_threads(1)
        files, config = ENCODERS.find("packaged"), EmbedConfig(workers=1)
        at = place_encoder(config)
        encoder = load_encoder(files, config, at.precision, "cpu")

        def embed(piece: Slice) -> object:
            table = piece.read(corpora.COMPONENTS)
            texts = [text for name in corpora.COMPONENTS for text in table[name].to_pylist()]
            return encode(encoder, list(dict.fromkeys(texts)), at.batch_tokens)

        return embed
    if "micro" in verb:
        from sft_diversity.levels.tokenizing import count_tokens, load_tokenizer
        from sft_diversity.levels.tokens import TokensConfig

        tokenizer = load_tokenizer(TokensConfig().name)
        return lambda piece: count_tokens(
            tokenizer, piece.read(["response"])["response"].to_pylist()
        )
    from sft_diversity.levels.stream import read_stream

    return lambda piece: read_stream(piece.read(["response"])["response"].to_pylist())


def resharded(corpus: Path, out: Path, rows: int, shards: int) -> Path:
    """Write the first rows of a corpus, in id order, as a corpus of `shards` shards."""
    table = corpora.read(corpus).slice(0, rows)
    if table.num_rows < rows:
        raise SystemExit(f"{corpus} has {table.num_rows:,} rows, {rows:,} are wanted")
    made = drafts.Work("ingest", 0, {"corpus": corpora.key(corpus)}, {"rows": rows, "of": shards})
    draft = drafts.open_draft(out, made)
    if not draft.reused:
        edges = np.linspace(0, rows, shards + 1).astype(int)
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            part: pa.Table = table.slice(int(low), int(high - low))
            draft.write_table(f"samples/{number:05}.parquet", part)
        draft.commit(rows=folder.rows_account(rows, rows, {}))
    return out


def speeds(measured: dict[str, Any], core_rate: float, gpu_rate: float) -> dict[str, float]:
    """Return by verb how much faster a worker is than what the shards were timed at.

    Shards of a few samples do not fill embed's batches, which are padded with dummies: their times
    give the spread, and samples a second come from `core_rate` and `gpu_rate`.
    """
    rate = measured["embed"]["samples"] / sum(measured["embed"]["shard_cpu_seconds"])
    plain = dict.fromkeys(measured, 1.0)
    return plain | {"embed": core_rate / rate, "embed, on GPUs": gpu_rate / rate}


def simulated(verb: str, measured: dict[str, Any], samples: int, speed: float) -> dict[str, Any]:
    """Return makespan and efficiency for every number of workers and tasks a worker."""
    buckets = 16 ** corpora.bucket_digits(samples)
    n_shards = buckets * math.ceil(samples / buckets / SLICE_ROWS)
    many = round(samples / n_shards / (measured["samples"] / measured["shards"]))
    rng = np.random.default_rng(0)
    draws = rng.choice(measured["shard_cpu_seconds"], (n_shards, max(many, 1)))
    shards = draws.sum(axis=1) / speed + measured["seconds_a_shard"]
    start = measured["startup"]["cpu_s"]
    alone = start + float(shards.sum())
    curve = []
    for workers in WORKERS:
        for each in TASKS_A_WORKER:
            tasks = [float(t.sum()) + start for t in np.array_split(shards, workers * each)]
            span = makespan(tasks, workers)
            curve.append(
                {
                    "workers": workers,
                    "tasks": workers * each,
                    "hours": round(span / 3600, 4),
                    "efficiency": round(alone / span / workers, 4),
                }
            )
    return {
        "verb": verb,
        "samples": samples,
        "shards": n_shards,
        "speed": round(speed, 2),
        "shard_s": {"mean": round(float(shards.mean()), 4), "max": round(float(shards.max()), 4)},
        "startup_s": start,
        "curve": curve,
    }


def makespan(tasks: Sequence[float], workers: int) -> float:
    """Return when the last task ends if each, in order, goes to the first free worker."""
    free = [0.0] * workers
    for task in tasks:
        heapq.heapreplace(free, free[0] + task)
    return max(free)


if __name__ == "__main__":
    main()
