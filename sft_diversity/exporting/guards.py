"""What keeps a push from going over others' work: each check passes or says what is in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.exporting import collection, record, remote
from sft_diversity.exporting.collection import Layout, Staged
from sft_diversity.exporting.record import Record
from sft_diversity.exporting.remote import Remote


def changes(
    there: Remote, known: Record | None, pushed: Mapping[str, Staged], overwrite: bool
) -> set[str]:
    """Refuse to go over others' changes unless told to; return configs that others removed.

    Even then only files of what is pushed, or of the root, are gone over.
    """
    if known is None:
        return set()
    changed = record.changes(there, known)
    if not changed:
        return set()
    if not overwrite:
        raise DataError(
            f"export: {there} was changed since the last export: {record.told(changed)}; "
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
            f"export: {there}: {record.told(left)}, which is not of what is pushed; "
            f"export {name} along with it, or delete its folder there"
        )
    return gone


def foreign(there: Remote, wanted: Layout, overwrite: bool) -> None:
    """A first push does not go over files that somebody else put there."""
    found = record.foreign(there.files, remote.missing(there.files, wanted.items))
    if found and not overwrite:
        raise DataError(
            f"export: {there} has {record.told(dict.fromkeys(found, 'of other origin'))}; "
            "nothing was pushed; name another repository, or add --overwrite"
        )


def settings(there: Remote, known: Record, staged: Sequence[Staged], overwrite: bool) -> None:
    """A config is replaced by one of the same settings only: a new pool, not another seed."""
    for one in staged:
        before = known.configs.get(one.config, {}).get("settings")
        now = collection.settings(one.path)
        if before is None or before == now or overwrite:
            continue
        changes = [
            f"{key} {before.get(key)} there, {now.get(key)} here"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        raise UsageError(
            f"export: {there.name} has a config {one.config} with {', '.join(changes[:3])}; "
            "give this one another --name, or add --overwrite"
        )


def tag(there: Remote, name: str | None, changing: bool) -> None:
    """A tag that names something else is never moved."""
    at = there.tags.get(name or "")
    if at is not None and (changing or at != there.base):
        raise UsageError(
            f"export: {there.name} has a tag {name}, of commit {at[:12]}, which "
            "holds something else; give another --tag, or delete that one on the Hub"
        )
