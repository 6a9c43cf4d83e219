"""Embedding against `SentenceTransformer.encode`: speed and agreement.

    python benchmarks/embed_vs_sentence_transformers.py CORPUS [--texts 3000] [--rounds 3]
        [--peer-dtype float32] [--peer-batch 32]

Both take the same seeded texts of a real corpus, both components, in turns in one run, from
loaded models, the peer in a process of its own. Ours includes hashing, tokenising, writing and
reading back the parts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, machine, seeding
from sft_diversity.core import vectors as core_vectors
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding import pool
from sft_diversity.embedding.base import Placement, SteppedEncoder, WholeEncoder
from sft_diversity.embedding.batches import Batch, cut
from sft_diversity.embedding.encoders import ENCODERS
from sft_diversity.embedding.stage import EmbedConfig, load_encoder, place_encoder

RESULTS = Path(__file__).parent / "results"
ROWS_OF_LAYERS = 6 * 12 * 384**2  # multiply-adds a token in the packaged encoder's products


def main() -> None:
    """Run the rounds, print a line each, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--texts", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="packaged")
    parser.add_argument("--peer-dtype", default="float32", help="precision of the peer's weights")
    parser.add_argument("--peer-batch", type=int, nargs="+", default=[32], help="the best is taken")
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    config = EmbedConfig(encoder=asked.encoder)
    files = ENCODERS.find(asked.encoder)
    placement = place_encoder(config)
    ours = load_encoder(files, config, placement.precision, placement.device)
    assert not isinstance(ours, WholeEncoder)
    texts = _texts(asked.corpus, asked.texts, asked.seed)
    context = multiprocessing.get_context("spawn")
    theirs = ProcessPoolExecutor(
        1, context, initializer=load_peer, initargs=(str(files.path), asked.peer_dtype)
    )
    sizes = {
        size: theirs.submit(encode_peer, texts[:500], size).result()[0] for size in asked.peer_batch
    }
    size = min(sizes, key=lambda one: sizes[one])  # the peer's best, after its first product

    rounds, cosines = [], []
    for number, part in enumerate(np.array_split(np.array(texts, dtype=object), asked.rounds)):
        batch = part.tolist()
        timed: dict[str, tuple[float, float, Any]] = {}
        turns = ["theirs", "ours"] if number % 2 else ["ours", "theirs"]
        for who in turns:
            if who == "ours":
                timed[who] = _timed(_embed, ours, placement, batch)
            else:
                timed[who] = theirs.submit(encode_peer, batch, size).result()
        pair = [core_vectors.unit(timed[who][2]) for who in ("ours", "theirs")]
        cosines.append(np.einsum("nd,nd->n", *pair))
        rounds.append(_figures(batch, ours, timed))
        print(json.dumps(rounds[-1]), flush=True)

    theirs.shutdown()
    agreement = np.concatenate(cosines)
    total = {w: sum(r[f"{w}_s"] for r in rounds) for w in ("ours", "theirs")}
    cpu_s = {w: sum(r[f"{w}_cpu_s"] for r in rounds) for w in ("ours", "theirs")}
    result = {
        "benchmark": Path(__file__).stem,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "ratio": round(total["theirs"] / total["ours"], 2),
        "ratio_of_cpu_seconds": round(cpu_s["theirs"] / cpu_s["ours"], 2),
        "mean_cosine": round(float(agreement.mean()), 6),
        "min_cosine": round(float(agreement.min()), 6),
        "texts": len(texts),
        "peer": {"dtype": asked.peer_dtype, "batch": size},
        "precision": placement.precision,
        "device": placement.device,
        "workers": placement.workers,
        "rounds": rounds,
        "machine": {
            "cores": machine.cores(),
            "processor": platform.processor() or platform.machine(),
            "bf16": machine.has_bf16(),
            "flags": sorted(
                f for f in machine.cpu_flags() if f.startswith(("avx", "amx", "fma", "bf16"))
            ),
        },
        "product_limit_gflops": _product_limit(),
        "versions": folder.versions(),
    }
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{Path(__file__).stem}.json"
    target.write_text(folder.dump_json(result), "utf-8")
    print(f"{result['ratio']}x at mean cosine {result['mean_cosine']}; wrote {target.name}")


_peer: Any = None


def load_peer(model: str, dtype: str = "float32") -> None:
    """Load the peer in its own process: our settings of memory and threads do not reach it."""
    global _peer
    import torch
    from sentence_transformers import SentenceTransformer

    _peer = SentenceTransformer(model, model_kwargs={"dtype": getattr(torch, dtype)})


def encode_peer(texts: list[str], batch_size: int = 32) -> tuple[float, float, Any]:
    """Return wall seconds, processor seconds and vectors."""
    return _timed(_peer.encode, texts, batch_size=batch_size, show_progress_bar=False)


def _timed(
    function: Callable[..., Any], *arguments: Any, **options: Any
) -> tuple[float, float, Any]:
    """Return wall seconds, CPU seconds and the result."""
    clock, cpu = time.perf_counter(), time.process_time()
    value = function(*arguments, **options)
    return time.perf_counter() - clock, time.process_time() - cpu, value


def _texts(corpus: Path, count: int, seed: int) -> list[str]:
    """Return texts of seeded rows, both components, repeats as they come."""
    table = corpora.read(corpus, list(corpora.COMPONENTS))
    rng = seeding.generator(seed, "benchmark", "embed")
    rows = rng.choice(table.num_rows, count // 2, replace=False)
    taken = table.take(rows)
    return [text for c in corpora.COMPONENTS for text in taken[c].to_pylist()]


def _embed(encoder: SteppedEncoder, placement: Placement, texts: list[str]) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        keys = caches.text_keys(texts)
        distinct = dict(zip(keys.tolist(), texts, strict=True))
        batches = [
            Batch(f"{number:03d}", own, [distinct[key] for key in own.tolist()])
            for number, own in enumerate(cut(distinct, placement.unit_characters))
        ]
        pool.run_threads(lambda _: encoder, placement, Path(scratch), batches, lambda _: None)
        return caches.Vectors(Path(scratch)).get(keys)[0]


def _figures(
    texts: list[str], encoder: SteppedEncoder, timed: dict[str, tuple[float, float, Any]]
) -> dict[str, float]:
    tokens = sum(map(len, encoder.tokenize(texts)[0]))
    figures: dict[str, float] = {
        "texts": len(texts),
        "distinct": len(set(texts)),
        "tokens": tokens,
        "load": round(os.getloadavg()[0], 2),
    }
    for who, (wall, cpu, _) in timed.items():
        figures[f"{who}_s"] = round(wall, 3)
        figures[f"{who}_cpu_s"] = round(cpu, 3)
        figures[f"{who}_gflops"] = round(2 * ROWS_OF_LAYERS * tokens / wall / 1e9, 1)
    figures["ratio"] = round(timed["theirs"][0] / timed["ours"][0], 2)
    return figures


def _product_limit() -> float:
    """Return the best GFLOP/s of one core's float32 product: what no encoder can pass."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows, weights = torch.randn(2048, 384), torch.randn(1536, 384)
    seconds = []
    for _ in itertools.repeat(None, 20):
        clock = time.perf_counter()
        torch.nn.functional.linear(rows, weights)
        seconds.append(time.perf_counter() - clock)
    torch.set_num_threads(before)
    return round(2 * 2048 * 384 * 1536 / min(seconds) / 1e9, 1)


if __name__ == "__main__":
    main()
