"""What `score` shows people, suite by suite."""

from __future__ import annotations

from typing import Any

from sft_diversity.core.show import columns, plain_figures


def scored(result: dict[str, Any]) -> str:
    """Print what a score found, suite by suite; of a part, how much of its work there is."""
    if "suite" not in result:
        return plain_figures(result)
    suite = {"generate": _generated, "pairwise": _judged, "harness": _harnessed}.get(
        result["suite"], _heldout
    )
    return f"{suite(result)}\n{result['out']}"


def _judged(result: dict[str, Any]) -> str:
    rows = [("prompts of", "win rate", "95 %", "length-controlled", "95 %", "won tied lost", "n")]
    parts = {"all": result["headline"], **result["sets"]}
    for name, part in parts.items() if len(result["sets"]) > 1 else result["sets"].items():
        if part["prompts"]:
            counts = " ".join(f"{part[key]:,}" for key in ("wins", "ties", "losses"))
            rates = [*_rate(part, "win_rate"), *_rate(part, "length_controlled")]
            rows.append((name, *rates, counts, f"{part['prompts']:,}"))
    order = result["headline"].get("order", {})
    said = []
    if order.get("prompts"):
        said.append(
            f"the answer shown first won {order['first_wins']:.1f} % "
            f"({order['low']:.1f} to {order['high']:.1f}; 50 is no bias), "
            f"both orders agreed on {order['consistent']:.1f} % of {order['prompts']:,} prompts"
        )
    lacking = {k: n for k, n in result["verdicts"].items() if k not in ("model", "baseline", "tie")}
    if lacking:
        said.append(f"no verdict, each half a win: {_counted(lacking)}")
    settled = {k: n for k, n in result["statuses"].items() if k != "judged"}
    if settled:
        said.append(f"settled without the judge: {_counted(settled)}")
    if result["skipped"]:
        said.append(f"left out: {_counted(result['skipped'])}")
    return "\n".join([columns(rows), *said])


def _rate(part: dict[str, Any], name: str) -> tuple[str, str]:
    if part[name] is None:
        return "-", "-"
    return f"{part[name]:.1f} %", f"{part[f'{name}_low']:.1f} to {part[f'{name}_high']:.1f}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


def _harnessed(result: dict[str, Any]) -> str:
    rows = [("task", "metric", "value", "± standard error", "documents")]
    for name, task in result["tasks"].items():
        for metric, found in task["metrics"].items():
            value, error = (
                "-" if found[key] is None else f"{found[key]:.4f}" for key in ("value", "stderr")
            )
            number = "" if task["documents"] is None else f"{task['documents']:,}"
            rows.append((name, metric, value, error, number))
    return columns(rows)


_GENERATED = {
    "instruction_strict": "instructions kept",
    "instruction_loose": "instructions kept, loosely",
    "prompt_strict": "prompts with all kept",
    "prompt_loose": "prompts with all kept, loosely",
    "exact": "right numbers",
    "ended": "ended by itself",
    "looping": "said one thing over and over",
}


def _generated(result: dict[str, Any]) -> str:
    rows = [("figure", "share", "95 %", "of")]
    for name, label in _GENERATED.items():
        one = result["headline"][name]
        if one["value"] is not None:
            span = "-" if one["low"] is None else f"{one['low']:.1f} to {one['high']:.1f}"
            rows.append((label, f"{one['value']:.1f} %", span, f"{one['of']:,}"))
    means = result["headline"]
    said = []
    if means["answers"]:
        distinct = means["distinct_mean"]
        said.append(
            f"{means['tokens_mean']:.0f} tokens and {means['words_mean']:.0f} words an answer"
            + ("" if distinct is None else f"; of runs of four words {distinct:.0%} are distinct")
        )
    if result["skipped"]:
        said.append(f"left out: {_counted(result['skipped'])}")
    for name, samples in result["samples"].items():
        said += [f"{name}, record {one['record']}: {_sampled(one)}" for one in samples[:1]]
    return "\n".join([columns(rows), *said])


def _sampled(one: dict[str, Any]) -> str:
    """Return the beginning of an answer, on one line, and what was found of it."""
    text = " ".join(one["answer"].split())
    kept = one.get("strict")
    if kept is not None:
        return f"{text[:160]!r}: {sum(kept)} of {len(kept)} instructions kept, {one['status']}"
    right = {None: "", True: "right, ", False: "wrong, "}[one.get("exact")]
    return f"{text[:160]!r}: {right}{one['status']}"


def _heldout(result: dict[str, Any]) -> str:
    rows = [("figure", "NLL/token", "95 %", "bits/byte", "records")]
    shown = {
        "transfer, first 64 tokens": result["headline"]["transfer_first64"],
        "transfer, short references": result["headline"]["short_references"],
        "in-mix": result["in_mix"],
    }
    for name, figure in shown.items():
        if not figure["records"]:
            continue
        rows.append(
            (
                name,
                f"{figure['nll_per_token']:.4f}",
                f"{figure['nll_low']:.4f} to {figure['nll_high']:.4f}",
                f"{figure['bits_per_byte']:.4f}",
                f"{figure['records']:,}",
            )
        )
    return columns(rows)
