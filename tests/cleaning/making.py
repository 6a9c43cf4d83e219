"""Small corpora, embeddings and brute force for the tests of `clean`."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa

from sft_diversity.core import drafts, schema, vectors
from sft_diversity.core.config import Config
from sft_diversity.core.hashing import text_key
from sft_diversity.core.stage import Result, Stage
from tests.making import make, quiet


def sample(instruction, response, **more):
    turns = [
        {"role": "user", "content": instruction},
        {"role": "assistant", "content": response},
    ]
    plain = {"source": "made", "source_file": "f", "source_row": 0, "meta": "{}"}
    texts = {"instruction": instruction, "response": response}
    return {"id": text_key(instruction, response), "messages": turns} | texts | plain | more


def corpus(out, rows, shards=2):
    """Write rows (dicts, or pairs of texts) as a corpus with `shards` files."""
    rows = [one if isinstance(one, dict) else sample(*one) for one in rows]
    rows = sorted(rows, key=lambda one: one["id"])
    draft = drafts.open_draft(out, drafts.Work("ingest", 0, {}, {"ids": [r["id"] for r in rows]}))
    for number, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
        table = pa.Table.from_pylist([rows[i] for i in part], schema.SAMPLES)
        draft.write_table(f"samples/{number:x}.parquet", table)
    draft.commit(result={"sources": [{"name": "made", "licence": "MIT"}]})
    return out


class Embedded(Config):
    components: tuple[str, ...]


def embedder(found):
    """Return a stage in the place of `embed`: components' ids and matrices that are there."""

    def needs(config, ask):
        ask.corpus()

    def join(job):
        for component in job.config.components:
            ids, matrix = found[component]
            columns = [pa.array(ids, pa.string()), vectors.column(matrix.astype(np.float16))]
            table = pa.table(columns, schema=schema.embeddings(matrix.shape[1]))
            job.write_table(f"{component}/all.parquet", table)
        return Result(figures={"encoder": {"commit": None}})

    return Stage("embed", 0, Embedded, needs=needs, join=join)


def clean(source, out, config, found=None, *, say=quiet):
    """Clean a corpus to `out`, with the embeddings `found` if there are any."""
    stages = {} if found is None else {"embed": embedder(found)}
    stage = "clean-report" if config.report_only else "clean"
    return make(stage, config, out, source, say=say, stages=stages)


def shingles(text, size=3):
    """Return the shingles of a text, another way: regular expression and tuples."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+|[^\w\s]", plain)
    width = min(size, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


def jaccard(one, other, size=3, components=(0, 1)):
    """Return the lower Jaccard similarity of two (instruction, response) pairs."""
    found = []
    for part in components:
        a, b = shingles(one[part], size), shingles(other[part], size)
        if a or b:
            found.append(len(a & b) / len(a | b))
    return min(found, default=-1.0)


def settle(order, alike):
    """Return kept samples and twins by the rule as it is written: all pairs, best first."""
    staying, twins = [], {}
    for row in order:
        near = [(alike[row, other], -rank) for rank, other in enumerate(staying)]
        best = max(((s, r) for s, r in near if s >= 0), default=None)
        if best is None:
            staying.append(row)
        else:
            twins[row] = staying[-best[1]]
    return staying, twins


def clusters(n, alike):
    """Return each sample's connected cluster, as a frozenset."""
    group = {i: {i} for i in range(n)}
    for i in range(n):
        for j in range(i):
            if alike[i, j] >= 0 and group[i] is not group[j]:
                merged = group[i] | group[j]
                for k in merged:
                    group[k] = merged
    return [frozenset(group[i]) for i in range(n)]
