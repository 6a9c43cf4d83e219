"""The report: every removed sample with its twin, clusters, and counts a source and a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.cleaning.overlap import Grams, Overlaps
from sft_diversity.cleaning.pairs import MINHASH, jaccard, lower_cosine
from sft_diversity.cleaning.settle import Alike, Verdicts
from sft_diversity.core import parquet

CONTAMINATED, NEAR, NEAR_VECTOR = "contaminated", "near_duplicate", "near_embedding"
TEXT_HEAD = 400  # characters of a text that the readable report shows

#: One removed sample a row, by id. `similarity` is to the twin, in the measure of the reason:
#: Jaccard, cosine, or the share of the evaluation text's n-grams that the sample holds.
REMOVED = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
        ("reason", pa.string()),
        ("similarity", pa.float64()),
        ("twin", pa.string()),
        ("twin_source", pa.string()),
        ("linked_to", pa.string()),
        ("link_similarity", pa.float64()),
        ("eval_file", pa.string()),
        ("eval_row", pa.int64()),
        ("eval_field", pa.string()),
        ("ngram", pa.string()),
        ("shared_ngrams", pa.int64()),
    ]
)
CLUSTERS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("size", pa.int64()),
        ("least_similarity", pa.float64()),
    ]
)
_TWIN_COLUMNS = ("twin", "twin_source", "linked_to", "link_similarity")
_EVAL_COLUMNS = ("eval_file", "eval_row", "eval_field", "ngram", "shared_ngrams")


def twins(corpus: pa.Table, verdicts: Verdicts, alike: Alike) -> pa.Table:
    """Return the rows of `REMOVED` for samples that have a twin in the corpus.

    Parameters
    ----------
    corpus : pyarrow.Table
        `id, source, source_file, source_row` of every sample, by id.
    """
    rows = np.flatnonzero(verdicts.twin >= 0)
    twin, linked = verdicts.twin[rows], verdicts.linked[rows]
    by = verdicts.by[rows]
    reasons = np.where(by == MINHASH, NEAR, NEAR_VECTOR)
    to_twin = [
        similarity if other == near else _likeness(alike, int(row), int(other), int(how))
        for row, other, near, how, similarity in zip(
            rows, twin, linked, by, verdicts.similarity[rows], strict=True
        )
    ]
    of_twin = corpus.select(["id", "source"]).take(twin)
    columns = [
        *corpus.take(rows).columns,
        pa.array(reasons.tolist(), pa.string()),
        pa.array(np.asarray(to_twin, float)),
        *of_twin.columns,
        corpus["id"].take(pa.array(linked)),
        pa.array(verdicts.similarity[rows]),
        *(pa.nulls(len(rows), REMOVED.field(name).type) for name in _EVAL_COLUMNS),
    ]
    return pa.table(columns, schema=REMOVED)


def contaminated(corpus: pa.Table, found: Overlaps, sought: Grams | None) -> pa.Table:
    """Return the rows of `REMOVED` for samples that overlap with evaluation texts."""
    if sought is None:
        return REMOVED.empty_table()
    texts = [sought.texts[text] for text in found.texts]
    words = [sought.spelled(g, t) for g, t in zip(found.grams, found.texts, strict=True)]
    columns = [
        *corpus.take(pa.array(found.rows)).columns,
        pa.array([CONTAMINATED] * len(texts), pa.string()),
        pa.array(found.share),
        *(pa.nulls(len(texts), REMOVED.field(name).type) for name in _TWIN_COLUMNS),
        pa.array([text.file for text in texts], pa.string()),
        pa.array([text.row for text in texts], pa.int64()),
        pa.array([text.field for text in texts], pa.string()),
        pa.array(words, pa.string()),
        pa.array(found.shared, pa.int64()),
    ]
    return pa.table(columns, schema=REMOVED)


def clusters(corpus: pa.Table, verdicts: Verdicts, removed: pa.Table) -> pa.Table:
    """Return each sample that stays for others: how many it stands for, itself counted."""
    near = removed.filter(pc.is_valid(removed["twin"]))
    grouped = near.group_by("twin").aggregate([("similarity", "min"), ("similarity", "count")])
    rows = np.unique(verdicts.twin[verdicts.twin >= 0])
    of = corpus.select(["id", "source"]).take(pa.array(rows))
    order = grouped.sort_by("twin")
    columns = [
        *of.columns,
        pc.add(order["similarity_count"], 1),
        order["similarity_min"],
    ]
    return pa.table(columns, schema=CLUSTERS)


def figures(
    corpus: pa.Table, removed: pa.Table, found: pa.Table, licences: Mapping[str, str]
) -> dict[str, Any]:
    """Return counts: rows a source and reason, clusters, samples an evaluation file."""
    rows = parquet.counts(corpus, "source")
    gone = parquet.counts(removed, "source", "reason")
    reasons = sorted({reason for _, reason in gone})
    sources = []
    for name, number in sorted(rows.items()):
        dropped = {reason: gone[name, reason] for reason in reasons if gone[name, reason]}
        kept = number - sum(dropped.values())
        account = {"in": number, "kept": kept, "dropped": dropped, "quarantined": 0}
        sources.append({"name": name, "licence": licences.get(name), "rows": account})
    sizes = np.sort(found["size"].to_numpy())[::-1]
    return {
        "sources": sources,
        "clusters": {
            "number": len(sizes),
            "largest": sizes[:10].tolist(),
            "samples": int(sizes.sum()),
        },
    }


def readable(
    removed: pa.Table, texts: Mapping[str, tuple[str, str]], sought: Grams | None
) -> Iterator[bytes]:
    """Yield a JSON line a removed sample, with the beginnings of its text and its twin's."""
    evals = {} if sought is None else {(t.file, t.row, t.field): t.text for t in sought.texts}
    for row in removed.to_pylist():
        line = {name: value for name, value in row.items() if value is not None}
        line["instruction"], line["response"] = (head(t) for t in texts[row["id"]])
        if row["twin"] is not None:
            line["twin_instruction"], line["twin_response"] = (head(t) for t in texts[row["twin"]])
        else:
            where = (row["eval_file"], row["eval_row"], row["eval_field"])
            line["eval_text"] = head(evals[where])
        yield orjson.dumps(line) + b"\n"


def head(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= TEXT_HEAD else text[:TEXT_HEAD] + "…"


def _likeness(alike: Alike, a: int, b: int, how: int) -> float:
    if how == MINHASH:
        return float(jaccard(alike.values, alike.bounds, a, b, 0.0))
    return float(lower_cosine(alike.vectors, alike.more, a, b))
