"""Embedding on a GPU, and k-means on faiss-gpu against faiss-cpu, in one process.

    python benchmarks/gpu_embed.py CORPUS [--rows 117000] [--on-cpu [--layers 2]]

Two encoders embed both components of the first rows of CORPUS, an output of `sftdiv ingest`: the
packaged MiniLM (6 layers of 384), and a model of BERT-large's shape (24 layers of 1,024, 334 M
weights, arXiv:1810.04805) with random weights, for speed does not depend on their values. Reports
rows and tokens a second, from raw text to stored vectors and of the forward passes alone, and both
as a share of the card's peak. Then macro's k-means over the MiniLM vectors, for k = √n and
k = 4,096, on the device and on the processor: seconds, mean cosine, whether assignments are exact.
PyTorch brings CUDA 13 libraries and faiss-gpu CUDA 12 ones: a second embedding after FAISS has
used the device must give the same bytes.

Without a GPU or without faiss-gpu the result says `not run`, and why; --on-cpu with few rows and
--layers tries the script, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, machine
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.resources import packaged_encoder
from sft_diversity.core.vectors import Vectors
from sft_diversity.embedding.sentence_transformer import SentenceTransformerEncoder
from sft_diversity.levels import kmeans
from sft_diversity.levels.kmeans import Clusters, assign, default_k, spherical_kmeans
from sft_diversity.stages import store

RESULT = Path(__file__).parent / "results" / "gpu_embed.json"
# Dense bfloat16 FLOP/s as the makers state them.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
LARGE_K = 4_096


def main() -> None:
    """Run what can be run here and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=117_000)
    parser.add_argument("--layers", type=int, default=24, help="of the larger encoder")
    parser.add_argument("--on-cpu", action="store_true", help="try the script; nothing is written")
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    reason = None if asked.on_cpu else _why_not()
    if reason is None and asked.corpus is None:
        parser.error("name a corpus: an output of `sftdiv ingest`")
    told = {"status": "not run", "reason": reason} if reason else _measure(asked)
    result = {
        "benchmark": Path(__file__).stem,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": folder.versions(),
        **told,
    }
    if not asked.on_cpu:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(folder.dump_json(result), "utf-8")
    print(json.dumps(told, indent=1))


def _why_not() -> str | None:
    """Return what is missing here, or None."""
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA device: no GPU was at hand"
    try:
        import faiss
    except ImportError:
        return "FAISS is not installed"
    if not hasattr(faiss, "StandardGpuResources"):
        return "faiss-cpu is installed, not faiss-gpu"
    return None if faiss.get_num_gpus() else "faiss-gpu sees no device that PyTorch sees"


def _measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Embed with both encoders, cluster, embed again."""
    import faiss
    import torch

    on_gpu = torch.cuda.is_available()
    card = torch.cuda.get_device_name(0) if on_gpu else "none"
    peak = next((flops for name, flops in PEAKS.items() if name in card), None)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        corpus = _first_rows(asked.corpus, root / "corpus", asked.rows)
        large = large_encoder(root / "bert-large-shape", asked.layers)
        encoders = {"MiniLM": packaged_encoder(), f"BERT-large, {asked.layers} layers": large}
        embedded = {
            name: _embed(corpus, root / str(n), encoder, peak)
            for n, (name, encoder) in enumerate(encoders.items())
        }
        _, vectors = core_vectors.read_component(root / "0/out", "response")
        clustered = [
            _cluster(vectors, k, on_gpu)
            for k in sorted({default_k(len(vectors)), min(LARGE_K, len(vectors))})
        ]
        # a fresh cache: PyTorch must still work after FAISS has used the device
        again = _embedded(corpus, root / "again", packaged_encoder())
        same = again["digest"] == folder.read_manifest(root / "0/out")["digest"]
    return {
        "status": "run",
        "device": card,
        "torch_cuda": torch.version.cuda,
        "faiss": faiss.__version__,
        "faiss_gpus": kmeans.gpus_of(faiss),
        "rows": asked.rows,
        "embed": embedded,
        "kmeans": clustered,
        "second_embedding_equal": same,
    }


def _first_rows(corpus: Path, out: Path, rows: int) -> Path:
    """Write the first rows by id, a random sample, as a corpus of its own."""
    table = corpora.read(corpus).slice(0, rows)
    work = drafts.Work("ingest", 0, {"corpus": corpora.key(corpus)}, {"rows": rows})
    draft = drafts.open_draft(out, work)
    draft.write_table("samples/all.parquet", table)
    draft.commit(rows=folder.rows_account(table.num_rows, table.num_rows, {}))
    return out


def large_encoder(out: Path, layers: int) -> Path:
    """Save an encoder of BERT-large's shape with random weights; MiniLM's tokenizer fits it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522, hidden_size=1_024, num_hidden_layers=layers, num_attention_heads=16,
        intermediate_size=4_096, max_position_embeddings=512,
    )  # fmt: skip
    base = out.with_name(out.name + "-base")
    BertModel(config).save_pretrained(base)
    AutoTokenizer.from_pretrained(packaged_encoder()).save_pretrained(base)
    body = Transformer(str(base), max_seq_length=256)
    SentenceTransformer(modules=[body, Pooling(1_024, pooling_mode="mean")]).save(str(out))
    return out


