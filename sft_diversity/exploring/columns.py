"""Columns: a value for each row, to colour by and to compare."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

_LABELS, _LABEL = 64, 80  # values of a column that is coloured by, characters of one


@dataclass(frozen=True)
class Column:
    """A value for each row.

    Attributes
    ----------
    values : uint16 array of places in `labels`, or float32 array, NaN where there is none
    labels : list of str, empty of numbers
    """

    values: npt.NDArray[Any]
    labels: list[str] = field(default_factory=list)

    @classmethod
    def coded(cls, texts: pa.Array) -> Column:
        """Return the column of some texts, labels in the order of the alphabet."""
        coded = texts.dictionary_encode()
        order = np.argsort(coded.dictionary.to_pylist(), kind="stable")
        place = np.empty(len(order), np.uint16)
        place[order] = np.arange(len(order), dtype=np.uint16)
        return cls(
            place[coded.indices.to_numpy()], coded.dictionary.take(pa.array(order)).to_pylist()
        )

    def told(self) -> dict[str, Any]:
        """Return what a page says of it."""
        if self.labels:
            return {"sort": "category", "labels": self.labels, "low": None, "high": None}
        there = self.values[np.isfinite(self.values)]
        ends = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
        return {"sort": "number", "labels": None, "low": ends[0], "high": ends[1]}


def meta_columns(metas: pa.ChunkedArray) -> dict[str, Column]:
    """Return, as `meta.KEY`, what most samples have in their `meta` and one can colour by.

    Numbers, and texts of at most `_LABELS` values. Rows are ordered by a hash: the first thousand
    say which keys there are.
    """
    first = [orjson.loads(meta or "{}") for meta in metas.slice(0, 1_000).to_pylist()]
    plain = Counter(
        name for meta in first for name, one in meta.items() if isinstance(one, str | int | float)
    )
    names = [name for name, many in plain.items() if many > len(first) / 2]
    found: dict[str, Column] = {}
    rows = [orjson.loads(meta or "{}") for meta in metas.to_pylist()] if names else []
    for name in names:
        values = [row.get(name) for row in rows]
        if all(one is None or type(one) in (int, float) for one in values):
            numbers = np.array([np.nan if one is None else one for one in values], np.float32)
            found[f"meta.{name}"] = Column(numbers)
            continue
        texts = pa.array([str(one)[:_LABEL] if one is not None else "" for one in values])
        if pc.count_distinct(texts).as_py() <= _LABELS:
            found[f"meta.{name}"] = Column.coded(texts)
    return found
