"""A corpus with its token passes, embeddings and incidences, none of which need a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, incidence, schema, vectors
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.metrics.stage import Dataset
from tests.levels import making
from tests.making import store


def embedded(corpus: Path, out: Path, component: str) -> Path:
    """Write embeddings whose vectors are drawn by the text."""
    draft = drafts.open_draft(out, drafts.Work("embed", 1, {"corpus": corpora.key(corpus)}, {}))
    for path in corpora.shards(corpus):
        table = pq.read_table(path)
        made = making.hashed_vectors(table[component].to_pylist()).astype(np.float16)
        columns = {"id": table["id"], "embedding": vectors.column(made)}
        draft.write_table(
            f"{component}/{path.name}", pa.table(columns).cast(schema.embeddings(made.shape[1]))
        )
    draft.commit()
    return out


def indexed(corpus: Path, out: Path, kinds: int = 5) -> Path:
    """Write an incidence in which row i holds kind i mod `kinds`."""
    ids = corpora.read(corpus, ["id"])["id"].combine_chunks()
    n = len(ids)
    made = incidence.Incidence(
        np.arange(n + 1), (np.arange(n) % kinds).astype(np.int32), np.ones(n, np.int32), kinds
    )
    names = pa.table({"kind": [str(k) for k in range(kinds)], "samples": [n // kinds] * kinds})
    draft = drafts.open_draft(out, drafts.Work("index", 1, {"corpus": corpora.key(corpus)}, {}))
    incidence.save(draft.path, made, ids, names)
    draft.commit()
    return out


def described(root: Path) -> Dataset:
    """Return a described corpus of 48 samples."""
    corpus = making.topical(root / "corpus")
    tokenizer = str(making.tokenizer_file(root / "tokenizer.json"))
    passes: dict[Component, Path] = {}
    embeddings: dict[Component, Path] = {}
    for component in COMPONENTS:
        counted = {"component": component, "tokenizer": tokenizer}
        passes[component] = store(root / "work").get("tokens", counted, corpus).path
        embeddings[component] = embedded(corpus, root / f"vectors-{component}", component)
    indexes = {"macro-response": indexed(corpus, root / "index")}
    return Dataset(
        "all", corpora.shards(corpus), corpora.rows(corpus), corpora.key(corpus),
        passes, embeddings, embeddings, indexes,
    )  # fmt: skip


def subset(dataset: Dataset, out: Path, rows: list[int], name: str = "some") -> Dataset:
    """Return a data set of some rows, in that order, described by the whole corpus."""
    whole = pa.concat_tables([pq.read_table(path) for path in dataset.files])
    pq.write_table(whole.take(rows), out)
    given = {k: getattr(dataset, k) for k in ("tokens", "embeddings", "reference", "indexes")}
    return Dataset(name, [out], len(rows), f"key of {sorted(rows)}", **given)
