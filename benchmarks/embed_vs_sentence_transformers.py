"""Embedding against `SentenceTransformer.encode`: speed and agreement, at each precision.

    python benchmarks/embed_vs_sentence_transformers.py CORPUS [--texts 3000] [--rounds 3]
        [--precisions float32 bfloat16 int8] [--workers 1] [--static DIR] [--openvino]

All take the same seeded texts of a real corpus, both components, in turns in one run, from loaded
models, each in a process of its own; the peer in float32, as it comes. Ours includes hashing,
tokenising, writing and reading back the parts. DIR is a static model, of `embed_choices.py`;
`--openvino` measures that backend too (extra `openvino`), at each precision that it has.

`products` is what the layers' bare matrix products of the real tokens would take at each
precision, at the best rate of this processor: no encoder is faster. A processor without some
instructions is emulated by ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 (neither VNNI nor
bfloat16; our kernels too by NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma and what else
that processor has) or ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI, which the result names.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, machine, seeding
from sft_diversity.core import vectors as core_vectors
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding import pool
from sft_diversity.embedding.base import Encoder, Placement, WholeEncoder
from sft_diversity.embedding.batches import Batch, cut
from sft_diversity.embedding.encoders import ENCODERS
from sft_diversity.embedding.stage import EmbedConfig, load_encoder, place_encoder

RESULTS = Path(__file__).parent / "results"
ROWS_OF_LAYERS = 6 * 12 * 384**2  # multiply-adds a token in the packaged encoder's products
EMULATION = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
STATIC = "static"


def main() -> None:
    """Run the rounds, print a line each, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--texts", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    default = ["bfloat16"] * machine.has_bf16() + ["float32", "int8"]
    parser.add_argument("--precisions", nargs="+", default=default)
    parser.add_argument("--static", type=Path, help="a static model, which is measured beside")
    parser.add_argument("--workers", type=int, default=machine.cores(), help="threads of all")
    parser.add_argument("--openvino", action="store_true", help="that backend beside PyTorch's")
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    sides = _sides(asked)
    texts = _texts(asked.corpus, asked.texts, asked.seed)
    context = multiprocessing.get_context("spawn")
    peer = str(ENCODERS.find("packaged").path)
    runs = {"theirs": ProcessPoolExecutor(1, context, load_peer, (peer, "float32", asked.workers))}
    for name, options in sides.items():
        given = (options.model_copy(update={"workers": asked.workers}),)
        runs[name] = ProcessPoolExecutor(1, context, _load_ours, given)

    totals = {name: {"wall_s": 0.0, "cpu_s": 0.0} for name in runs}
    cosines: dict[str, list[Any]] = {name: [] for name in sides}
    for name, run in runs.items():
        run.submit(encode_peer if name == "theirs" else _encode, texts[:64]).result()
    for number, part in enumerate(np.array_split(np.array(texts, dtype=object), asked.rounds)):
        vectors = {}
        for name in list(runs)[:: -1 if number % 2 else 1]:
            function = encode_peer if name == "theirs" else _encode
            wall, cpu, made = runs[name].submit(function, part.tolist()).result()
            totals[name] = {
                "wall_s": round(totals[name]["wall_s"] + wall, 3),
                "cpu_s": round(totals[name]["cpu_s"] + cpu, 3),
            }
            vectors[name] = core_vectors.unit(made)
        for name in (name for name in sides if name != STATIC):
            cosines[name].append(np.einsum("nd,nd->n", vectors[name], vectors["theirs"]))
        print(json.dumps(totals), flush=True)

    tokens = runs[asked.precisions[0]].submit(_count, texts).result()
    figures: dict[str, dict[str, Any]] = {}
    for name, took in totals.items():
        figures[name] = dict(took)
        if name != "theirs":
            figures[name]["ratio_of_cpu_seconds"] = round(
                totals["theirs"]["cpu_s"] / took["cpu_s"], 2
            )
        if name in cosines and name != STATIC:
            agreement = np.concatenate(cosines[name])
            figures[name] |= {
                "mean_cosine": round(float(agreement.mean()), 6),
                "min_cosine": round(float(agreement.min()), 6),
            }
        if name in asked.precisions:
            rate = runs[name].submit(_product_rate, name).result()
            seconds = 2 * ROWS_OF_LAYERS * tokens / rate
            figures[name] |= {
                "products_gflops": round(rate / 1e9, 1),
                "products_s": round(seconds, 3),
                "ratio_of_products": round(totals["theirs"]["cpu_s"] / seconds, 2),
            }
    for run in runs.values():
        run.shutdown()
    emulated = {name: os.environ[name] for name in EMULATION if name in os.environ}
    result: dict[str, Any] = {
        "benchmark": Path(__file__).stem,
        "texts": len(texts),
        "rounds": asked.rounds,
        "workers": asked.workers,
        "tokens": tokens,
        "emulated": emulated,
        "load_average": round(os.getloadavg()[0], 1),
        "sides": figures,
        "flags": sorted(
            f for f in machine.cpu_flags() if f.startswith(("avx", "amx", "fma", "bf16"))
        ),
        **machine.measured_on(),
    }
    RESULTS.mkdir(exist_ok=True)
    amx = "_amx" if any(flag.startswith("amx") for flag in result["flags"]) else ""
    suffix = f"_{emulated['ONEDNN_MAX_CPU_ISA'].lower()}" if emulated else amx
    target = RESULTS / f"{Path(__file__).stem}{suffix}.json"
    target.write_text(folder.dump_json(result), "utf-8")
    for name, one in figures.items():
        print(name, json.dumps(one))


