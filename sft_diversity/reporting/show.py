"""What `report` shows people."""

from __future__ import annotations

from typing import Any


def reported(result: dict[str, Any]) -> str:
    said = f"{result['kind']} {result['title']}: {result['bytes'] / 1e6:.2f} MB\n{result['out']}"
    if "figures" in result:
        said += f"\n{len(result['figures'])} figures, the first is {result['figures'][0]}"
    return said
