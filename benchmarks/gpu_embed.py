"""Embedding and faiss-gpu k-means in one process, on a machine with an NVIDIA GPU.

    python benchmarks/gpu_embed.py [CORPUS]

The question: PyTorch brings CUDA 13 libraries, faiss-gpu CUDA 12 ones; do both work side by side
in one process? Without a GPU or without faiss-gpu the result says `not run`, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core import folder
from sft_diversity.core import vectors as core_vectors
from sft_diversity.embed.stage import EmbedConfig, embed
from sft_diversity.levels.kmeans import assign, default_k, spherical_kmeans

RESULT = Path(__file__).parent / "results" / "gpu_embed.json"


def main() -> None:
    """Run what can be run here and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?")
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    reason = _why_not()
    if reason is None and asked.corpus is None:
        parser.error("name a corpus: an output of `sftdiv ingest`")
    told = {"status": "not run", "reason": reason} if reason else _measure(asked.corpus)
    result = {
        "benchmark": Path(__file__).stem,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": folder.versions(),
        **told,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(folder.dump_json(result), "utf-8")
    print(json.dumps(told))


def _why_not() -> str | None:
    """Return what is missing here, or None."""
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA device"
    try:
        import faiss
    except ImportError:
        return "FAISS is not installed"
    if not hasattr(faiss, "StandardGpuResources"):
        return "faiss-cpu is installed, not faiss-gpu"
    return None if faiss.get_num_gpus() else "faiss-gpu sees no device that PyTorch sees"


def _measure(corpus: Path) -> dict[str, Any]:
    """Embed, cluster on the GPU in the same process, embed again, compare with the CPU."""
    import faiss
    import torch

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        clock = time.perf_counter()
        first = embed(corpus, root / "a", EmbedConfig(), root / "work")
        embed_s = time.perf_counter() - clock
        _, vectors = core_vectors.read_component(root / "a", "response")
        clock = time.perf_counter()
        clusters = spherical_kmeans(vectors, default_k(len(vectors)), seed=0)
        kmeans_s = time.perf_counter() - clock
        # a fresh cache: PyTorch must still work after FAISS has used the device
        again = embed(corpus, root / "b", EmbedConfig(), root / "fresh")
    exact = assign(vectors, clusters.centroids)
    texts = first["run"]["texts_embedded"]
    return {
        "status": "run",
        "device": torch.cuda.get_device_name(0),
        "torch_cuda": torch.version.cuda,
        "faiss": faiss.__version__,
        "faiss_gpus": faiss.get_num_gpus(),
        "precision": first["result"]["encoder"]["precision"],
        "texts": texts,
        "embed_s": round(embed_s, 2),
        "texts_per_s": round(texts / embed_s, 1),
        "kmeans_device": clusters.device,
        "kmeans_k": len(clusters.centroids),
        "kmeans_s": round(kmeans_s, 2),
        "second_embedding_equal": first["digest"] == again["digest"],
        "assignment_exact": bool(np.array_equal(exact, clusters.assignment)),
    }


if __name__ == "__main__":
    main()
