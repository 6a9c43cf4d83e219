"""What `clean` shows people."""

from __future__ import annotations

from typing import Any

from sft_diversity.core.show import columns


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
