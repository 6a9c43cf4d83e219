"""Finished output folders: the manifest that says what each holds, read, checked, written.

Files are written under a name of their own, synced and renamed into place, so that whoever reads a
folder finds each of them whole or not at all. How a folder comes to be is `core.drafts`.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from sft_diversity.core import locks
from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.core.hashing import content_key, file_sha256

MANIFEST = "manifest.json"
_AGAIN = "remove the folder and make it again (in a work folder the next run does)"
#: What the draft of an output is drafted for.
WORK = "work.json"
#: The end of the names of files that are being written.
SCRATCH = ".writing"
_PACKAGES = (
    "sft-diversity", "numpy", "pyarrow", "polars", "numba", "faiss-cpu", "faiss-gpu", "torch",
    "transformers", "tokenizers", "sentence-transformers", "trl", "peft", "datasets",
)  # fmt: skip


@contextlib.contextmanager
def writing(final: Path, stage: str) -> Iterator[Path]:
    """Yield a path of this process's own; on success it is synced and renamed to `final`.

    The folder is made where it is not there.

    Raises
    ------
    DataError
        If the disk does not take it; nothing is left then.
    """
    scratch = final.with_name(f".{final.name}.{platform.node()}-{os.getpid()}{SCRATCH}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        sync(scratch)
        scratch.replace(final)
    except OSError as fault:
        raise disk_fault(stage, final, fault) from fault
    finally:
        scratch.unlink(missing_ok=True)


def sweep(place: Path) -> None:
    """Remove what killed processes of this host left half written in a folder that many write to.

    Of another host nobody knows here whether it still writes.
    """
    mark = re.compile(rf"\.{re.escape(platform.node())}-([0-9]+){re.escape(SCRATCH)}")
    for left in place.glob(f".*{SCRATCH}"):
        found = mark.search(left.name)
        if found is not None and not _alive(int(found[1])):
            left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextlib.contextmanager
def replacing(final: Path, stage: str) -> Iterator[Path]:
    """Yield a path as `writing` does, for a file that lies in no output of a stage.

    One process at a time replaces it, so that what a killed one left can be told and is removed.
    """
    try:
        lock = locks.acquire(final, stage)
        for left in final.parent.glob(f".{glob.escape(final.name)}.*{SCRATCH}"):
            left.unlink(missing_ok=True)
    except OSError as fault:
        raise disk_fault(stage, final, fault) from fault
    assert lock is not None
    try:
        with writing(final, stage) as scratch:
            yield scratch
    finally:
        lock.release()


def write_json(path: Path, value: Any, stage: str) -> None:
    """Write a JSON file with sorted keys, whole or not at all."""
    with writing(path, stage) as scratch:
        scratch.write_text(dump_json(value), "utf-8")


def rows_account(
    read: int, kept: int, dropped: Mapping[str, int], quarantined: int = 0
) -> dict[str, Any]:
    """Return the row account of a manifest; every row that came in must be in it once.

    Raises
    ------
    AssertionError
        If in != kept + dropped + quarantined: a bug of ours, never a state to continue from.
    """
    if read != kept + sum(dropped.values()) + quarantined:
        raise AssertionError(f"{read} rows in, {kept} kept, {dropped} dropped, {quarantined} bad")
    return {
        "in": read,
        "kept": kept,
        "dropped": {k: v for k, v in sorted(dropped.items()) if v},
        "quarantined": quarantined,
    }


def read_manifest(folder: Path, stage: str | None = None) -> dict[str, Any]:
    """Return the manifest of a finished folder, optionally of one stage.

    Raises
    ------
    UsageError
        If the folder is not a finished output, or of another stage.
    DataError
        If its manifest was edited.
    """
    manifest = manifest_or_none(folder)
    if manifest is None:
        refuse_damaged(folder)
        raise UsageError(f"{folder}: no finished output (no readable {MANIFEST}); make it first")
    if not _is_as_written(manifest):
        raise DataError(
            f"{folder}: {MANIFEST} was changed after it was written, so that nothing says what the "
            f"folder holds; put it back as it was, or {_AGAIN}"
        )
    if stage is not None and manifest.get("stage") != stage:
        raise UsageError(f"{folder}: is an output of `{manifest.get('stage')}`, not of `{stage}`")
    return manifest


def _is_as_written(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest has the digest that it was written with.

    What no hash covers, the block `run`, is left out of what is pushed to the Hub.
    """
    body = {k: v for k, v in manifest.items() if k not in ("run", "digest")}
    return manifest.get("digest") == content_key(body) and isinstance(manifest.get("run", {}), dict)


def listed(
    folder: Path, manifest: Mapping[str, Any], under: str = "", suffix: str = ""
) -> list[Path]:
    """Return the files of a folder that its manifest names, in order, some of them by their ends.

    What else lies there is none of its content: `verify` tells of it.
    """
    names = sorted(entry["path"] for entry in manifest["files"])
    return [folder / name for name in names if name.startswith(under) and name.endswith(suffix)]


