"""What proves that a task is done: the manifest of its output, not what a scheduler says.

An output is one of

    {"kind": "folder", "path": DIR}             a folder with a manifest
    {"kind": "study", "path": DIR}              a study that is prepared: its runs can begin
    {"kind": "run", "study": DIR, "run": NAME}  the record of a run of a study
    {"kind": "file", "path": FILE}              a file, such as a report's page
    {"kind": "exit"}                            nothing but exit code 0
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.errors import SftdivError
from sft_diversity.core.hashing import file_sha256


def proof(output: Mapping[str, str], cwd: Path) -> dict[str, Any]:
    """Verify an output in full; return what identifies it, with `faults` (empty: all is well)."""
    kind = output["kind"]
    if kind == "folder":
        return _folder_proof(cwd / output["path"])
    if kind == "study":
        return _study_proof(cwd / output["path"])
    if kind == "run":
        return _run_proof(cwd / output["study"], output["run"])
    if kind == "file":
        path = cwd / output["path"]
        if not path.is_file():
            return {"faults": [f"{path} is not there"]}
        return {"bytes": path.stat().st_size, "sha256": file_sha256(path), "faults": []}
    return {"faults": []}


def still(output: Mapping[str, str], cwd: Path, proved: Mapping[str, Any]) -> str:
    """Say what is wrong with an output that was verified before; "" if nothing is.

    Files are compared by size alone: cheap enough for every look at a job.
    """
    kind = output["kind"]
    if kind == "folder":
        place = cwd / output["path"]
        try:
            manifest = folder.read_manifest(place)
        except SftdivError:
            return f"{place} has no manifest any more"
        if manifest.get("key") != proved.get("key"):
            return f"{place} is of other work now"
        for entry in manifest["files"]:
            path = place / entry["path"]
            if not path.is_file() or path.stat().st_size != entry["bytes"]:
                return f"{path} is gone or changed"
    elif kind == "run":
        found = _run_proof(cwd / output["study"], output["run"])
        if found["faults"]:
            return str(found["faults"][0])
        if found["key"] != proved.get("key"):
            return f"run {output['run']} is of another study now"
    elif kind == "study":
        faults = _study_proof(cwd / output["path"], whole=False)["faults"]
        return str(faults[0]) if faults else ""
    elif kind == "file":
        path = cwd / output["path"]
        if not path.is_file() or path.stat().st_size != proved.get("bytes"):
            return f"{path} is gone or changed"
    return ""


def _folder_proof(place: Path) -> dict[str, Any]:
    try:
        found = folder.verify(place)
    except SftdivError as fault:
        return {"faults": [str(fault)]}
    return {name: found[name] for name in ("key", "files", "bytes", "faults")}


def _study_proof(place: Path, whole: bool = True) -> dict[str, Any]:
    """Check that what runs read is there; with `whole` its contents too."""
    from sft_diversity.studies import runs

    try:
        named = {run["subset"] for run in runs.thaw(place)["runs"].values()} - {None}
    except SftdivError as fault:
        return {"faults": [str(fault)]}
    check = (
        _folder_proof
        if whole
        else lambda at: {"faults": [] if folder.stage_of(at) else [f"{at} is gone"]}
    )
    found = [check(place / "subsets" / name)["faults"] for name in sorted(named)]
    return {"subsets": len(named), "faults": [fault for faults in found for fault in faults]}


def _run_proof(place: Path, name: str) -> dict[str, Any]:
    from sft_diversity.studies import runs

    try:
        key = runs.thaw(place)["runs"][name]["key"]
    except (SftdivError, KeyError):
        return {"faults": [f"{place}: run {name} is not in its study"]}
    if runs.record(place, name, key) is None:
        return {"faults": [f"{place}: run {name} has no record under the study's key"]}
    return {"key": key, "faults": []}
