"""What a faster encoder changes: vectors, clusters, and picks of macro strategies.

    python benchmarks/embed_choices.py CORPUS [--static DIR] [--samples 2000] [--component response]

The packaged encoder in float32 is the reference; against it stand bfloat16, int8, and a static
model, which is made in DIR if it is not there: every word piece through the encoder, the leading
256 components, each times log(1 + rank), as model2vec (Tulkens & van Dongen 2024) does it. DIR is
a model that `sftdiv embed --encoder DIR` takes. As a yardstick `other seed` is float32 with
another seed of the clustering: what any change of clusters does to picks; `chance` is the overlap
of random picks.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, machine, seeding
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.vectors import Vectors
from sft_diversity.embedding.base import Tokens, WholeEncoder
from sft_diversity.embedding.batches import encode
from sft_diversity.embedding.encoders import ENCODERS
from sft_diversity.embedding.stage import EmbedConfig, load_encoder
from sft_diversity.levels.macro import MacroOptions, incidence_of, macro
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.peeling import peel

RESULTS = Path(__file__).parent / "results"
DIALS = (0, 25, 50, 75, 100)
SEEDS = (0, 1, 2)
_DIMENSIONS, _WIDTH, _ROWS = 256, 8, 64


def main() -> None:
    """Embed with each, compare, print a line each, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--static", type=Path, help="default: no static model")
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--size", type=int, help="default: a tenth of the samples")
    parser.add_argument("--component", default="response")
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if asked.static and not asked.static.exists():
        distil(asked.static)
    column = corpora.read(asked.corpus, [asked.component])[asked.component]
    rng = seeding.generator(0, "benchmark", "choices")
    texts = column.take(np.sort(rng.choice(len(column), asked.samples, replace=False))).to_pylist()
    size = asked.size or asked.samples // 10

    vectors, seconds = {}, {}
    for name in ("float32", "bfloat16", "int8", *["static"] * bool(asked.static)):
        config = EmbedConfig(
            encoder=str(asked.static) if name == "static" else "packaged",
            precision="float32" if name == "static" else name,
        )
        encoder = load_encoder(ENCODERS.find(config.encoder), config, config.precision, "cpu")
        encode(encoder, texts[:32], 512)
        clock = time.process_time()
        vectors[name] = core_vectors.unit(encode(encoder, texts, 512)[0])
        seconds[name] = round(time.process_time() - clock, 2)
        print(name, seconds[name], flush=True)

    exact = vectors["float32"]
    kinds = {seed: clusters_of(exact, seed) for seed in (*SEEDS, 100)}
    first = {name: {s: clusters_of(made, s) for s in SEEDS} for name, made in vectors.items()}
    first["other seed"] = {seed: clusters_of(exact, seed + 100) for seed in SEEDS}
    found: dict[str, dict[str, Any]] = {}
    for name, clusters in first.items():
        found[name] = {}
        if name != "other seed":
            found[name] = {"cpu_s": seconds[name], **agreement(exact, vectors[name])}
        if name != "float32":
            found[name] |= selections(kinds, clusters, size)
        print(name, found[name], flush=True)
    result = {
        "benchmark": Path(__file__).stem,
        "samples": len(texts),
        "component": asked.component,
        "size": size,
        "clusters": kinds[0].n_kinds,
        "chance_overlap": round(size / len(texts), 3),
        "choices": found,
        **machine.measured_on(),
    }
    (RESULTS / f"{Path(__file__).stem}.json").write_text(folder.dump_json(result), "utf-8")


def clusters_of(vectors: Vectors, seed: int) -> Incidence:
    """Return samples × clusters as `index` makes them."""
    return incidence_of(macro(vectors, MacroOptions(seed=seed))[0])


def agreement(exact: Vectors, vectors: Vectors) -> dict[str, float]:
    """Return how alike two sets of vectors see the same texts.

    `spearman` is of the cosines of all pairs; `neighbours` the share of the ten nearest that are
    the same; `spearman_of_crowding` of each sample's mean cosine to its ten nearest, by which
    k-center, DEITA and near-duplicates judge it.
    """
    cosines = [one @ one.T for one in (exact, vectors)]
    pairs = np.triu_indices(len(exact), 1)
    for one in cosines:
        np.fill_diagonal(one, -2)
    near = [np.argpartition(-one, 10, axis=1)[:, :10] for one in cosines]
    same = [len(np.intersect1d(*rows)) for rows in zip(*near, strict=True)]
    crowding = [
        np.take_along_axis(*both, axis=1).mean(1) for both in zip(cosines, near, strict=True)
    ]
    made = {
        "spearman": float(spearmanr(*(one[pairs] for one in cosines)).statistic),
        "neighbours": float(np.mean(same)) / 10,
        "spearman_of_crowding": float(spearmanr(*crowding).statistic),
    }
    if exact.shape == vectors.shape:
        made["mean_cosine"] = float(np.einsum("nd,nd->n", exact, vectors).mean())
    return {name: round(value, 4) for name, value in made.items()}


def selections(
    exact: dict[int, Incidence], clusters: dict[int, Incidence], size: int
) -> dict[str, Any]:
    """Return at each dial, over seeds, what picks share with float32's, and the kinds they hold.

    `overlap` is the share of picks that are the same; `kinds` how many of float32's clusters they
    hold, of as many as float32's own picks at this dial.
    """
    overlaps, kinds = [], []
    for dial in DIALS:
        shared, held = [], []
        for seed, own in clusters.items():
            ours, theirs = (picked(one, size, dial, seed) for one in (exact[seed], own))
            shared.append(len(np.intersect1d(ours, theirs)) / size)
            held.append(kinds_of(exact[seed], theirs) / kinds_of(exact[seed], ours))
        overlaps.append(round(float(np.mean(shared)), 3))
        kinds.append(round(float(np.mean(held)), 3))
    return {"dials": list(DIALS), "overlap": overlaps, "kinds": kinds}


def picked(incidence: Incidence, size: int, dial: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the picks at a dial."""
    return choose_at(Dial(peel(incidence), size), dial, seed=seed).rows


def kinds_of(incidence: Incidence, rows: npt.NDArray[np.int64]) -> int:
    """Return how many kinds samples hold."""
    return len(np.unique(incidence.take(rows).indices))


def distil(out: Path) -> None:
    """Save a static model of the packaged encoder, for sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    found = ENCODERS.find("packaged")
    encoder = load_encoder(found, EmbedConfig(precision="float32"), "float32", "cpu")
    assert not isinstance(encoder, WholeEncoder)
    tokenizer = Tokenizer.from_file(str(found.path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    start, end = (int(tokenizer.token_to_id(name) or 0) for name in ("[CLS]", "[SEP]"))
    pieces = [[start, piece, end] for piece in range(tokenizer.get_vocab_size())]
    tokens, made = Tokens.of(pieces), []
    for first in range(0, len(pieces), _ROWS):
        some = tokens.slice(first, min(first + _ROWS, len(pieces)))
        made.append(np.asarray(encoder.forward(some, _WIDTH, _ROWS)))
    table = np.concatenate(made).astype(np.float64)
    table -= table.mean(axis=0)
    _, directions = np.linalg.eigh(table.T @ table)
    table = table @ directions[:, ::-1][:, :_DIMENSIONS]
    table *= np.log1p(np.arange(1, len(table) + 1))[:, None]  # pieces are in order of frequency
    weights = table.astype(np.float32)
    model = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[model], device="cpu").save(str(out))


if __name__ == "__main__":
    main()
