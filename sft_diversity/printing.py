"""What the commands print for people: short tables and plain lines."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any

from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.measures import in_order, metric_title
from sft_diversity.core.progress import clock
from sft_diversity.levels.band import PUBLISHED
from sft_diversity.selection.no_kind import no_kind_warnings


def plan_text(result: dict[str, Any]) -> str:
    rows = [("stage", "state", "rows", "time", "disk", "folder")]
    for step in result["plan"]:
        rows.append(
            (
                step["stage"],
                step["state"],
                "?" if step.get("rows") is None else f"{step['rows']:,}",
                "?" if step.get("seconds") is None else clock(step["seconds"]),
                "?" if step.get("bytes") is None else f"{step['bytes'] / 1e6:,.0f} MB",
                str(step["out"]),
            )
        )
    asked = [
        f"{step['stage']}: about {step['tokens_in']:,} tokens read by the model, "
        f"{step['tokens_out']:,} written, cost {step['cost']:,.2f}"
        for step in result["plan"]
        if "tokens_in" in step
    ]
    return "\n".join([columns(rows), *asked, "nothing was written (--dry-run)"])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def ingested(result: dict[str, Any]) -> str:
    rows = [("source", "read", "kept", "dropped", "quarantined")]
    for source in [*result["sources"], {"name": "all", "rows": result["accounting"]}]:
        account = source["rows"]
        dropped = ", ".join(f"{n:,} {why}" for why, n in account["dropped"].items()) or "0"
        counts = (account["in"], account["kept"]), account["quarantined"]
        rows.append((source["name"], *(f"{n:,}" for n in counts[0]), dropped, f"{counts[1]:,}"))
    return f"{columns(rows)}\n{result['out']}"


def cleaned(result: dict[str, Any]) -> str:
    rows = [("source", "in", "kept", "dropped")]
    for source in [*result["sources"], {"name": "all", "rows": result["accounting"]}]:
        account = source["rows"]
        why = ", ".join(f"{n:,} {w.replace('_', ' ')}" for w, n in account["dropped"].items())
        rows.append((source["name"], f"{account['in']:,}", f"{account['kept']:,}", why or "0"))
    lines = [columns(rows)]
    for hit in result["evaluation"]:
        lines.append(
            f"{hit['file']}: {hit['rows_hit']:,} of {hit['rows']:,} rows overlap with "
            f"{hit['samples']:,} samples"
        )
    groups = result["clusters"]
    if groups["number"]:
        biggest = ", ".join(f"{n:,}" for n in groups["largest"][:5])
        lines.append(
            f"{groups['number']:,} samples stay for twins, {groups['samples']:,} with them; "
            f"the largest groups: {biggest}"
        )
    lines.append(f"each removed sample with its twin: {result['out']}/removed.jsonl")
    return "\n".join(lines)


def grid(result: dict[str, Any]) -> str:
    """Return a line a subset, then the overlaps between seeds and strategies."""
    head = ("subset", "kinds", "aimed", "random at", "free", "pool", "evenness", "entropy")
    rows = [(*head, "instr.", "resp.")]
    for name, made in result["subsets"].items():
        kinds, aimed, free, pool = (
            f"{made[key]:,}" if key in made else "-"
            for key in ("kinds_covered", "kinds_target", "free_picks", "pool")
        )
        place = made.get("random_percent")
        at = "-" if place is None else f"{place:.0f} %"
        even = f"{made['evenness']:.3f}" if "evenness" in made else "-"
        means = [f"{made[f'{part}_tokens']:.1f}" for part in ("instruction", "response")]
        figures = (kinds, aimed, at, free, pool, even, f"{made['entropy_bits']:.3f}")
        rows.append((name, *figures, *means))
    lines = [columns(rows)]
    if any(row[4] not in ("free", "-") for row in rows):
        lines.append(
            "random at: where as many random samples stand on the dial; free: picks after the one "
            "that brought the last kind, the fewer the less seeds vary"
        )
    lines += dict.fromkeys(
        line for made in result["subsets"].values() for line in _eligible_lines(made)
    )
    shared = result["overlap"]
    if shared["seeds"]:
        lines.append("\nsamples that two seeds have in common, on average")
        lines.append(columns([(key, f"{share:.1%}") for key, share in shared["seeds"].items()]))
    for key, pairs in shared["strategies"].items():
        lines.append(f"\nsamples that two strategies have in common, {key}")
        lines.append(columns([(pair, f"{share:.1%}") for pair, share in pairs.items()]))
    made = len(result["subsets"])
    lines.append(f"\n{made:,} subsets in {result['out']} ({result['seconds']:,.1f} s)")
    return "\n".join(lines)


def limits_lines(result: dict[str, Any]) -> list[str]:
    """Say how each constraint of a subset was met, and what it did to the dial."""
    limits = result["limits"]
    lines = []
    if "free_k_min" in result:
        free = f"{result['free_k_min']:,} to {result['free_k_max']:,}"
        lines.append(f"constrained: without the limits the dial goes from {free}")
        if result["k_min"] == result["k_max"]:
            lines.append(
                "the limits leave the dial no range at this size: every percent is the same"
            )
    if "tokens" in limits:
        off = limits["tokens"] / limits["tokens_wanted"] - 1
        met = "" if limits["tokens_met"] else ", NOT within the tolerance"
        lines.append(
            f"response tokens {limits['tokens']:,} of {limits['tokens_wanted']:,} "
            f"wanted ({off:+.2%}{met})"
        )
    for column, numbers in limits.get("quota", {}).items():
        mix = ", ".join(f"{value} {number:,}" for value, number in list(numbers.items())[:6])
        lines.append(f"quota on {column}, exact: {mix}{', …' if len(numbers) > 6 else ''}")
    for reason, number in limits.get("not_eligible", {}).items():
        lines.append(f"not eligible: {number:,} {reason.replace('_', ' ')}")
    if limits.get("included"):
        lines.append(f"included as asked: {limits['included']:,}")
    if "quality_mean" in limits:
        means = ", ".join(f"{of} {mean:,.4g}" for of, mean in limits["quality_mean"].items())
        lines.append(f"mean quality: {means}")
    return lines


def _eligible_lines(result: dict[str, Any]) -> list[str]:
    """Say by which band kinds count, and which samples hold none, with their sources."""
    lines = []
    if "band" in result:
        usual = "" if result["band"] == str(PUBLISHED) else f" (published: {PUBLISHED})"
        lines.append(
            f"{result['strategy']}: band {result['band']}{usual}, {result['share_with_kind']:.1%} "
            "of the samples with a token hold a kind"
        )
    if result.get("no_kind_picks"):
        lines.append(
            f"{result['strategy']}: {result['no_kind_picks']:,} of {result['rows']:,} picks hold "
            "no kind"
        )
    return [*lines, *no_kind_warnings(result)]


def selected(result: dict[str, Any]) -> str:
    if "subsets" in result:
        return grid(result)
    lines = [f"{result['rows']:,} samples in {result['out']}"]
    if "kinds_target" in result:
        lines.append(
            f"kinds {result['kinds_covered']:,} of {result['kinds_target']:,} aimed at "
            f"(dial {result['k_min']:,} to {result['k_max']:,}, {result['kinds_total']:,} in all); "
            f"pool {result['pool']:,} samples, {result['free_picks']:,} picks free after the last "
            f"kind; {result['no_kind']:,} samples hold no kind"
        )
        lines += _eligible_lines(result)
        lines.append(random_line(result, "hold", f"{result['random_kinds']:,.0f} kinds"))
        samples = f"{result['rows'] - result['no_kind_picks']:,} {_ruled(result)}"
        lines.append(
            f"certificate: 100 % is at least {_floored(result['share_of_optimum'])} of what any "
            f"{samples} hold (at most {result['coverage_bound']:,} kinds)"
            f"{_not_counted(result)}"
        )
        if "objective_bound" in result:
            share = result["objective_value"] / result["objective_bound"]
            lines.append(
                f"balance {result['objective_value']:,.1f}, at least {_floored(share)} of the best"
            )
        lines.append(f"evenness {result['evenness']:.3f}")
    if "limits" in result:
        lines += limits_lines(result)
    if "target_bits" in result:
        missed = " (missed by more than 0.5 %)" if result["target_missed"] else ""
        lines.append(
            f"entropy aimed at {result['target_bits']:.3f} bits a token{missed}, "
            f"dial {result['low_bits']:.3f} to {result['high_bits']:.3f}; "
            f"no {result['rows']:,} samples exceed {result['entropy_bound']:.3f}"
        )
        lines.append(random_line(result, "have", f"{result['random_bits']:.3f} bits"))
    lines.append(
        f"entropy {result['entropy_bits']:.3f} bits a token; mean tokens: instruction "
        f"{result['instruction_tokens']:.1f}, response {result['response_tokens']:.1f}"
    )
    total = sum(result["sources"].values())
    mix = [f"{name} {n / total:.0%}" for name, n in list(result["sources"].items())[:6]]
    lines.append("sources: " + ", ".join(mix))
    return "\n".join(lines)


def random_line(result: dict[str, Any], verb: str, amount: str) -> str:
    """Say where random samples stand on the dial."""
    place = result["random_percent"]
    at = "the dial has no range here" if place is None else f"{place:.0f} % of the dial"
    number = result["rows"] - result.get("no_kind_picks", 0)
    return f"{number:,} random {_ruled(result)} {verb} {amount}: {at}"


def _not_counted(result: dict[str, Any]) -> str:
    """Say which limits the bound on kinds does not know, so that it may be far from any subset."""
    capped, total = result.get("max_per_kind"), "tokens" in result.get("limits", {})
    named = [name for name, on in (("max per kind", capped), ("the tokens", total)) if on]
    return f", {' and '.join(named)} left out of account" if named else ""


def _ruled(result: dict[str, Any]) -> str:
    """Return what the dial rules: under `--no-kind fill` those without a kind are eligible too."""
    return "samples with a kind" if result.get("no_kind_picks") else "eligible samples"


def measured(result: dict[str, Any]) -> str:
    """Return two blocks, one a component: metrics as rows, data sets as columns."""
    blocks = []
    for component in COMPONENTS:
        parts = [dataset[component] for dataset in result["datasets"]]
        names = in_order({name for part in parts for name in part})
        heads = [dataset["name"] for dataset in result["datasets"]]
        rows = [[component, *heads], ["samples", *(f"{d['rows']:,}" for d in result["datasets"])]]
        for name in names:
            rows.append([metric_title(name), *(figure(part.get(name)) for part in parts)])
        blocks.append(numbers(rows))
    note = (
        f"self-BLEU of {result['self_bleu_sample']:,} texts, NovelSum of at most "
        f"{result['novelsum_sample']:,} samples against {result['reference_sample']:,} of the "
        "corpus; what each row means: docs/measures.md"
    )
    return "\n\n".join([*blocks, f"{note}\n{result['out']}"])


def figure(value: float | int | None) -> str:
    """Return a count in full, another figure with four digits."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:#.4g}".rstrip(".")


