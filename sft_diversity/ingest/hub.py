"""Rows of a data set on the Hugging Face Hub, streamed; nothing of it is ever executed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sft_diversity.core.errors import DataError
from sft_diversity.ingest.rows import Row

_TOKEN = re.compile(r"hf_\w{4,}|(?i:bearer)\s+[^\s'\",]+|(?<=://)[^/\s@]+(?=@)")


def commit_of(name: str, revision: str | None) -> str:
    """Return the commit that a revision of a Hub data set stands for now.

    Raises
    ------
    DataError
        If the Hub cannot be reached, or knows no such data set or revision.
    """
    from huggingface_hub import HfApi

    try:
        found = HfApi().dataset_info(name, revision=revision).sha
    except Exception as fault:  # hub clients raise dozens of kinds; all mean: not to be had
        raise _unavailable(name, fault) from None
    return str(found)


def hub_rows(name: str, revision: str | None, split: str) -> Iterator[Row]:
    """Yield the rows of a split of a Hub data set (or a folder that `load_dataset` reads).

    Loading scripts are refused by `datasets` itself; `trust_remote_code` is never passed.

    Raises
    ------
    DataError
        If the data cannot be had or the stream breaks off. No message ever holds a token.
    """
    import datasets

    try:
        for row in datasets.load_dataset(name, revision=revision, split=split, streaming=True):
            yield Row(None, dict(row), b"", 0)
    except Exception as fault:  # as above; a fault of the consumer is not raised in here
        raise _unavailable(name, fault) from None


def _unavailable(name: str, fault: Exception) -> DataError:
    reason = without_tokens(" ".join(str(fault).split()))[:300] or type(fault).__name__
    return DataError(
        f"ingest: Hub data set {name}: {reason}; check name, revision, split, network and "
        "`hf auth login`"
    )


def without_tokens(text: str) -> str:
    """Return `text` with every access token in it masked."""
    from huggingface_hub import get_token

    if secret := get_token():
        text = text.replace(secret, "***")
    return _TOKEN.sub("***", text)
