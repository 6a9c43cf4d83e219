"""What `select`, `explain` and `diff` show people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from sft_diversity.core.show import columns

PUBLISHED = "10:500"  # the band of the reference study
_NAMED = 12  # sources that a warning names


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
    most = sorted(result["sources"].items(), key=lambda one: (-one[1], one[0]))
    mix = [f"{name} {n / total:.0%}" for name, n in most[:6]]
    lines.append("sources: " + ", ".join(mix))
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
        usual = "" if result["band"] == PUBLISHED else f" (published: {PUBLISHED})"
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


def explained(result: dict[str, Any]) -> str:
    what = f"pick {result['pick']:,}" if result["picked"] else "not picked"
    lines = [f"{result['id']} ({result['source']}): {what}, strategy {result['strategy']}"]
    lines += [f"  {part}: {_line(result[part])}" for part in ("instruction", "response")]
    return "\n".join([*lines, *reasons(result)])


def reasons(result: dict[str, Any]) -> list[str]:
    """Say why a sample is picked or is not, a sentence a line."""
    lines = []
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
    return lines


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


def no_kind_warnings(result: Mapping[str, Any]) -> list[str]:
    """Return a line that says which sources fall out of a subset, if `result` holds them."""
    if "no_kind_sources" not in result:
        return []
    without = result["no_kind"]
    of = without + result["eligible"]
    return [
        f"warning: {result['strategy']}: {without:,} of {of:,} samples ({without / of:.0%}) hold "
        f"no kind and cannot be picked{_fallen(result['no_kind_sources'])}; --no-kind fill picks "
        "their share at random"
    ]


def _fallen(sources: Mapping[str, Mapping[str, int]]) -> str:
    """Name the sources that lose more than half of their samples, the greatest share first."""

    def share(one: tuple[str, Mapping[str, int]]) -> tuple[float, int, str]:
        name, counts = one
        return -counts["no_kind"] / counts["samples"], -counts["no_kind"], name

    worst = [
        f"{name} (all {one['samples']:,})"
        if one["no_kind"] == one["samples"]
        else f"{name} ({one['no_kind']:,} of {one['samples']:,})"
        for name, one in sorted(sources.items(), key=share)
        if 2 * one["no_kind"] > one["samples"]
    ]
    if len(worst) > _NAMED:
        worst[_NAMED:] = [f"{len(worst) - _NAMED:,} sources more"]
    return f"; sources that fall out: {', '.join(worst)}" if worst else ""
