"""What this machine has for each part of the job, and what to do where something lacks."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft_diversity.core import extras, machine, resources
from sft_diversity.core.errors import SftdivError

_GB = 1e9


def doctor(work: Path = Path(".sftdiv")) -> dict[str, Any]:
    """Return `checks`, a list of `name, state (ok | note | missing), found, way_out`, and `ok`.

    Nothing is written or downloaded, and of a token it is only said whether one is set.
    """
    checks = [
        _python(),
        _machine(),
        _accelerator(),
        *_told(),
        _faiss(),
        _extras(),
        _resource("encoder", resources.packaged_encoder, "needed by macro and meso"),
        _resource("base model", resources.base_model, "needed where no --model is named"),
        _disk(work),
        _hub(),
    ]
    return {"ok": all(check["state"] != "missing" for check in checks), "checks": checks}


def _check(name: str, state: str, found: str, way_out: str = "") -> dict[str, str]:
    return {"name": name, "state": state, "found": found, "way_out": way_out}


def _python() -> dict[str, str]:
    names = ("sft-diversity", "polars", "pyarrow", "torch", "transformers", "trl")
    found = [f"Python {platform.python_version()}"]
    for name in names:  # the last three come with extras
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return _check("packages", "ok", ", ".join(found))


def _machine() -> dict[str, str]:
    bf16 = "with bf16" if machine.has_bf16() else "no bf16: float32 is used"
    memory = machine.memory_bytes() / _GB
    return _check("machine", "ok", f"{machine.cores()} cores ({bf16}), {memory:.0f} GB of memory")


def _accelerator() -> dict[str, str]:
    if importlib.util.find_spec("torch") is None:
        return _check("GPU", "note", "torch is not installed")
    import torch

    if not machine.gpus():
        return _check("GPU", "note", f"none (torch {torch.__version__}): the CPU does all")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return _check("GPU", "ok", ", ".join(names) or "none that PyTorch sees")


def _told() -> list[dict[str, str]]:
    said = os.environ.get(machine.DETECT)
    if not said:
        return []
    way_out = f"unset {machine.DETECT} to see what is there"
    return [_check("detection", "note", f"{machine.DETECT} says {said}", way_out)]


def _faiss() -> dict[str, str]:
    found = []
    for name in ("faiss-cpu", "faiss-gpu"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(found) == 2:
        return _check(
            "faiss", "missing", " and ".join(found), "uninstall one: they overwrite each other"
        )
    if not found:
        return _check("faiss", "note", "none", f"{extras.install('cpu')} or [gpu]; macro needs it")
    return _check("faiss", "ok", found[0])


def _extras() -> dict[str, str]:
    """Say which extras are whole; none is needed until a verb or an option asks for it."""
    modules: dict[str, list[str]] = {}
    for module, (_, extra) in extras.EXTRAS.items():
        if module != "faiss":
            modules.setdefault(extra, []).append(module)
    lacking = [name for name, every in modules.items() if not all(map(extras.has, every))]
    there = ", ".join(name for name in modules if name not in lacking) or "none"
    way_out = f"{extras.install(','.join(lacking))}, or what of it you use"
    return _check("extras", "note" if lacking else "ok", there, way_out if lacking else "")


def _resource(name: str, find: Callable[[], Path], use: str) -> dict[str, str]:
    try:
        return _check(name, "ok", str(find()))
    except SftdivError as fault:
        return _check(name, "note", f"not here ({use})", str(fault))


def _disk(work: Path) -> dict[str, str]:
    place = work.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / _GB
    state = "ok" if free > 5 else "note"
    return _check(
        "disk", state, f"{free:.0f} GB free at {place}", "" if free > 5 else "free some space"
    )


def _hub() -> dict[str, str]:
    """Say whether a token is set, by `HF_TOKEN` or `hf auth login`, and where the cache is."""
    from huggingface_hub import constants, get_token

    token = get_token() is not None  # it goes no further
    found = f"token {'set' if token else 'not set'}, cache {constants.HF_HUB_CACHE}"
    if constants.HF_HUB_OFFLINE:
        found += ", offline by HF_HUB_OFFLINE"
    way_out = "" if token else "needed only to push or for gated models: hf auth login"
    return _check("Hub", "ok", found, way_out)
