"""What `ingest` shows people."""

from __future__ import annotations

from typing import Any

from sft_diversity.core.show import columns


def ingested(result: dict[str, Any]) -> str:
    rows = [("source", "read", "kept", "dropped", "quarantined")]
    for source in [*result["sources"], {"name": "all", "rows": result["accounting"]}]:
        account = source["rows"]
        dropped = ", ".join(f"{n:,} {why}" for why, n in account["dropped"].items()) or "0"
        counts = (account["in"], account["kept"]), account["quarantined"]
        rows.append((source["name"], *(f"{n:,}" for n in counts[0]), dropped, f"{counts[1]:,}"))
    return f"{columns(rows)}\n{result['out']}"
