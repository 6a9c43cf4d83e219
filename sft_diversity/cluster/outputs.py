"""What proves that a task is done: the manifests of its outputs, not what a scheduler says.

An output is a folder with a manifest, a folder of such folders, or a file; its path is relative to
where the job was submitted. A task without outputs is done when its command ends with exit code 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.errors import SftdivError
from sft_diversity.core.hashing import file_sha256

#: What identifies each path: key of its manifest, or size and sha256 of a file.
Proof = dict[str, dict[str, Any]]


def prove(outputs: Iterable[str], cwd: Path) -> tuple[str, Proof]:
    """Verify outputs in full; return the first fault ("" if there is none) and the proof."""
    proof: Proof = {}
    for output in outputs:
        for place in _places(cwd / output):
            try:
                if place.is_file():
                    found: dict[str, Any] = {"sha256": file_sha256(place), "faults": []}
                    found["bytes"] = place.stat().st_size
                else:
                    found = folder.verify(place)
            except (SftdivError, OSError) as fault:
                return str(fault), proof
            if found["faults"]:
                return str(found["faults"][0]), proof
            proof[str(place)] = {k: found[k] for k in ("key", "bytes", "sha256") if k in found}
    return "", proof


def changed(proof: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what is wrong with outputs that were proved before; "" if nothing is.

    Files are compared by size alone: cheap enough for every look at a job.
    """
    for name, proved in proof.items():
        place, sizes = Path(name), {"": proved["bytes"]}
        if "key" in proved:
            try:
                manifest = folder.read_manifest(place)
            except SftdivError:
                return f"{place} has no manifest any more"
            if manifest.get("key") != proved["key"]:
                return f"{place} is of other work now"
            sizes = {entry["path"]: entry["bytes"] for entry in manifest["files"]}
        for path, size in sizes.items():
            if not (place / path).is_file() or (place / path).stat().st_size != size:
                return f"{place / path} is gone or changed"
    return ""


def _places(output: Path) -> list[Path]:
    """Return what an output stands for: itself, or the folders in it."""
    if not output.is_dir() or (output / folder.MANIFEST).exists():
        return [output]
    return sorted(p for p in output.iterdir() if p.is_dir() and p.name[0] != ".") or [output]
