"""The plain facts of one subset beside its corpus: sources, lengths, kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import parquet
from sft_diversity.core.corpus import COMPONENTS, rows_among
from sft_diversity.core.numbers import Ints, evenness
from sft_diversity.reporting.reading import Kinds, SourceCorpus, Subset, shares_of

Facts = dict[str, Any]
_SHOWN = 12  # kinds in a list
_LABEL = 60  # characters of a cluster's example


def source_facts(subset: Subset, pool: SourceCorpus) -> list[Facts]:
    """Return each source's samples and share in the subset and in the corpus, greatest first."""
    picked = parquet.counts(pa.table({"source": subset.sources}), "source")
    whole = parquet.counts(pool.table, "source") if pool.table is not None else {}
    totals = sum(picked.values()), sum(whole.values()) or 1
    rows: list[Facts] = [
        {
            "source": name,
            "picked": picked.get(name, 0),
            "share": round(picked.get(name, 0) / totals[0], 6),
            "corpus": whole.get(name),
            "corpus_share": round(whole[name] / totals[1], 6) if name in whole else None,
        }
        for name in {*picked, *whole}
    ]
    rows.sort(key=lambda row: (-row["share"], -(row["corpus_share"] or 0.0), str(row["source"])))
    return rows


def length_facts(subset: Subset, pool: SourceCorpus) -> dict[str, Facts]:
    """Return the length distribution of both components: tokens, or characters without a pass.

    Bins are powers of √2, so that 30 and 3,000 tokens are on one picture.
    """
    told: dict[str, Facts] = {}
    for component in COMPONENTS:
        counted = pool.counted(component)
        if counted is not None:
            unit, whole = "tokens", counted.lengths.astype(np.int64)
            own = whole[rows_among(subset.ids, counted.ids, "report", "the token pass")]
        else:
            columns = [parquet.read(path, [component])[component] for path in subset.files]
            own = np.concatenate([pc.utf8_length(c).to_numpy() for c in columns]).astype(np.int64)
            unit, whole = "characters", None
        told[component] = {"unit": unit, **_histogram(own, whole)}
    return told


def _histogram(own: Ints, whole: Ints | None) -> Facts:
    top = max(int(own.max()), 0 if whole is None else int(whole.max()), 2)
    steps = np.arange(0, 2 * np.ceil(np.log2(top + 1)) + 1)
    edges = np.unique(np.round(np.sqrt(2.0) ** steps).astype(np.int64))
    edges[0] = 0
    told: Facts = {"edges": edges.tolist(), "subset": _binned(own, edges), **_middle(own, "")}
    if whole is not None:
        told |= {"corpus": _binned(whole, edges), **_middle(whole, "corpus_")}
    return told


def _binned(values: Ints, edges: Ints) -> list[float]:
    return shares_of(np.histogram(values, bins=edges)[0])


def _middle(values: Ints, prefix: str) -> Facts:
    low, half, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {
        f"{prefix}mean": round(float(values.mean()), 3),
        f"{prefix}p10": round(float(low), 3),
        f"{prefix}median": round(float(half), 3),
        f"{prefix}p90": round(float(high), 3),
    }


def kind_facts(opened: Kinds, subset: Subset, pool: SourceCorpus) -> Facts:
    """Return how a subset holds the kinds of one incidence, beside the corpus.

    `more` and `less` are the kinds whose share of samples differs most; `missing` are the most
    frequent kinds that no sample of the subset holds.
    """
    rows = opened.rows(subset.ids)
    own, whole = opened.counts(rows), opened.counts()
    n, all_n = len(rows), opened.made.n_samples
    expected = whole * (n / all_n)
    # A difference in standard deviations of a random draw: neither the rare nor the common rule.
    distance = (own - expected) / np.sqrt(np.maximum(expected, 1.0))
    order = np.argsort(-distance, kind="stable")
    lost = np.flatnonzero((own == 0) & (whole > 0))
    lost = lost[np.argsort(-whole[lost], kind="stable")]
    return {
        "strategy": opened.strategy,
        "total": opened.made.n_kinds,
        "held": int((own > 0).sum()),
        "missing": len(lost),
        "evenness": round(evenness(own), 6),
        "corpus_evenness": round(evenness(whole), 6),
        "per_kind": per_kind(own),
        "more": kind_rows(order[:_SHOWN], opened, own, whole, pool),
        "less": kind_rows(order[::-1][:_SHOWN], opened, own, whole, pool),
        "lost": kind_rows(lost[:_SHOWN], opened, own, whole, pool),
    }


def per_kind(counts: Ints) -> list[Facts]:
    """Return how many kinds are held by 0, 1, 2–3, 4–7, ... samples."""
    told = [{"samples": "0", "kinds": int((counts == 0).sum())}]
    low = 1
    while low <= int(counts.max(initial=0)):
        high = 2 * low - 1
        inside = int(((counts >= low) & (counts <= high)).sum())
        told.append({"samples": str(low) if low == high else f"{low}–{high}", "kinds": inside})
        low *= 2
    return told


def kind_rows(
    chosen: npt.NDArray[np.intp], opened: Kinds, own: Ints, whole: Ints, pool: SourceCorpus
) -> list[Facts]:
    """Return kinds with their names and counts."""
    names = labels(chosen.tolist(), opened, pool)
    return [
        {"kind": name, "subset": int(own[kind]), "corpus": int(whole[kind])}
        for kind, name in zip(chosen, names, strict=True)
    ]


def labels(chosen: Sequence[int], opened: Kinds, pool: SourceCorpus) -> list[str]:
    """Return names of kinds to read; a cluster has none, so it is shown by a sample of it."""
    names = [opened.table["kind"][int(kind)].as_py() for kind in chosen]
    if "examples" not in opened.table.schema.names or pool.found.corpus is None or not names:
        micro = opened.strategy.startswith("micro-")
        return [token_text(name) if micro else name for name in names]
    component = opened.strategy.partition("-")[2]
    examples = [opened.table["examples"][int(kind)].as_py() for kind in chosen]
    ids = [one[0] if one else None for one in examples]
    assert pool.table is not None
    places = pc.index_in(pa.array(ids, pa.string()), value_set=pool.table["id"].combine_chunks())
    there = np.flatnonzero(places.is_valid()).tolist()
    texts = pool.texts(places.drop_null().to_numpy()) if there else []
    for i, sample in zip(there, texts, strict=True):
        names[i] = f"{names[i]}, as “{clip(sample[component], _LABEL)}”"
    return names


def token_text(name: str) -> str:
    """Return a kind to read: the name of a byte-level token as the text that its bytes are.

    Spaces and line ends are made visible; a token that is a part of a character stays as it is.
    """
    from tokenizers import decoders

    text = decoders.ByteLevel().decode([name])
    text = name if "\ufffd" in text else text
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def clip(text: str, characters: int) -> str:
    """Return the start of a text on one line."""
    flat = " ".join(text[: 4 * characters].split())
    return flat if len(flat) <= characters else f"{flat[: characters - 1]}…"
