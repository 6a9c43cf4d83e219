"""Push an exported folder to the Hugging Face Hub: one commit, private unless said otherwise."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sft_diversity.core import folder
from sft_diversity.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperation, HfApi

RepoType = Literal["dataset", "model"]
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TOKEN = re.compile(r"hf_\w+|(?i:bearer)\s+[^\s'\"]+|(?i:token)=[^\s&'\"]+")
_OURS = re.compile(
    r"data/train-\d+-of-\d+\.(parquet|jsonl)|model[\w.-]*\.safetensors|[a-z_]+\.json"
    r"|axolotl\.yaml|trl_sft\.sh|left_out\.jsonl"
)


def repository(to: str) -> str | None:
    """Return `org/name` of `hub:org/name`, or None where `to` is a folder.

    Raises
    ------
    UsageError
        If it begins with `hub:` but names no repository.
    """
    if not to.startswith("hub:"):
        return None
    name = to.removeprefix("hub:")
    if not _REPOSITORY.fullmatch(name):
        raise UsageError(f"export: --to {to!r} is not of the form hub:org/name")
    return name


def build_operations(exported: Path, remote: Collection[str] = ()) -> list[CommitOperation]:
    """Return the operations of the one commit that makes a repository equal to a folder.

    Every file of the folder is added. The manifest goes without its `run` block, which names the
    machine. Files of an earlier export that the new one lacks are deleted: `remote` says what is
    there; files that we did not put there stay.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = sorted(path for path in exported.rglob("*") if path.is_file())
    names = [path.relative_to(exported).as_posix() for path in files]
    operations: list[CommitOperation] = []
    for name, path in zip(names, files, strict=True):
        content: str | bytes = str(path)
        if name == folder.MANIFEST:
            content = public_manifest(exported).encode()
        operations.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content))
    stale = sorted(name for name in remote if _OURS.fullmatch(name) and name not in names)
    return operations + [CommitOperationDelete(path_in_repo=name) for name in stale]


def public_manifest(made: Path) -> str:
    """Return a folder's manifest without its `run` block: times, host and versions stay here."""
    manifest = folder.read_manifest(made)
    return folder.dump_json({k: v for k, v in manifest.items() if k != "run"})


def push(
    exported: Path, name: str, repo_type: RepoType, private: bool, branch: str | None
) -> dict[str, Any]:
    """Create the repository if need be and push the folder in one commit.

    The token is the one `hf auth login` or `HF_TOKEN` gave; it is never taken, printed or written
    here, and messages from the Hub are cleaned of anything that looks like one.

    Returns
    -------
    dict
        `repository, repo_type, commit, url, files`.

    Raises
    ------
    DataError
        If the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with scrubbed_logs():
        return _push(api, exported, name, repo_type, private, branch)


def _push(
    api: HfApi, exported: Path, name: str, repo_type: RepoType, private: bool, branch: str | None
) -> dict[str, Any]:
    try:
        api.create_repo(name, repo_type=repo_type, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(name, repo_type=repo_type, branch=branch, exist_ok=True)
        remote = api.list_repo_files(name, repo_type=repo_type, revision=branch)
        operations = build_operations(exported, remote)
        commit = api.create_commit(
            name,
            operations,
            repo_type=repo_type,
            revision=branch,
            commit_message=_message(exported),
        )
    except Exception as fault:  # whatever the client raises must not carry a token out
        raise DataError(_refusal(name, fault)) from None
    return {
        "repository": name,
        "repo_type": repo_type,
        "commit": commit.oid,
        "url": scrub(str(commit.commit_url)),
        "files": len(operations),
    }


@contextlib.contextmanager
def scrubbed_logs() -> Iterator[None]:
    """Scrub every log record made meanwhile: at DEBUG, HTTP libraries log what a server echoes."""
    plain = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = plain(*args, **kwargs)
        record.msg, record.args = scrub(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(factory)
    try:
        yield
    finally:
        logging.setLogRecordFactory(plain)


def scrub(text: str) -> str:
    """Return `text` without anything that is, or looks like, an access token."""
    from huggingface_hub import get_token

    held = get_token()
    if held:
        text = text.replace(held, "(token)")
    return _TOKEN.sub("(token)", text)


def _message(exported: Path) -> str:
    manifest = folder.read_manifest(exported)
    return f"Export {manifest['config'].get('title', 'data')} ({manifest['digest'][:12]})"


def _refusal(name: str, fault: Exception) -> str:
    status = getattr(getattr(fault, "response", None), "status_code", None)
    ways = {
        401: "log in with `hf auth login` or set HF_TOKEN",
        403: "the token lacks write access to it; use one that has",
        404: "check the name, and that the token may see it",
        409: "somebody else wrote to it meanwhile; run the command again",
    }
    said = scrub(" ".join(str(fault).split()))[:300]
    way = ways.get(status or 0, "check the network and HF_ENDPOINT, then run the command again")
    code = f" ({status})" if status else ""
    return f"export: the Hub refused {name}{code}: {said or type(fault).__name__}; {way}"
