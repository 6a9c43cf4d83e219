"""Arrow columns made straight of buffers.

`pa.array` does the same, but looks whether its argument is a pandas object and imports pandas for
that, and encodes text that is at hand as UTF-8 already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_ARROW = {"int32": pa.int32(), "int64": pa.int64(), "uint32": pa.uint32()}


def texts(values: Sequence[bytes], missing: Any = None) -> pa.Array:
    """Return UTF-8 texts as a string column; `missing` (truth values) says which are null."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(values)), _valid(missing)
    )


def numbers(values: npt.NDArray[Any], missing: Any = None) -> pa.Array:
    """Return an array of integers as a column, without a copy where it is contiguous.

    `missing` (truth values) says which are null.
    """
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(
        _ARROW[values.dtype.name], len(values), [_valid(missing), pa.py_buffer(values)]
    )


def _valid(missing: Any) -> pa.Buffer | None:
    return None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))


def joined(parts: Sequence[pa.ChunkedArray], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return columns of numbers or truth values, none of them null, as one array."""
    found = [np.empty(0, dtype)]
    for chunk in (chunk for column in parts for chunk in column.chunks):
        raw = chunk.buffers()[1]
        if dtype is np.bool_:
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
            found.append(bits[chunk.offset : chunk.offset + len(chunk)].astype(np.bool_))
        else:
            found.append(np.frombuffer(raw, dtype)[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(found)


def holds_text(column: pa.StringArray) -> bool:
    """Whether a text of the column is not empty."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)
    return len(column) > 0 and bool(offsets[column.offset] < offsets[column.offset + len(column)])


def truths(values: npt.NDArray[np.bool_]) -> pa.Array:
    """Return an array of truth values as a column."""
    bits = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def fixed(values: Sequence[bytes]) -> pa.Array:
    """Return keys of 16 bytes as a column."""
    return pa.Array.from_buffers(pa.binary(16), len(values), [None, pa.py_buffer(b"".join(values))])


def named(codes: npt.NDArray[np.int32], names: Sequence[str]) -> pa.Array:
    """Return a string column that holds `names[code]` for every code."""
    table = texts([name.encode() for name in names])
    return table.take(numbers(codes))


def narrowed(turns: pa.ListArray, type: pa.DataType) -> pa.ListArray:
    """Return lists of structs with the first fields alone, those that `type` has."""
    if turns.type == type:
        return turns
    said = turns.values
    fields = [said.field(place) for place in range(type.value_type.num_fields)]
    items = pa.StructArray.from_arrays(fields, fields=list(type.value_type))
    buffers = turns.buffers()[:2]
    return pa.Array.from_buffers(
        type, len(turns), buffers, turns.null_count, turns.offset, children=[items]
    )


def lists(
    offsets: npt.NDArray[np.int32], items: pa.Array, type: pa.DataType, missing: Any = None
) -> pa.Array:
    """Return a list column; `missing` (truth values) says which lists are null."""
    buffers = [_valid(missing), pa.py_buffer(np.ascontiguousarray(offsets, np.int32))]
    return pa.Array.from_buffers(type, len(offsets) - 1, buffers, children=[items])


def halves(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return keys of 16 bytes as two arrays of uint64 that sort as the bytes do."""
    parts = []
    for chunk in column.chunks:
        raw = np.frombuffer(chunk.buffers()[1], dtype=">u8")
        parts.append(raw[2 * chunk.offset : 2 * (chunk.offset + len(chunk))].astype(np.uint64))
    flat = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    return flat[0::2], flat[1::2]


def hex_ids(column: pa.ChunkedArray) -> pa.Array:
    """Return keys of 16 bytes as strings of 32 hex digits."""
    high, low = halves(column)
    raw = np.stack([high, low], axis=1).astype(">u8").tobytes()
    offsets = np.arange(0, 32 * len(high) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(high), pa.py_buffer(offsets), pa.py_buffer(raw.hex().encode())
    )
