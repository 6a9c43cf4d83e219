"""Push exports to a Hugging Face Hub repository: one commit, private unless said otherwise.

The files of a push are compared with the repository's, checksum by checksum, before anything is
sent and again after. What somebody else changed since the last push is never written over unasked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_diversity.core import folder, progress, stopping
from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.core.hub import PREFIX, reason, scrub, talking
from sft_diversity.exporting import collection, record, remote
from sft_diversity.exporting.collection import Layout
from sft_diversity.exporting.record import PushRecord
from sft_diversity.exporting.remote import Item, Remote, RepoType

if TYPE_CHECKING:
    from huggingface_hub import CommitOperation, CommitOperationAdd, HfApi

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_AT_ONCE = 4  # files sent between two looks for a signal

Say = Callable[[str], None]


@dataclass(frozen=True)
class PushOptions:
    """How to push: see `ExportConfig`."""

    private: bool = True
    branch: str | None = None
    tag: str | None = None
    overwrite: bool = False
    title: str | None = None
    name: str | None = None


OPTIONS = tuple(PushOptions.__dataclass_fields__)


def repository(to: str) -> str | None:
    """Return `org/name` of `hub:org/name`, or None where `to` is a folder.

    Raises
    ------
    UsageError
        If it begins with `hub:` but names no repository.
    """
    if not to.startswith(PREFIX):
        return None
    name = to.removeprefix(PREFIX)
    if not _REPOSITORY.fullmatch(name):
        raise UsageError(f"export: --to {to!r} is not of the form hub:org/name")
    return name


def push(
    exports: Sequence[Path], name: str, kind: RepoType, options: PushOptions, say: Say
) -> dict[str, Any]:
    """Make a branch of a repository hold these exports, in one commit; do nothing if it does.

    A dataset repository holds any number of exports, each a config and a folder of its own; those
    that are pushed are replaced whole, the others stay. A model repository holds one.

    The token is the one `hf auth login` or `HF_TOKEN` gave; it is never taken, printed or written
    here, and messages from the Hub are cleaned of anything that looks like one.

    Returns
    -------
    dict
        `repository, repo_type, branch, tag, commit, url, files` (sent), `bytes`, `configs`, `state`
        (`pushed` or `already there`).

    Raises
    ------
    UsageError
        If a config of that name is there and of other settings, or a tag is taken.
    DataError
        If the Hub refuses or cannot be reached, or somebody else changed what an export wrote.
    """
    from huggingface_hub import HfApi

    with talking():
        try:
            return _Push(HfApi(), name, kind, options, say).run(exports)
        except SftdivError:
            raise
        except Exception as fault:  # whatever the client raises must not carry a token out
            raise DataError(f"export: {name}: {reason(fault)}") from None


@dataclass(frozen=True)
class _Push:
    """One push, step by step."""

    api: HfApi
    name: str
    kind: RepoType
    options: PushOptions
    say: Say

    def run(self, exports: Sequence[Path]) -> dict[str, Any]:
        """Look, compare, send what is lacking, look again."""
        there = self._look() or self._make()
        wanted, stale = self._wanted(exports, there, self._known(there))
        lacking = remote.missing(there.files, wanted.items)
        record.refuse_tag(there, self.options.tag, changing=bool(lacking or stale))
        self._say_visibility(there)
        if there.head is None:
            self.api.create_branch(
                self.name, branch=there.branch, revision=there.base, repo_type=self.kind
            )
        if lacking or stale:
            size = sum(wanted.items[path].size for path in lacking)
            commit = self._commit(there, wanted, lacking, stale)
            self.say(
                f"export: {len(lacking)} files, {_bytes(size)}, in one commit to {there}, "
                f"all checksums equal: {self._url(commit)}"
            )
        else:
            commit = there.base
            self.say(f"export: already there, nothing sent: {len(wanted.items)} files of {there}")
        self._tag(there, commit)
        return {
            "repository": self.name,
            "repo_type": self.kind,
            "branch": there.branch,
            "tag": self.options.tag,
            "commit": commit,
            "url": self._url(commit),
            "files": len(lacking),
            "configs": sorted(wanted.configs),
            "state": "pushed" if lacking or stale else "already there",
        }

    def _look(self) -> Remote | None:
        branch = self.options.branch or remote.MAIN
        return remote.state_of(self.api, self.name, self.kind, branch)

    def _make(self) -> Remote:
        self.api.create_repo(self.name, repo_type=self.kind, private=self.options.private)
        self.say(f"export: made {self.name}, {'private' if self.options.private else 'public'}")
        there = self._look()
        if there is None:
            raise DataError(f"export: {self.name} was made and is not there; run the command again")
        return there

    def _known(self, there: Remote) -> PushRecord | None:
        """Return the record of the last push, None where there is none to trust."""
        if folder.MANIFEST not in there.files:
            return None
        path = self.api.hf_hub_download(
            self.name, folder.MANIFEST, repo_type=self.kind, revision=there.base
        )
        return record.read_record(Path(path).read_bytes())

    def _wanted(
        self, exports: Sequence[Path], there: Remote, known: PushRecord | None
    ) -> tuple[Layout, list[str]]:
        """Return what the repository shall hold, and which of its files shall go."""
        overwrite = self.options.overwrite
        if self.kind == "model":
            record.refuse_changes(there, known, {}, overwrite)
            wanted = collection.model_layout(exports[0], self.options.title)
            before = known.files if known else {}
            stale = [path for path in before if path in there.files and path not in wanted.items]
        else:
            staged = collection.config_names(exports, self.options.name)
            pushed = {one.config for one in staged}
            gone = record.refuse_changes(there, known, pushed, overwrite)
            known = known or PushRecord()
            now = {one.config: collection.settings(one.path) for one in staged}
            record.refuse_settings(there, known, now, overwrite)
            keep = [name for name in known.configs if name not in pushed and name not in gone]
            wanted = collection.layout(self.name, self.options.title, staged, known, keep)
            stale = [
                path
                for path in there.files
                if path.partition("/")[0] in pushed and path not in wanted.items
            ]
        if known is None or not known.files:
            record.refuse_foreign(there, wanted.items, overwrite)
        return wanted, sorted(stale)

    def _say_visibility(self, there: Remote) -> None:
        if there.private != self.options.private:
            is_now = "private" if there.private else "public"
            self.say(f"export: {self.name} is {is_now} and stays so; its settings are on the Hub")

    def _commit(
        self, there: Remote, wanted: Layout, lacking: Sequence[str], stale: Sequence[str]
    ) -> str:
        from huggingface_hub import CommitOperationDelete

        additions = self._upload(there, wanted.items, lacking)
        operations: list[CommitOperation] = [*additions]
        operations += [CommitOperationDelete(path, is_folder=False) for path in stale]
        try:
            commit = self.api.create_commit(
                self.name, operations, commit_message=self._message(wanted), repo_type=self.kind,
                revision=there.branch, parent_commit=there.base,
            ).oid  # fmt: skip
        except Exception:
            again = self._look()  # the commit may stand and only its answer be lost
            if again is None or again.head in (None, there.head):
                raise
            if remote.missing(again.files, wanted.items) or {*stale} & {*again.files}:
                raise
            commit = again.base
        files = remote.files_at(self.api, self.name, self.kind, commit)
        remote.verify_files(files, wanted.items, f"{self.name} at {commit[:12]}")
        return str(commit)

    def _upload(
        self, there: Remote, items: Mapping[str, Item], lacking: Sequence[str]
    ) -> list[CommitOperationAdd]:
        """Send the large files, none that the Hub has; no commit shows them yet."""
        from huggingface_hub import CommitOperationAdd

        by_size = sorted(lacking, key=lambda path: (-items[path].size, path))
        additions = [
            CommitOperationAdd(
                path, one if isinstance(one := items[path].source, bytes) else str(one)
            )
            for path in by_size
        ]
        total = sum(items[path].size for path in lacking)
        with progress.progress("export: push", total, "bytes") as bar:
            for start in range(0, len(additions), _AT_ONCE):
                stopping.safe_point("export")
                some = additions[start : start + _AT_ONCE]
                self.api.preupload_lfs_files(
                    self.name, some, repo_type=self.kind, revision=there.branch, free_memory=False
                )
                bar.advance(sum(items[one.path_in_repo].size for one in some))
        stopping.safe_point("export")
        return additions

    def _message(self, wanted: Layout) -> str:
        named = ", ".join(wanted.pushed[:3])
        more = f" and {len(wanted.pushed) - 3} more" if len(wanted.pushed) > 3 else ""
        return f"Export {named}{more}"

    def _tag(self, there: Remote, commit: str) -> None:
        tag = self.options.tag
        if tag is not None and tag not in there.tags:
            self.api.create_tag(self.name, tag=tag, revision=commit, repo_type=self.kind)
            self.say(f"export: tag {tag} is commit {commit[:12]}")

    def _url(self, commit: str) -> str:
        kind = "" if self.kind == "model" else f"{self.kind}s/"
        return scrub(f"{self.api.endpoint}/{kind}{self.name}/commit/{commit}")


def _bytes(size: int) -> str:
    return f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"