def _sides(asked: argparse.Namespace) -> dict[str, EmbedConfig]:
    """Return what is measured beside the peer, by name."""
    sides = {name: EmbedConfig(precision=name, device="cpu") for name in asked.precisions}
    for name in asked.precisions if asked.openvino else ():
        if name != "int8":
            options = EmbedConfig(precision=name, device="cpu", backend="openvino")
            sides[f"openvino {name}"] = options
    if asked.static:
        options = EmbedConfig(encoder=str(asked.static), precision="float32", device="cpu")
        sides[STATIC] = options
    return sides


_peer: Any = None


def load_peer(model: str, dtype: str = "float32", workers: int | None = None) -> None:
    """Load the peer in its own process: our settings of memory and threads do not reach it."""
    global _peer
    import torch
    from sentence_transformers import SentenceTransformer

    if workers is not None:
        torch.set_num_threads(workers)
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


_ours: tuple[Encoder, Placement] | None = None


def _load_ours(config: EmbedConfig) -> None:
    global _ours
    placement = place_encoder(config)
    files = ENCODERS.find(config.encoder)
    _ours = load_encoder(files, config, placement.precision, placement.device), placement


def _encode(texts: list[str]) -> tuple[float, float, Any]:
    return _timed(_embed, texts)


def _embed(texts: list[str]) -> Any:
    assert _ours is not None
    encoder, placement = _ours
    with tempfile.TemporaryDirectory() as scratch:
        keys = caches.text_keys(texts)
        distinct = dict(zip(keys.tolist(), texts, strict=True))
        batches = [
            Batch(f"{number:03d}", own, [distinct[key] for key in own.tolist()])
            for number, own in enumerate(cut(distinct, placement.unit_characters))
        ]
        pool.run_threads(lambda _: encoder, placement, Path(scratch), batches, lambda _: None)
        return caches.Vectors(Path(scratch)).get(keys)[0]


def _count(texts: list[str]) -> int:
    """Return the tokens of texts, each as often as it comes."""
    assert _ours is not None
    assert not isinstance(_ours[0], WholeEncoder)
    return sum(map(len, _ours[0].tokenize(texts)[0]))


def _product_rate(precision: str) -> float:
    """Return the best operations a second of one core's products of a batch, at a precision."""
    import torch

    torch.set_num_threads(1)
    rows, weights = torch.randn(512, 384), torch.randn(1536, 384)
    if precision == "int8":
        whole = [(10 * one).to(torch.int8) for one in (rows, weights)]
        product: Callable[[], torch.Tensor] = partial(torch._int_mm, whole[0], whole[1].t())
    else:
        there = [one.to(getattr(torch, precision)) for one in (rows, weights)]
        product = partial(torch.nn.functional.linear, *there)
    seconds = []
    for _ in range(50):
        clock = time.thread_time()  # by the clock, other work would count
        product()
        seconds.append(time.thread_time() - clock)
    return 2 * 512 * 384 * 1536 / min(seconds)


if __name__ == "__main__":
    main()
