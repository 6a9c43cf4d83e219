"""Rows of a data set on the Hugging Face Hub, streamed; nothing of it is ever executed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hub import PREFIX, Reason, one_line, reason, talking
from sft_diversity.ingestion.rows import Row

_PART = r"[\w.-]+"
_ADDRESS = re.compile(
    rf"(?:{PREFIX})?(?P<name>{_PART}/{_PART})(?:/(?P<config>{_PART})(?:/(?P<split>{_PART}))?)?"
    r"(?:@(?P<revision>[\w./-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Address:
    """What `hub:org/name[/config[/split]][@revision]` names; None for what it leaves open."""

    name: str
    config: str | None
    split: str | None
    revision: str | None

    def at(self, commit: str) -> str:
        """Return the address of the same rows at a commit: equal bytes whenever it is read."""
        parts = [part for part in (self.name, self.config, self.split) if part is not None]
        return f"{PREFIX}{'/'.join(parts)}@{commit}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never moves."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


def address(text: str) -> Address:
    """Return the parts of an address.

    Raises
    ------
    UsageError
        If it is none.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UsageError(
            f"ingest: {text!r} is not of the form hub:org/name[/config[/split]][@revision]"
        )
    return Address(found["name"], found["config"], found["split"], found["revision"])


def commit_of(wanted: Address) -> str:
    """Return the commit that the revision of a Hub data set stands for now.

    A pinned one is not asked for: what was made of it is found without a network.

    Raises
    ------
    DataError
        If the Hub cannot be reached, or knows no such data set or revision.
    """
    from huggingface_hub import HfApi

    if wanted.pinned:
        return str(wanted.revision)
    with talking():
        try:
            return str(HfApi().dataset_info(wanted.name, revision=wanted.revision).sha)
        except Exception as fault:  # hub clients raise dozens of kinds; all mean: not to be had
            raise _unavailable(wanted, fault) from None


def licence_of(label: str) -> str | None:
    """Return the licence that the card of a Hub data set states, None where it states none."""
    from huggingface_hub import HfApi

    wanted = address(label)
    with talking():
        try:
            card = HfApi().dataset_info(wanted.name, revision=wanted.revision).card_data
        except Exception as fault:
            raise _unavailable(wanted, fault) from None
    stated = None if card is None else card.get("license")
    named = stated if isinstance(stated, list) else [stated]
    return ", ".join(str(one) for one in named if one) or None


def moving(labels: Iterable[tuple[str, str]]) -> list[str]:
    """Say of each source that names no commit what it stands for now.

    Parameters
    ----------
    labels : iterable of (str, str)
        Path of a source as it was given, and the label with its commit.
    """
    said = []
    for path, label in labels:
        wanted = address(path)
        if not wanted.pinned:
            said.append(
                f"ingest: {PREFIX}{wanted.name}: {wanted.revision or 'its main branch'} may move; "
                f"these rows are {label}"
            )
    return said


def hub_rows(
    name: str, revision: str | None, split: str, config: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a split of a Hub data set (or a folder that `load_dataset` reads).

    Loading scripts are refused by `datasets` itself; `trust_remote_code` is never passed.

    Raises
    ------
    DataError
        If the data cannot be had or the stream breaks off. No message ever holds a token.
    """
    import datasets

    with talking():
        try:
            for row in datasets.load_dataset(
                name, config, revision=revision, split=split, streaming=True
            ):
                yield Row(None, dict(row), b"", 0)
        except Exception as fault:  # as above; a fault of the consumer is not raised in here
            raise _unavailable(Address(name, config, split, revision), fault) from None


def _unavailable(wanted: Address, fault: Exception) -> DataError:
    why = reason(fault)
    if isinstance(fault, ValueError) and not why.status:
        why = Reason(one_line(fault), f"name one as {PREFIX}{wanted.name}/CONFIG[/SPLIT]")
    at = f"@{wanted.revision}" if wanted.revision else ""
    return DataError(f"ingest: {PREFIX}{wanted.name}{at}: {why}")
