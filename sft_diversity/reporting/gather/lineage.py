"""Where a folder comes from and how to make it again: commands, configs, hashes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from sft_diversity.core import lineage as made


def lineage(name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a folder, from its manifest; nothing that differs between equal runs."""
    command, config = _again(name, manifest)
    return {
        "name": name,
        "stage": manifest["stage"],
        "version": manifest.get("version"),
        "key": manifest.get("key"),
        "digest": manifest.get("digest"),
        "inputs": dict(manifest.get("inputs", {})),
        "seeds": dict(manifest.get("seeds", {})),
        "rows": dict(manifest.get("rows", {})),
        "command": command,
        "config": config,
    }


def stages_before(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what made the corpus of a data set, as its manifest tells it, the last stage first."""
    return [lineage("CORPUS", one) for one in made.corpora_of(manifest)[::-1]]


def _again(name: str, manifest: Mapping[str, Any]) -> tuple[str, str]:
    if manifest["stage"] == "study":
        config = yaml.safe_dump(manifest.get("config", {}), sort_keys=False, allow_unicode=True)
        return f"sftdiv study STUDY.yaml --out {shlex.quote(name)}", config
    return made.again(manifest, name)
