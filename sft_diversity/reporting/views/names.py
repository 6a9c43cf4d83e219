"""Names of metrics to read."""

from __future__ import annotations

#: Metrics to read; others are shown under their own names.
METRICS = {
    "tokens_mean": "tokens, mean", "tokens_median": "tokens, median",
    "tokens_p90": "tokens, 90th percentile", "characters_mean": "characters, mean",
    **{f"distinct_{n}": f"distinct-{n}" for n in range(1, 5)},
    "distinct_1_in_10k": "distinct-1 in 10,000", "distinct_2_in_10k": "distinct-2 in 10,000",
    "compression_ratio": "compression ratio", "self_bleu": "self-BLEU",
    "token_entropy_bits": "token entropy, bits", "embedding_distance": "embedding distance",
    "vendi_score": "Vendi score", "novelsum": "NovelSum",
}  # fmt: skip


def metric_title(name: str) -> str:
    """Return a metric's title; a component before its name is kept."""
    for component in ("instruction", "response"):
        if name.startswith(f"{component}_") or name.startswith(f"{component}."):
            rest = name[len(component) + 1 :]
            return f"{component}: {METRICS.get(rest, rest.replace('_', ' '))}"
    return METRICS.get(name, name.replace("_", " "))
