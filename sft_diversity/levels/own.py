"""Own kinds: what a column of the samples says that they hold, tags or clusters made elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.stage import Ask, Job
from sft_diversity.levels.base import Indexed, of_named_kinds

if TYPE_CHECKING:
    from sft_diversity.levels.stage import IndexConfig


class OwnOptions(Config):
    """Where the kinds of a sample stand."""

    column: str = Field(
        default="", description="column of the source: a list of tags, one tag, or {tag: count}"
    )


class Own:
    """Level over the tags that the source's rows came with; they stand in `meta`."""

    def needs(self, config: IndexConfig, ask: Ask) -> None:
        """Read the corpus alone."""
        if not config.own.column:
            raise UsageError("index: strategy own needs the column of the kinds; --kinds-column")

    def make(self, job: Job[IndexConfig]) -> Indexed:
        """Return the incidence of the tags, named as they are; time O(text of `meta`)."""
        column = job.config.own.column
        number: dict[str, int] = {}
        rows: list[int] = []
        kinds: list[int] = []
        counts: list[int] = []
        n = 0
        for table in corpora.batches(job.corpus, ["meta"]):
            for meta in table["meta"].to_pylist():
                for name, count in _counted(orjson.loads(meta).get(column), column).items():
                    rows.append(n)
                    kinds.append(number.setdefault(name, len(number)))
                    counts.append(count)
                n += 1
        if not rows:
            raise DataError(
                f"index: no sample has a kind in column {column!r}; name a column of the source "
                "(what it had besides the conversation is in `meta`)"
            )
        pairs = np.array(rows), np.array(kinds), np.array(counts, np.int32)
        held, names = of_named_kinds(list(number), pairs, n, ((), np.zeros(0, np.int64)))
        return Indexed(held, corpora.ids(job.corpus), names)


def _counted(value: Any, column: str) -> Mapping[str, int]:
    """Return the kinds that a value names, and how often."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        found = {str(name): count for name, count in value.items() if count}
        if not all(isinstance(count, int) and count > 0 for count in found.values()):
            raise DataError(f"index: column {column!r} has counts that are no whole numbers")
        return found
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, list | Mapping) for item in items):
        raise DataError(f"index: column {column!r} has lists of lists; give a list of tags a row")
    return Counter(str(item) for item in items if item is not None)
