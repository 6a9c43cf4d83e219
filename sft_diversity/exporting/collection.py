"""Exports in one dataset repository: each is a config and a folder, a root card has them all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, lineage, parquet
from sft_diversity.core.errors import UsageError
from sft_diversity.exporting import cards
from sft_diversity.exporting.record import PushRecord, described, record_bytes
from sft_diversity.exporting.remote import Item, item

CARD = "README.md"
_PLAIN = "chat"  # the format that a name does not say
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}")
_FIGURES = (
    "rows", "objective", "fill", "kinds_total", "kinds_covered", "kinds_target", "coverage_bound",
    "k_min", "k_max", "random_kinds", "random_percent", "free_picks", "pool", "evenness",
    "entropy_bits", "instruction_tokens", "response_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Staged:
    """A finished export in a folder, and the name of the config that it becomes."""

    config: str
    path: Path


def config_names(exports: Sequence[Path], given: str | None) -> list[Staged]:
    """Return the exports with the names of their configs: strategy and diversity tell them apart.

    What these do not say is added: another seed than 0, another format; among exports of one push
    that would still be equal, the size, then the digest.

    Raises
    ------
    UsageError
        If the name given is none, or is for several.
    """
    if given is not None:
        if len(exports) > 1:
            raise UsageError(f"export: --name {given} is for one export, not for {len(exports)}")
        if not _NAME.fullmatch(given):
            raise UsageError(f"export: --name {given!r}: letters, digits, `_`, `.`, `-` only")
        return [Staged(given, exports[0])]
    made = [folder.read_manifest(path) for path in exports]
    origins = [origin(path) for path in exports]
    names = [
        _name(of, one["config"].get("format", _PLAIN))
        for of, one in zip(origins, made, strict=True)
    ]
    sizes = [str(of["rows"].get("kept")) for of in origins]
    digests = [str(of["digest"])[:8] for of in origins]
    for more in (sizes, digests):
        names = [
            f"{name}-{one}" if names.count(name) > 1 else name
            for name, one in zip(names, more, strict=True)
        ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"export: {twice} is named twice; name each subset once")
    return [Staged(name, path) for name, path in zip(names, exports, strict=True)]


def _name(of: Mapping[str, Any], format: str) -> str:
    settings = of["config"]
    parts = ["corpus"]
    if of["stage"] == "select":
        parts = [str(settings.get("strategy", "subset"))]
        if settings.get("strategy") not in ("random", "longest"):
            parts.append(f"{settings.get('diversity', 100.0):g}")
        parts += ["entropy"] if settings.get("objective") == "entropy" else []
        parts += [f"seed{settings['seed']}"] if settings.get("seed") else []
    parts += [] if format == _PLAIN else [format]
    return re.sub(r"[^\w.-]", "-", "-".join(parts))


def origin(export: Path) -> dict[str, Any]:
    """Return the manifest of what an export was made from."""
    for name in ("selection.json", "corpus.json"):
        if (export / name).is_file():
            found: dict[str, Any] = folder.read_json(export / name)
            return found
    raise UsageError(f"export: {export} is no export of a subset or corpus")


def settings(export: Path) -> dict[str, Any]:
    """Return the settings of the selection that was exported; of a corpus none."""
    of = origin(export)
    return dict(of["config"]) if of["stage"] == "select" else {}


def config_entry(staged: Staged) -> dict[str, Any]:
    """Return what the record and the card need of an export, as JSON values."""
    of, made = origin(staged.path), folder.read_manifest(staged.path, "export")
    result = made["result"]
    shards = sorted((staged.path / "data").iterdir())
    file_type = shards[0].suffix.removeprefix(".")
    size = sum(path.stat().st_size for path in shards)
    found = {
        "of": of["stage"], "version": of["version"], "digest": of["digest"],
        "inputs": of["inputs"],
        "settings": settings(staged.path),
        "figures": {name: of["result"].get(name) for name in _FIGURES},
        "statistics": result, "file_type": file_type, "shards": len(shards), "bytes": size,
        "licences": {
            name: made["config"].get("licences", {}).get(name, "unknown")
            for name in result["sources"]
        },
    }  # fmt: skip
    if file_type == "parquet":
        found["columns"] = parquet.schema(shards[0]).names
        found["features"] = _features(shards[0])
        found["unpacked"] = sum(map(parquet.unpacked, shards))
    if of["stage"] == "select":
        command = lineage.again(of, staged.config)[0]
        found["command"] = command.replace("selection.yaml", f"{staged.config}/selection.yaml")
    if file_type != "parquet":
        with shards[0].open("rb") as handle:
            found["columns"] = list(json.loads(handle.readline()))
    return found


def _features(shard: Path) -> list[dict[str, Any]]:
    """Return the types of the columns as `datasets` writes them into a card."""
    import datasets

    features = datasets.Features.from_arrow_schema(parquet.schema(shard))
    listed: list[dict[str, Any]] = features._to_yaml_list()
    return listed


@dataclass(frozen=True)
class Layout:
    """What a repository shall hold: `items` are files that are here, `configs` all that it lists.

    `pushed` names what is pushed now; other configs stay as they are.
    """

    items: dict[str, Item]
    configs: dict[str, Any]
    pushed: tuple[str, ...]


def layout(
    name: str, title: str | None, staged: Sequence[Staged], known: PushRecord, keep: Sequence[str]
) -> Layout:
    """Return the files of a repository: those of the exports, and a card and record of all.

    Parameters
    ----------
    keep : sequence of str
        Configs of `known` that stay, beside those pushed now.

    Notes
    -----
    Reads every file once, for its checksums.
    """
    pushed = {one.config: config_entry(one) for one in staged}
    configs = {config: known.configs[config] for config in keep} | pushed
    carried = {
        path: {**one, "blob": known.blobs.get(path)}
        for path, one in known.files.items()
        if path.partition("/")[0] in configs and path.partition("/")[0] not in pushed
    }
    items = {
        f"{one.config}/{path}": found for one in staged for path, found in _items(one.path).items()
    }
    title = title or known.title or name.partition("/")[2]
    default = known.default if known.default in configs else staged[0].config
    text = cards.repository_card(name, title, dict(sorted(configs.items(), key=_order)), default)
    items[CARD] = item(text.encode())
    files = carried | {path: described(one) for path, one in items.items()}
    inputs = {config: str(one["digest"]) for config, one in configs.items()}
    items[folder.MANIFEST] = item(record_bytes(title, default, configs, files, inputs))
    return Layout(items, configs, tuple(sorted(pushed)))


def model_layout(export: Path, title: str | None) -> Layout:
    """Return the files of a model repository: those of the export, and a record of them."""
    made = folder.read_manifest(export, "export")
    items = _items(export)
    del items[folder.MANIFEST]
    files = {path: described(one) for path, one in items.items()}
    title = title or str(made["config"]["title"])
    items[folder.MANIFEST] = item(record_bytes(title, "", {}, files, made["inputs"]))
    return Layout(items, {}, (title,))


def _items(export: Path) -> dict[str, Item]:
    """Return the files of an export as others may see them: the manifest says nothing of here."""
    found = {}
    for path in sorted(p for p in export.rglob("*") if p.is_file()):
        inside = path.relative_to(export).as_posix()
        found[inside] = item(public_manifest(export) if inside == folder.MANIFEST else path)
    return found


def _order(named: tuple[str, Mapping[str, Any]]) -> tuple[bool, str, float, str]:
    """Order configs by strategy, then diversity as a number; corpora come last."""
    chosen = named[1]["settings"]
    dial = float(chosen.get("diversity") or 0)
    return named[1]["of"] != "select", str(chosen.get("strategy", "")), dial, named[0]


def public_manifest(made: Path) -> bytes:
    """Return a folder's manifest without its `run` block: times, host and versions stay here."""
    manifest = folder.read_manifest(made)
    return folder.dump_json({k: v for k, v in manifest.items() if k != "run"}).encode()
