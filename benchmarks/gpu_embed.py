"""Steps of `gpu_quarter_hour.py` that embed and cluster: ours and `SentenceTransformer.encode`.

Encoders have MiniLM's shape (6 layers of 384) or BERT-large's (24 layers of 1,024, 334 M weights,
arXiv:1810.04805) and random weights, for speed does not depend on their values; --encoder names
another one. Ours runs from raw text to stored vectors, with a fresh cache. The peer is given the
same distinct texts in a process of its own, in half precision, in batches of several sizes.
"""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from embed_vs_sentence_transformers import encode_peer, load_peer
from gpu_steps import (
    Figures,
    Request,
    device,
    part,
    peak_memory_gb,
    pool_corpus,
    synced,
)

from sft_diversity.core import children, extras, folder, resources
from sft_diversity.core import corpus as corpora
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.sentence_transformer import SentenceTransformerEncoder
from sft_diversity.stages import store

SHAPES = {"minilm": (384, 6, 12, 1_536), "bert-large": (1_024, 24, 16, 4_096)}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")  # MiniLM's, for both
_MAX_TOKENS = 256


def encoder_of(asked: Request, shape: str, layers: int | None = None) -> Path:
    """Return the folder of an encoder: the one of the command line, or of a shape, made here."""
    if asked.encoder and shape == "minilm":
        return Path(asked.encoder)
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    hidden, most, heads, inner = SHAPES[shape]
    layers = min(layers or most, most)
    out = asked.work / f"{shape}-{layers}"
    if out.exists():
        return out
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522, hidden_size=hidden, num_hidden_layers=layers, intermediate_size=inner,
        num_attention_heads=heads, max_position_embeddings=512,
    )  # fmt: skip
    bare = asked.work / f".{out.name}"
    model: Any = BertModel(config)
    model.save_pretrained(bare)
    for name in TOKENIZER:
        shutil.copy(tokenizer_folder(asked) / name, bare)
    body = Transformer(str(bare), max_seq_length=_MAX_TOKENS)
    SentenceTransformer(modules=[body, Pooling(hidden, pooling_mode="mean")]).save(str(out))
    shutil.rmtree(bare)
    return out


def tokenizer_folder(asked: Request) -> Path:
    """Return where MiniLM's tokenizer lies: carried, or in the package of the encoder."""
    if extras.has(resources.ENCODER_PACKAGE):
        return resources.packaged_encoder()
    return asked.file("a/minilm")


@dataclass
class Work:
    """What an encoder was given while it was watched: seconds by part, and operations."""

    seconds: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, name: str, own: Any) -> Any:
        """Return `own`, its seconds counted; threads overlap, so parts may exceed the whole."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            value = own(*args, **kwargs)
            with self.lock:
                took = time.perf_counter() - start
                self.seconds[name] = self.seconds.get(name, 0.0) + took
            return value

        return watched


@contextmanager
def watching() -> Iterator[Work]:
    """Time the parts of embedding, and count what the tokens as they are need."""
    work, kind = Work(), SentenceTransformerEncoder
    own = {"tokenize": kind.tokenize, "forward": kind.forward}
    write = caches.write_part
    tokenize, forward = (work.timed(name, function) for name, function in own.items())

    def counted(self: Any, texts: Any) -> Any:
        ids, cut = tokenize(self, texts)
        lengths = np.array([len(row) for row in ids], np.int64)
        with work.lock:
            work.flops += operations(self, lengths)
        return ids, cut

    for name, watched in (("tokenize", counted), ("forward", forward)):
        setattr(kind, name, watched)
    setattr(caches, "write_part", work.timed("write", write))  # noqa: B010
    try:
        yield work
    finally:
        for name, function in own.items():
            setattr(kind, name, function)
        setattr(caches, "write_part", write)  # noqa: B010


def operations(encoder: Any, lengths: Any) -> float:
    """Return 2 operations a weight and real token, tables of embeddings aside, and attention's."""
    body = encoder._model[0].auto_model
    weights = sum(p.numel() for name, p in body.named_parameters() if "embeddings" not in name)
    each = 4 * body.config.num_hidden_layers * body.config.hidden_size
    return float(2 * weights * lengths.sum() + each * (lengths**2).sum())


def embedded(corpus: Path, place: Path, encoder: Path) -> dict[str, Any]:
    """Embed a corpus with a fresh cache; return figures."""
    options = {"encoder": str(encoder), "workers": 1 if device() == "cuda" else None}
    with watching() as work:
        start = synced()
        made = store(place / "work").get("embed", options, corpus, out=place / "out")
        seconds = synced() - start
    told = folder.read_manifest(made.path)
    run = told["run"]
    return {
        "seconds": round(seconds, 2),
        "precision": told["result"]["encoder"]["precision"],
        "texts": run["texts_embedded"],
        "rows_per_s": round(told["rows"]["kept"] / seconds, 1),
        "tokens_per_s": round(run["tokens"] / seconds),
        "computed_share": round(run["tokens"] / run["tokens_computed"], 4),
        "tflops": round(work.flops / seconds / 1e12, 5),
        "seconds_of": {name: round(s, 2) for name, s in work.seconds.items()},
        "memory_gb": peak_memory_gb(),
    }