def numbers(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as aligned columns, all but the first to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def scored(result: dict[str, Any]) -> str:
    """Print what a score found, suite by suite."""
    suite = {"pairwise": _judged, "harness": _harnessed}.get(result["suite"], _heldout)
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


def reported(result: dict[str, Any]) -> str:
    said = f"{result['kind']} {result['title']}: {result['bytes'] / 1e6:.2f} MB\n{result['out']}"
    if "figures" in result:
        said += f"\n{len(result['figures'])} figures, the first is {result['figures'][0]}"
    return said


def verified(result: dict[str, Any]) -> str:
    if result["faults"]:
        return "\n".join([f"{result['folder']}: {len(result['faults'])} faults", *result["faults"]])
    size = result["bytes"] / 1e6
    kept = f"{result['stage']}, {result['files']:,} files, {size:,.1f} MB"
    return f"{result['folder']}: {kept}: all well"


def examined(result: dict[str, Any]) -> str:
    rows = [(c["state"], c["name"], c["found"]) for c in result["checks"]]
    advice = [f"{c['name']}: {c['way_out']}" for c in result["checks"] if c["way_out"]]
    return "\n".join([columns(rows), *advice])


def figures(result: dict[str, Any]) -> str:
    """Print plain figures one a line; nested ones are for --json."""
    rows = [
        (name, f"{value:,}" if isinstance(value, int) else f"{value}")
        for name, value in result.items()
        if not isinstance(value, dict | list)
    ]
    return columns(rows)


def explained(result: dict[str, Any]) -> str:
    what = f"pick {result['pick']:,}" if result["picked"] else "not picked"
    lines = [f"{result['id']} ({result['source']}): {what}, strategy {result['strategy']}"]
    lines += [f"  {part}: {_line(result[part])}" for part in ("instruction", "response")]
    if result["picked"] and result.get("kinds") == 0:
        lines.append("it holds no kind and was drawn at random among those that hold none")
    elif result["picked"] and "gain" in result:
        lines.append(
            f"it holds {result['kinds']:,} kinds and brought {result['gain']:,} that no earlier "
            f"pick held: {_kinds(result['brought'])}"
        )
        lines.append(f"no other pick holds: {_kinds(result['irreplaceable'])}")
    reason = result.get("reason")
    if reason == "no_kind":
        lines.append("it holds no kind of this level, so it stands for nothing that could count")
    elif reason == "not_in_pool":
        lines.append(
            f"not in the pool: it left with the kind {_kinds([result['kind']])}, which "
            f"{result['samples']:,} samples hold; it is in pools of {result['k']:,} kinds and "
            f"more, from {result['diversity']:.1f} % diversity on"
        )
    elif reason == "not_drawn":
        lines.append(
            f"in the pool, but not drawn ({result['chance']:.1%} of the pool are picked); it would "
            f"add {len(result['new_kinds']):,} kinds: {_kinds(result['new_kinds'])}"
        )
    elif reason == "constrained":
        lines.append(f"the subset was constrained by: {', '.join(result['limits'])}")
    for name, measure in (("nearest", "cosine"), ("nearest_by_kinds", "jaccard")):
        if result.get(name):
            lines.append(
                f"nearest other pick, {measure} {result[name][measure]}: {result[name]['id']}"
            )
    return "\n".join(lines)


def differences(result: dict[str, Any]) -> str:
    rows = result["rows"]
    lines = [
        f"samples: {rows['both']:,} in both, {rows['only_first']:,} only in the first, "
        f"{rows['only_second']:,} only in the second (Jaccard {rows['jaccard']:.4f})"
    ]
    if "kinds" in result:
        kinds = result["kinds"]
        lines.append(f"kinds of {kinds['by']}: {kinds['both']:,} in both")
        for name in ("first", "second"):
            most = _kinds(list(kinds[f"only_{name}_most"]))
            lines.append(f"  only in the {name}: {kinds[f'only_{name}']:,}: {most}")
    table = [("source", "first", "second")]
    table += [(s, f"{a:.1%}", f"{b:.1%}") for s, (a, b) in list(result["sources"].items())[:12]]
    figures = [("figure", "first", "second")]
    figures += [(n, *(_figure(v) for v in pair)) for n, pair in result["figures"].items()]
    return "\n".join([*lines, "", columns(table), "", columns(figures)])


def _floored(share: float) -> str:
    """Return a share that is a lower bound, in percent, rounded down."""
    return f"{floor(1000 * share) / 10:.1f} %"


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _kinds(names: Sequence[str]) -> str:
    """Return kinds to read; a byte-level tokenizer's sign for a space is shown as one."""
    shown = ", ".join(
        repr(name.replace("\u0120", " ").replace("\u010a", "\n")) for name in names[:8]
    )
    return (shown or "none") + (", …" if len(names) > 8 else "")


def _line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 120 else f"{flat[:119]}…"


def scheduled(result: dict[str, Any]) -> str:
    """Return a line a schedule: its peak, its mean, the rate on the way, and the curve."""
    shown, last = result["shown"], result["steps"]
    at = [min(range(len(shown)), key=lambda i: abs(shown[i] - last * q / 4)) for q in range(1, 5)]
    highest = max(max(curve["rates"]) for curve in result["curves"])
    rows = [("schedule", "peak", "mean", "25 %", "50 %", "75 %", "100 %", "")]
    for curve in result["curves"]:
        figures = (curve["peak"], curve["mean"], *(curve["rates"][i] for i in at))
        bars = _bars(curve["rates"], highest)
        rows.append((curve["name"], *(f"{value:.3g}" for value in figures), bars))
    warm = f", {result['warmup_steps']:,} of warm-up" if result["warmup_steps"] else ""
    lines = [columns(rows), f"{last:,} steps{warm}; rates after a quarter, a half, ..., the end"]
    if "mean_law" in result:
        lines.append(
            f"UBA, φ = {result['phi']:g}, between peak and floor: mean factor "
            f"1/(1 + √(φ/2)) = {result['mean_law']:.3f}, half height after {result['half_law']:.1%}"
        )
    return "\n".join([*lines, *([result["out"]] if "out" in result else [])])


def _bars(rates: Sequence[float], highest: float, width: int = 40) -> str:
    """Return a curve in one line of blocks."""
    picked = [rates[round(i * (len(rates) - 1) / (width - 1))] for i in range(width)]
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * rate / highest)] for rate in picked)
