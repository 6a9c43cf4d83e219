"""What a Hub repository holds at its head, file by file, and how that differs from local files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sft_diversity.core.errors import DataError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepoType = Literal["dataset", "model"]
MAIN = "main"
_GIT_BYTES = 10_000_000  # the Hub stores larger files by their SHA-256, never in git itself


@dataclass(frozen=True)
class Item:
    """A file to push: where it is, or its bytes, and by what the Hub would know it.

    `blob` is the id that git gives it, None for a file that is too large to lie in git.
    """

    source: Path | bytes
    size: int
    sha256: str
    blob: str | None


@dataclass(frozen=True)
class Stored:
    """A file of the repository: its size, and its SHA-256 if it is stored by that, or git's id."""

    size: int
    sha256: str | None
    blob: str

    def equals(self, size: int, sha256: str, blob: str | None) -> bool:
        """Whether it has the same bytes as a file of this size and these checksums."""
        known, wanted = (self.blob, blob) if self.sha256 is None else (self.sha256, sha256)
        return self.size == size and known == wanted


@dataclass(frozen=True)
class Remote:
    """A branch of a repository as it is: `head` is its commit, None where the branch is new.

    `base` is the commit that the files are of: the head, or where a new branch starts.
    """

    name: str
    kind: RepoType
    branch: str
    private: bool
    head: str | None
    base: str
    tags: Mapping[str, str]
    files: Mapping[str, Stored]

    def __str__(self) -> str:
        """Return what messages call it."""
        return self.name if self.branch == MAIN else f"{self.name}, branch {self.branch}"


def item(source: Path | bytes) -> Item:
    """Return a file with its checksums; reads it once."""
    if isinstance(source, Path) and source.stat().st_size > _GIT_BYTES:
        with source.open("rb") as handle:
            strong = hashlib.file_digest(handle, "sha256").hexdigest()
        return Item(source, source.stat().st_size, strong, None)
    content = source if isinstance(source, bytes) else source.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return Item(source, len(content), hashlib.sha256(content).hexdigest(), git)


def state_of(api: HfApi, name: str, kind: RepoType, branch: str) -> Remote | None:
    """Return the state of a branch, None where there is no such repository.

    Raises
    ------
    Exception
        Whatever the client raises for a Hub that refuses or cannot be reached.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        private = bool(api.repo_info(name, repo_type=kind).private)
    except RepositoryNotFoundError as fault:
        if fault.response.status_code == 401:
            raise  # nobody is logged in: it may well be there
        return None
    refs = api.list_repo_refs(name, repo_type=kind)
    heads = {ref.name: ref.target_commit for ref in refs.branches}
    head = heads.get(branch)
    base = head or heads[MAIN]
    return Remote(
        name, kind, branch, private, head, base,
        {ref.name: ref.target_commit for ref in refs.tags},
        files_at(api, name, kind, base),
    )  # fmt: skip


def files_at(api: HfApi, name: str, kind: RepoType, commit: str) -> dict[str, Stored]:
    """Return every file of a commit."""
    from huggingface_hub.hf_api import RepoFile

    entries = api.list_repo_tree(name, repo_type=kind, revision=commit, recursive=True)
    return {
        entry.path: Stored(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
        for entry in entries
        if isinstance(entry, RepoFile)
    }


def missing(files: Mapping[str, Stored], wanted: Mapping[str, Item]) -> list[str]:
    """Return the paths that `files` lacks or holds with other bytes."""
    return [
        path
        for path, one in wanted.items()
        if path not in files or not files[path].equals(one.size, one.sha256, one.blob)
    ]


def verify_files(files: Mapping[str, Stored], wanted: Mapping[str, Item], where: str) -> None:
    """Check that the Hub holds every file with the bytes that are here.

    Raises
    ------
    DataError
        If a checksum differs: what was sent is not what was stored.
    """
    wrong = missing(files, wanted)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DataError(
            f"export: {where}: the Hub's checksum of {wrong[0]}{more} is not that of the file "
            "here; run the command again with --overwrite"
        )