def read_input(folder: Path, stage: str | None = None) -> dict[str, Any]:
    """Return the manifest of a folder that is about to be read; see `check_files`."""
    manifest = read_manifest(folder, stage)
    check_files(folder, manifest)
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a folder that lacks a file of its manifest, or has one of another size.

    Each folder is looked at once in a process. `verify` also reads every byte.

    Raises
    ------
    DataError
        Naming the file.
    """
    seen = (folder.absolute(), str(manifest.get("digest")))
    if seen in _sound:
        return
    for listed in manifest.get("files", ()):
        path = folder / listed["path"]
        size = path.stat().st_size if path.is_file() else None
        if size != listed["bytes"]:
            what = "is missing" if size is None else f"has {size:,} bytes, not {listed['bytes']:,}"
            raise DataError(
                f"{folder}: {listed['path']} {what}, so the folder is not what its {MANIFEST} "
                f"says; {_AGAIN}"
            )
    _sound.add(seen)


_sound: set[tuple[Path, str]] = set()


def figures(manifest: Mapping[str, Any], out: str | Path) -> dict[str, Any]:
    """Return the figures of a manifest that `--json` prints."""
    account = {"accounting": manifest["rows"]} if manifest["rows"] else {}
    seconds = manifest.get("run", {}).get("seconds")
    return {**manifest["result"], **account, "seconds": seconds, "out": str(out)}


def contents_key(manifest: Mapping[str, Any], prefix: str = "") -> str:
    """Return a hash of what the folder holds (files under `prefix`), not of how it was made."""
    return content_key([f for f in manifest["files"] if f["path"].startswith(prefix)])


def keys_of(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Return what an output goes by among inputs: its key, or (as subsets had it) its contents."""
    return str(manifest["key"]), contents_key(manifest)


def stage_of(folder: Path) -> str | None:
    """Return the stage that made a finished folder, or None where it is none of ours."""
    stage = (manifest_or_none(folder) or {}).get("stage")
    return stage if isinstance(stage, str) else None


def is_damaged(folder: Path) -> bool:
    """Whether a folder has a manifest that cannot be read: what it holds is then not known."""
    return (folder / MANIFEST).exists() and manifest_or_none(folder) is None


def refuse_damaged(folder: Path) -> None:
    """Raise DataError for a folder with a manifest that cannot be read: it is no raw data."""
    if is_damaged(folder):
        raise DataError(
            f"{folder}: {MANIFEST} is damaged, so what the folder holds is not known; put it back "
            f"as it was, or {_AGAIN}"
        )


def verify(folder: Path) -> dict[str, Any]:
    """Check a folder against its manifest: every file's size and SHA-256, no file besides.

    A manifest that says `grows` (a study's) lists its own files only: others may lie beside them.

    Returns
    -------
    dict
        `folder, stage, key, files, bytes, faults`; `faults` is empty when all is well.
    """
    manifest = read_manifest(folder)
    names = {entry["path"]: entry for entry in manifest["files"]}
    grows = manifest.get("grows")
    present = {entry["path"]: entry for entry in inventory(folder, names if grows else None)}
    faults = [f"{name}: missing" for name in sorted(names.keys() - present.keys())]
    if not grows:
        others = sorted(present.keys() - names.keys())
        faults += [f"{name}: not in the manifest" for name in others]
    for name in sorted(names.keys() & present.keys()):
        if present[name] != names[name]:
            faults.append(f"{name}: contents differ from the manifest")
    return {
        "folder": str(folder),
        "stage": manifest["stage"],
        "key": manifest["key"],
        "files": len(names),
        "bytes": sum(entry["bytes"] for entry in names.values()),
        "faults": faults,
    }


def dump_json(value: Any) -> str:
    """Return `value` as indented JSON with sorted keys, as all our files are written."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def json_lines(rows: Iterable[Any]) -> bytes:
    """Return each row as a line of JSON."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a result."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    """Once in a process: to read them takes longer than to write a small output."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def inventory(folder: Path, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return path, size and SHA-256 of the files of a folder, or of those of `names` it has."""
    if names is None:
        files = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        names = (name for name in files if name not in (MANIFEST, WORK))
    found = ((name, folder / name) for name in sorted(names))
    return [
        {"path": name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for name, path in found
        if path.is_file()
    ]


def manifest_or_none(folder: Path) -> dict[str, Any] | None:
    return json_or_none(folder / MANIFEST)


def read_json(path: Path) -> Any:
    """Return what a JSON file of an output or a draft says.

    Raises
    ------
    DataError
        If it cannot be read, or has not the bytes that the manifest beside it says.
    """
    files = (manifest_or_none(path.parent) or {}).get("files", ())
    hashes = {entry["path"]: entry["sha256"] for entry in files}
    try:
        if hashes.get(path.name) not in (None, file_sha256(path)):
            raise ValueError(f"not the bytes that {MANIFEST} says")
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        why = " ".join(str(fault).split())[:200]
        raise DataError(
            f"{path} is damaged ({why}); remove {path.parent} and make it again"
        ) from None


def json_or_none(path: Path) -> dict[str, Any] | None:
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_fault(stage: str, path: Path, fault: OSError) -> SftdivError:
    return DataError(
        f"{stage}: cannot write {path}: {fault.strerror or fault}; free space or rights?"
    )
