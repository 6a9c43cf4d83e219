"""The manifest at the root of a repository: what we put there, so that others' changes show."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sft_diversity.core import drafts, folder
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.exporting.remote import Item, Remote, missing

STAGE, VERSION = "export", 1
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class PushRecord:
    """What an earlier push wrote: its title, its configs and their figures, its files.

    `default` is the config that `load_dataset` takes where none is named.
    """

    title: str = ""
    default: str = ""
    configs: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    blobs: Mapping[str, str] = field(default_factory=dict)


def record_bytes(
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
    work = drafts.Work(STAGE, VERSION, inputs, {"title": title})
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


def read_record(content: bytes) -> PushRecord | None:
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
        return PushRecord(
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


def changes_since(remote: Remote, known: PushRecord) -> dict[str, str]:
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


def told(changed: Mapping[str, str], limit: int = 3) -> str:
    """Return changes as words: `README.md edited, x deleted and 4 more`."""
    said = [f"{path} {what}" for path, what in sorted(changed.items())]
    more = f" and {len(said) - limit} more" if len(said) > limit else ""
    return ", ".join(said[:limit]) + more


# ---- what keeps a push from going over others' work


def refuse_changes(
    there: Remote, known: PushRecord | None, pushed: Collection[str], overwrite: bool
) -> set[str]:
    """Refuse to go over others' changes unless told to; return configs that others removed.

    Even then only files of what is pushed, or of the root, are gone over.
    """
    if known is None:
        return set()
    changed = changes_since(there, known)
    if not changed:
        return set()
    if not overwrite:
        raise DataError(
            f"export: {there} was changed since the last export: {told(changed)}; "
            "nothing was pushed; save what you need, then add --overwrite"
        )
    others = {path.partition("/")[0] for path in changed if "/" in path} - {*pushed}
    gone = {
        name for name in others & {*known.configs}
        if not any(path.startswith(f"{name}/") for path in there.files)
    }  # fmt: skip
    left = {path: what for path, what in changed.items() if path.partition("/")[0] in others}
    left = {path: what for path, what in left.items() if path.partition("/")[0] not in gone}
    if left and there.kind == "dataset":
        name = sorted(left)[0].partition("/")[0]
        raise DataError(
            f"export: {there}: {told(left)}, which is not of what is pushed; "
            f"export {name} along with it, or delete its folder there"
        )
    return gone


def refuse_foreign(there: Remote, items: Mapping[str, Item], overwrite: bool) -> None:
    """Refuse to let a first push go over files that somebody else put there."""
    found = {path: "of other origin" for path in missing(there.files, items) if path in there.files}
    if found and not overwrite:
        raise DataError(
            f"export: {there} has {told(found)}; "
            "nothing was pushed; name another repository, or add --overwrite"
        )


def refuse_settings(
    there: Remote, known: PushRecord, settings: Mapping[str, Mapping[str, Any]], overwrite: bool
) -> None:
    """Refuse to replace a config by one of other settings: by a new pool, but no other seed."""
    for config, now in settings.items():
        before = known.configs.get(config, {}).get("settings")
        if before is None or before == now or overwrite:
            continue
        differ = [
            f"{key} {before.get(key)} there, {now.get(key)} here"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        raise UsageError(
            f"export: {there.name} has a config {config} with {', '.join(differ[:3])}; "
            "give this one another --name, or add --overwrite"
        )


def refuse_tag(there: Remote, name: str | None, changing: bool) -> None:
    """Refuse to move a tag that names something else."""
    at = there.tags.get(name or "")
    if at is not None and (changing or at != there.base):
        raise UsageError(
            f"export: {there.name} has a tag {name}, of commit {at[:12]}, which "
            "holds something else; give another --tag, or delete that one on the Hub"
        )
