"""Prompt sets -> prompts, in the order in which they are answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import seeding
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import text_key
from sft_diversity.scoring.pairwise.config import PairwiseConfig, PromptSet
from sft_diversity.scoring.sets import joined_rows, value_at


@dataclass(frozen=True)
class Prompt:
    """One prompt; `key` is equal in all sets that hold it, `reference` the set's own answer."""

    set: str
    record: int
    key: str
    text: str
    reference: str | None


def own_set(path: Path) -> tuple[PromptSet, Path]:
    """Return the set that a file of own prompts makes, and the folder it lies in."""
    if not path.is_file():
        raise UsageError(f"score: {path} is not there; name a file of prompts with --prompts")
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "own"
    return PromptSet(name=name, file=path.name, prompt="prompt", response="response"), path.parent


def read(prompt_set: PromptSet, folder: Path, config: PairwiseConfig) -> list[Prompt]:
    """Return a set's prompts in a seeded order of their own, cut at the limit.

    A larger limit continues the order of a smaller one, so that batches, and with them what is kept
    of earlier runs, stay the same.

    Raises
    ------
    UsageError
        If a file is missing.
    DataError
        If a file or a row is not as the config says.
    """
    rows = joined_rows(folder, prompt_set.file, prompt_set.join)
    found = [_prompt(prompt_set, number, row) for number, row in enumerate(rows)]
    rng = seeding.generator(config.seed, "score", "prompts", prompt_set.name)
    order = rng.permutation(len(found)).tolist()
    limits = [limit for limit in (config.limit, prompt_set.limit) if limit is not None]
    return [found[i] for i in order[: min(limits, default=len(order))]]


def _prompt(prompt_set: PromptSet, number: int, row: dict[str, Any]) -> Prompt:
    where = f"score: {prompt_set.file}, row {number}"
    text = value_at(row, prompt_set.prompt)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: no text at `{prompt_set.prompt}`; mend the set's paths")
    extra = value_at(row, prompt_set.input) if prompt_set.input else None
    if isinstance(extra, str) and extra.strip():
        text = f"{text}\n\n{extra}"
    text = whole(text)
    reference = value_at(row, prompt_set.response) if prompt_set.response else None
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"{where}: `{prompt_set.response}` is no text; mend the set's paths")
    return Prompt(prompt_set.name, number, text_key(text), text, reference)


def whole(text: str) -> str:
    """Return a text with halves of surrogate pairs, which are no characters, replaced."""
    return text.encode("utf-8", "replace").decode()
