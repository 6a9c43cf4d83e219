"""Tables of a study for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from sft_diversity.core.progress import clock
from sft_diversity.core.show import columns
from sft_diversity.studies.plan import Estimate

_HEAD = (
    "regime", "strategy", "size", "dial", "runs", "draws", "score", "± sd", "short refs", "in-mix",
    "steps", "response tokens", "mean length",
)  # fmt: skip
_LIKELIHOOD = (
    "score: minus the NLL of the first 64 response tokens on transfer prompts, in nats; higher "
    "is better; the other two are NLLs"
)
_GENERATED = (
    "score: percent of the instructions that generated answers keep (of right numbers, where no "
    "set has instructions); higher is better; the other two are NLLs"
)


def costs(
    groups: Mapping[str, Mapping[str, Any]],
    apart: Sequence[Mapping[str, Any]],
    estimate: Estimate,
) -> str:
    """Return what every cell reads, how far cells lie apart, and what the study takes."""
    rows = [("cell", "draws", "steps", "epochs", "response tokens", "tokens", "cut", "lost")]
    for name, row in groups.items():
        rows.append(
            (
                name,
                f"{row['draws']}",
                f"{row['steps']:,.0f}",
                f"{row['epochs']:.3g}",
                f"{row['response_tokens']:,.0f}",
                f"{row['total_tokens']:,.0f}",
                f"{row['truncated_share']:.1%}",
                f"{row['lost_share']:.1%}",
            )
        )
    lines = [columns(rows, "figures")]
    lines += [
        f"regime {line['regime']}, size {line['size']:,}: cells differ by {line['steps']:.1%} in "
        f"steps, {line['tokens']:.1%} in response tokens"
        for line in apart
    ]
    return "\n".join([*lines, estimated(estimate)])


def estimated(one: Estimate) -> str:
    """Return what a study takes, in one line."""
    return (
        f"{one.subsets:,} subsets, {one.runs:,} runs ({one.runs_left:,} to do), "
        f"{one.tokens / 1e6:,.1f} M tokens, about {clock(one.hours * 3600)} with {one.jobs} runs "
        f"at a time of {one.threads} threads, {one.gigabytes:.1f} GB of disk, "
        f"{one.memory / 1e9:.1f} GB of memory"
    )


def studied(found: Mapping[str, Any]) -> str:
    """Return what a call of `study` came to: its plan, one run, or its results."""
    if "plan_text" in found:
        return str(found["plan_text"])
    if "scores" in found:
        return f"{found['run']}: score {found['scores']['score']:.4f}"
    return results(found)


def results(found: Mapping[str, Any]) -> str:
    """Return the scores by cell, what failed, and what the fit says."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in found["results"]:
        dial = "" if row["diversity"] is None else f"{row['diversity']:g} %"
        size = "" if row["size"] is None else f"{row['size']:,}"
        groups.setdefault((row["regime"] or "", row["strategy"], size, dial), []).append(row)
    table: list[tuple[str, ...]] = [_HEAD]
    for names, rows in sorted(groups.items(), key=lambda one: one[1][0]["strategy"] != "base"):
        draws: dict[Any, dict[Any, list[float]]] = {}  # as `fit` counts them
        for row in rows:
            trained = draws.setdefault(row["seed"] if row.get("draw") is None else row["draw"], {})
            trained.setdefault(row["train_seed"], []).append(row["score"])
        score = [fmean(map(fmean, one.values())) for one in draws.values()]
        table.append(
            (
                *names,
                f"{len(rows)}",
                f"{len(score)}",
                f"{fmean(score):.4f}",
                f"{stdev(score):.4f}" if len(score) > 1 else "",
                *(
                    _or_dash(rows, name, form)
                    for name, form in (
                        ("short_references", ".4f"),
                        ("in_mix", ".4f"),
                        ("steps", ",.0f"),
                        ("response_tokens", ",.0f"),
                        ("response_tokens_mean", ".1f"),
                    )
                ),
            )
        )
    lines = [columns(table, "figures")]
    lines.append(_GENERATED if "instruction_strict" in found["results"][0] else _LIKELIHOOD)
    lines += [f"FAILED {one['run']} ({one['stage']}): {one['error']}" for one in found["failures"]]
    if found["race"]:
        lines += found["race"]["sentences"]
    elif found["missing"]:
        lines.append(f"{len(found['missing']):,} of {found['runs']:,} runs are not finished")
    fitted = found.get("fit") or {}
    lines += fitted.get("verdict", [])
    lines.append(f"{found['out']} ({clock(found['run_seconds'])} of runs)")
    return "\n".join(lines)


def _or_dash(rows: Sequence[Mapping[str, Any]], name: str, form: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return format(fmean(values), form) if values else "-"