def _embedded(corpus: Path, place: Path, encoder: Path) -> dict[str, Any]:
    """Embed a corpus to `out` in a place of its own; return the manifest."""
    options = {"encoder": str(encoder), "workers": 1}
    made = store(place / "work").get("embed", options, corpus, out=place / "out")
    return folder.read_manifest(made.path)


def _embed(corpus: Path, place: Path, encoder: Path, peak: float | None) -> dict[str, Any]:
    """Embed a corpus with a fresh cache; return times, rates and shares of the peak."""
    with _timed_forward() as passes:
        clock = time.perf_counter()
        made = _embedded(corpus, place, encoder)
        seconds = time.perf_counter() - clock
    rows = made["rows"]["kept"]
    forward_s = sum(passed[0] for passed in passes)
    flops = sum(passed[1] for passed in passes)
    tokens = sum(passed[2] for passed in passes)
    return {
        "precision": made["result"]["encoder"]["precision"],
        "dim": made["result"]["dim"],
        "texts": made["run"]["texts_embedded"],
        "padded_tokens": tokens,
        "embed_s": round(seconds, 2),
        "forward_s": round(forward_s, 2),
        "rows_per_s": round(rows / seconds, 1),
        "rows_per_s_forward": round(rows / forward_s, 1),
        "tokens_per_s": round(tokens / seconds),
        "teraflop": round(flops / 1e12, 3),
        "teraflop_per_s_forward": round(flops / forward_s / 1e12, 4),
        "share_of_peak": round(flops / seconds / peak, 4) if peak else None,
        "share_of_peak_forward": round(flops / forward_s / peak, 4) if peak else None,
        "memory_gb": _peak_memory(),
    }


@contextmanager
def _timed_forward() -> Iterator[list[tuple[float, float, int]]]:
    """Note seconds, operations and padded tokens of every forward pass, vectors copied back."""
    passes: list[tuple[float, float, int]] = []
    lock, own = threading.Lock(), SentenceTransformerEncoder.forward

    def forward(
        self: SentenceTransformerEncoder, ids: Sequence[Sequence[int]], width: int, rows: int
    ) -> npt.NDArray[np.float32]:
        clock = time.perf_counter()
        vectors = own(self, ids, width, rows)
        seconds = time.perf_counter() - clock
        with lock:
            passes.append((seconds, _operations(self, width, rows), width * rows))
        return vectors

    setattr(SentenceTransformerEncoder, "forward", forward)  # noqa: B010 - a method to the checker
    try:
        yield passes
    finally:
        setattr(SentenceTransformerEncoder, "forward", own)  # noqa: B010


def _operations(encoder: SentenceTransformerEncoder, width: int, rows: int) -> float:
    """Return 2 operations a weight and token, tables of embeddings aside, and attention's."""
    body = encoder._model[0].auto_model
    weights = sum(p.numel() for name, p in body.named_parameters() if "embeddings" not in name)
    attention = 4 * body.config.num_hidden_layers * body.config.hidden_size * width
    return float(rows * width * (2 * weights + attention))


def _cluster(vectors: Vectors, k: int, on_gpu: bool) -> dict[str, Any]:
    """Cluster on the processor, and on the GPU if there is one; compare."""
    told: dict[str, Any] = {"n": len(vectors), "k": k}
    for device in ("cuda", "cpu") if on_gpu else ("cpu",):
        clock = time.perf_counter()
        clusters = _on(device, vectors, k)
        told[device] = {
            "seconds": round(time.perf_counter() - clock, 2),
            "mean_cosine": round(_mean_cosine(vectors, clusters), 5),
            "exact": bool(np.array_equal(assign(vectors, clusters.centroids), clusters.assignment)),
        }
    return told


def _on(device: str, vectors: Vectors, k: int) -> Clusters:
    own = os.environ.get(machine.DETECT)
    if device == "cpu":
        os.environ[machine.DETECT] = "gpus=0"
    try:
        return spherical_kmeans(vectors, k, seed=0)
    finally:
        os.environ.pop(machine.DETECT, None)
        if own is not None:
            os.environ[machine.DETECT] = own


def _mean_cosine(vectors: Vectors, clusters: Clusters) -> float:
    sums = np.einsum("nd,nd->n", vectors, clusters.centroids[clusters.assignment])
    return float(sums.mean())


def _peak_memory() -> float | None:
    import torch

    if not torch.cuda.is_available():
        return None
    peak = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return round(peak, 2)


if __name__ == "__main__":
    main()
