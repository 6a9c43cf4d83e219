"""The manifest at the root of a repository: what we put there, so that others' changes show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sft_diversity.core import folder
from sft_diversity.core.hashing import content_key
from sft_diversity.exporting.remote import Held, Item, Remote

STAGE, VERSION = "export", 1
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Record:
    """What an earlier push wrote: its title, its configs and their figures, its files.

    `default` is the config that `load_dataset` takes where none is named.
    """

    title: str = ""
    default: str = ""
    configs: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    blobs: Mapping[str, str] = field(default_factory=dict)


def write(
    title: str,
    default: str,
    configs: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    inputs: Mapping[str, str],
) -> bytes:
    """Return the manifest as bytes, in the form that `sftdiv verify` checks.

    Parameters
    ----------
    configs : mapping
        Name of a config -> what the card needs of it; empty for a model.
    files : mapping
        Path -> `bytes`, `sha256` and git's id `blob` (None for a large file).
    inputs : mapping
        What was exported -> its digest.
    """
    work = folder.Work(STAGE, VERSION, inputs, {"title": title})
    body = work.as_json() | {
        "key": work.key,
        "seeds": {},
        "rows": {},
        "result": {
            "configs": dict(configs),
            "default": default,
            "git_blobs": {path: one["blob"] for path, one in files.items() if one["blob"]},
        },
        "files": [
            {"path": path, "bytes": one["bytes"], "sha256": one["sha256"]}
            for path, one in sorted(files.items())
        ],
        "grows": True,  # the Hub's own files lie beside ours
    }
    return folder.dump_json(body | {"digest": content_key(body)}).encode()


def read(content: bytes) -> Record | None:
    """Return the record that a manifest holds, None if it is none of ours or was edited."""
    if len(content) > _MAX_BYTES:
        return None
    try:
        body = json.loads(content)
        digest = body.pop("digest")
        if body["stage"] != STAGE or digest != content_key(body):
            return None
        result = body["result"]
        files = {str(entry["path"]): entry for entry in body["files"]}
        return Record(
            str(body["config"]["title"]),
            str(result["default"]),
            dict(result["configs"]),
            files,
            dict(result["git_blobs"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def described(one: Item) -> dict[str, Any]:
    """Return what a record says of a file."""
    return {"bytes": one.size, "sha256": one.sha256, "blob": one.blob}


def changes(remote: Remote, known: Record) -> dict[str, str]:
    """Return what others did to the files of the last push: path -> edited, deleted or added."""
    found = {}
    for path, entry in known.files.items():
        held = remote.files.get(path)
        if held is None:
            found[path] = "deleted"
        elif not held.equals(entry["bytes"], entry["sha256"], known.blobs.get(path)):
            found[path] = "edited"
    for path in remote.files:
        if path not in known.files and path.partition("/")[0] in known.configs:
            found[path] = "added"
    return found


def foreign(files: Mapping[str, Held], wanted: Iterable[str]) -> list[str]:
    """Return the files that a first push would write over, though no export put them there."""
    return sorted(path for path in wanted if path in files)


def told(changed: Mapping[str, str], limit: int = 3) -> str:
    """Return changes as words: `README.md edited, x deleted and 4 more`."""
    said = [f"{path} {what}" for path, what in sorted(changed.items())]
    more = f" and {len(said) - limit} more" if len(said) > limit else ""
    return ", ".join(said[:limit]) + more
