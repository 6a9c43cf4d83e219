"""The Arrow schemas in which stages meet, and the check at every door."""

from __future__ import annotations

import pyarrow as pa

from sft_diversity.core.errors import DataError
from sft_diversity.core.messages import FIELDS

_SPOKEN = [("role", pa.string()), ("content", pa.string())]
MESSAGES = pa.list_(pa.struct(_SPOKEN))
#: Of turns that may hold thoughts, calls of tools and their results, see `core.messages`.
STRUCTURED = pa.list_(pa.struct([*_SPOKEN, *((field, pa.string()) for field in FIELDS)]))

#: One canonical sample a row, ordered by `id`. `meta` is a JSON object: what the source had
#: besides.
SAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
        ("messages", MESSAGES),
        ("instruction", pa.string()),
        ("response", pa.string()),
        ("meta", pa.string()),
    ]
)

#: The same where a sample of the corpus has more than texts: turns are structured, and `tools` is
#: JSON, the list of the tools that the assistant may call, or null.
STRUCTURED_SAMPLES = SAMPLES.set(
    SAMPLES.get_field_index("messages"), pa.field("messages", STRUCTURED)
).append(pa.field("tools", pa.string()))

#: A chosen subset: samples in pick order, 0 is the first pick.
SUBSET = SAMPLES.append(pa.field("pick", pa.int32()))


def samples_like(found: pa.Schema, *, subset: bool = False) -> pa.Schema:
    """Return the schema of samples, or of a subset of them, whichever form of it was `found`."""
    wanted = STRUCTURED_SAMPLES if "tools" in found.names else SAMPLES
    return wanted.append(SUBSET.field("pick")) if subset else wanted


def embeddings(dim: int) -> pa.Schema:
    """Return the schema of one component's embeddings: unit vectors of `dim` float16."""
    return pa.schema([("id", pa.string()), ("embedding", pa.list_(pa.float16(), dim))])


def check(table: pa.Table, schema: pa.Schema, stage: str) -> pa.Table:
    """Return `table` with the columns of `schema`, in its order; further columns are dropped.

    Raises
    ------
    DataError
        If a column is missing or has another type; the message names each.
    """
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    faults = [f"{f.name} ({f.type})" for f in schema if types.get(f.name) != f.type]
    if faults:
        raise DataError(f"{stage}: input lacks {', '.join(faults)}; it has {table.schema.names}")
    return table.select(schema.names)
