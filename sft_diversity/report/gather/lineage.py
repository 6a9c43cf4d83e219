"""Where a folder comes from and how to make it again: commands, configs, hashes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

_TAKES = {"select": "CORPUS", "study": "STUDY.yaml", "ingest": "SOURCE...", "clean": "CORPUS"}


def lineage(name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a folder, from its manifest; nothing that differs between equal runs."""
    config = manifest.get("config", {})
    return {
        "name": name,
        "stage": manifest["stage"],
        "version": manifest.get("version"),
        "key": manifest.get("key"),
        "digest": manifest.get("digest"),
        "inputs": dict(manifest.get("inputs", {})),
        "seeds": dict(manifest.get("seeds", {})),
        "rows": dict(manifest.get("rows", {})),
        "command": command(name, manifest),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }


def command(name: str, manifest: Mapping[str, Any]) -> str:
    """Return the command that makes the folder anew.

    An option that named a file is in the manifest by content alone, as `given`: the command says
    FILE there. Options that no flag holds are left to `--config`.
    """
    stage, config = manifest["stage"], manifest.get("config", {})
    words = ["sftdiv", stage, _TAKES.get(stage, "INPUT")]
    if stage == "study":
        return " ".join([*words, "--out", shlex.quote(name)])
    nested = False
    for option, value in config.items():
        flag = "--" + option.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, int | float | str):
            words += [flag, "FILE" if value == "given" else shlex.quote(_plain(value))]
        else:
            nested = True
    if nested:
        words[3:] = ["--config", "CONFIG.yaml"]
    return " ".join([*words, "--out", shlex.quote(name)])


def _plain(value: float | str) -> str:
    return format(value, ".15g") if isinstance(value, float) else str(value)