def against_peer(asked: Request, figures: Figures) -> None:
    """Embed the same rows by ours and by the peer in turns, after both have warmed up.

    `computed_share` is real tokens over those that went through the model, padding included.
    """
    options = asked.options
    corpus = pool_corpus(asked, options["rows"])
    encoder = encoder_of(asked, options["shape"], options.get("layers"))
    texts = sorted(
        {t for c in corpora.COMPONENTS for t in corpora.read(corpus, [c])[c].to_pylist()}
    )
    figures(rows=options["rows"], texts=len(texts), encoder=encoder.name)
    warm = embedded(pool_corpus(asked, min(250, options["rows"])), asked.place / "warm", encoder)
    figures(cold=warm)
    rounds: list[dict[str, Any]] = []
    peers: dict[str, list[float]] = {}
    dtype, sizes = options["peer_dtype"], options["peer_batch"]
    with children.pool(1, load_peer, str(encoder), dtype) as peer:
        peer.submit(encode_peer, texts[:250], sizes[0]).result()
        for number in range(options["rounds"]):
            for who in ["ours", *sizes] if number % 2 == 0 else [*sizes, "ours"]:
                if who == "ours":
                    place = asked.place / f"round-{number}"
                    rounds.append(embedded(corpus, place, encoder))
                    figures(ours=min(rounds, key=itemgetter("seconds")), rounds=len(rounds))
                    shutil.rmtree(place)
                    continue
                part(figures, "peer_rows_per_s", partial(_peer, peer, texts, who, peers, options))
            figures(peer=peers, ratio=_ratio(rounds, peers))
    if not peers:
        figures.failed("no batch size of the peer ran")
    ids = time.perf_counter()
    tokenise(encoder, texts)
    figures(tokenise_alone_s=round(time.perf_counter() - ids, 2))


def _peer(
    peer: ProcessPoolExecutor, texts: list[str], size: int, took: dict[str, list[float]],
    options: dict[str, Any],
) -> Any:  # fmt: skip
    """Let the peer embed all texts; return its best rows a second so far."""
    seconds, _, _ = peer.submit(encode_peer, texts, size).result()
    took.setdefault(str(size), []).append(round(seconds, 3))
    return round(options["rows"] / min(map(min, took.values())), 1)


def _ratio(rounds: list[dict[str, Any]], peers: dict[str, list[float]]) -> float | None:
    """Return the peer's seconds at its best batch size over ours, medians."""
    if not rounds or not peers:
        return None
    theirs = min(statistics.median(one) for one in peers.values())
    ours: float = statistics.median(one["seconds"] for one in rounds)
    return round(theirs / ours, 3)


def tokenise(encoder: Path, texts: list[str]) -> None:
    """Tokenise texts as embedding does, and nothing else."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    words.enable_truncation(_MAX_TOKENS)
    words.no_padding()
    words.encode_batch_fast(texts)


def cluster(asked: Request, figures: Figures) -> None:
    """Cluster random unit vectors as macro does, on what is here and in PyTorch.

    `exact`: no product with another centroid is greater. `alike`: share of rows that the engine's
    search for the nearest centroid assigns as NumPy's products do; what differs are ties.
    """
    from sft_diversity.core import neighbours
    from sft_diversity.levels.kmeans import spherical_kmeans

    drawn = np.random.default_rng(0)
    vectors = drawn.standard_normal((asked.options["n"], 384), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    engines = [neighbours.Engine("torch", "cuda" if device() == "cuda" else "cpu")]
    if extras.has("faiss"):
        engines.insert(0, neighbours.engine())
    for on in dict.fromkeys(engines):
        setattr(neighbours, "engine", lambda on=on: on)  # noqa: B010 - a process of its own
        spherical_kmeans(vectors[:1_000], 10, seed=0)
        for k in asked.options["k"]:
            start = synced()
            found = spherical_kmeans(vectors, k, seed=0)
            seconds = synced() - start
            blocks = np.array_split(vectors, 1 + len(vectors) // 4_096)
            nearest = np.concatenate([(one @ found.centroids.T).argmax(axis=1) for one in blocks])
            own = np.einsum("nd,nd->n", vectors, found.centroids[found.assignment])
            best = np.einsum("nd,nd->n", vectors, found.centroids[nearest])
            searched = neighbours.nearest(found.centroids, vectors, 1, on)[:, 0]
            told = {
                "seconds": round(seconds, 2),
                "mean_cosine": round(float(own.mean()), 5),
                "exact": bool((own >= best - 1e-6).all()),
                "alike": round(float((searched == nearest).mean()), 6),
            }
            figures(**{f"k{k}, {on}": told})
            if not told["exact"] or told["alike"] < 0.999:
                figures.failed(f"k{k}, {on}: rows are not with their nearest centroid")
