"""The cache of vectors: by text, one folder an encoder, append-only.

A part is one Arrow file, written whole or not at all; memory holds keys and places, 48 bytes a
text, and the vectors that are asked for. A file is open only while it is read: Linux maps 65,530
at most. Parts of runs that were stopped, of other corpora and of grown ones add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import DataError
from sft_diversity.core.folder import dump_json, replacing, writing
from sft_diversity.core.hashing import text_key

#: 32 hex digits of `core.hashing.text_key` as bytes.
Keys = npt.NDArray[np.bytes_]
KEY = np.dtype("S32")


def text_keys(texts: Sequence[str]) -> Keys:
    """Return the key of each text, shape (n,)."""
    return np.array([text_key(text).encode() for text in texts], dtype=KEY)


class Vectors:
    """Vectors of one encoder at one precision.

    Parameters
    ----------
    folder : Path
        Made when the first part is written.
    only : Keys, optional
        Ascending; other texts count as missing and take no memory.
    """

    def __init__(self, folder: Path, only: Keys | None = None) -> None:
        self.folder = folder
        self._only = only
        self._parts: list[Path] = []
        self._names: set[str] = set()
        self._keys: Keys = np.empty(0, KEY)
        self._at: npt.NDArray[np.int64] = np.empty((0, 2), np.int64)
        self.refresh()

    def __len__(self) -> int:
        return len(self._keys)

    def refresh(self) -> None:
        """Take up parts written since, by this process or another."""
        keys, at = [self._keys], [self._at]
        for path in sorted(self.folder.glob("*.arrow")):
            if path.name in self._names:
                continue
            held = _keys(_open(path))
            rows = np.arange(len(held)) if self._only is None else _among(held, self._only)
            self._names.add(path.name)
            if len(rows):
                at.append(np.stack([np.full_like(rows, len(self._parts)), rows], axis=1))
                keys.append(held[rows])  # a copy: the file is let go
                self._parts.append(path)
        if len(keys) > 1:
            self._keys, first = np.unique(np.concatenate(keys), return_index=True)
            self._at = np.concatenate(at)[first]

    def has(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return for each key whether its vector is here."""
        return self._keys[self._find(keys)] == keys if len(self) else np.zeros(len(keys), np.bool_)

    def get(self, keys: Keys) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
        """Return vectors, shape (n, d), and which texts were cut; all keys must be here."""
        if not len(self) or not self.has(keys).all():
            raise KeyError("a text was not embedded")
        at = self._at[self._find(keys)]
        width = _open(self._parts[0]).schema.field("embedding").type.list_size
        vectors = np.empty((len(keys), width), np.float16)
        cut = np.empty(len(keys), np.bool_)
        for part in np.unique(at[:, 0]):
            rows = np.flatnonzero(at[:, 0] == part)
            table = _open(self._parts[part])
            vectors[rows] = core_vectors.matrix(table["embedding"])[at[rows, 1]]
            cut[rows] = table["cut"].to_numpy()[at[rows, 1]]
        return vectors, cut

    def _find(self, keys: Keys) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = np.searchsorted(self._keys, keys)
        return np.minimum(found, len(self) - 1)


def write_part(
    folder: Path,
    name: str,
    keys: Keys,
    vectors: npt.NDArray[np.float16],
    cut: npt.NDArray[np.bool_],
) -> None:
    """Write one part, whole or not at all; safe from several workers at once."""
    table = pa.table(
        {
            "key": pa.array(keys.tolist(), pa.binary(32)),
            "embedding": core_vectors.column(vectors),
            "cut": pa.array(cut),
        }
    )
    with (
        writing(folder / f"{name}.arrow", "embed") as scratch,
        pa.ipc.new_file(str(scratch), table.schema) as writer,
    ):
        writer.write_table(table)


def describe(folder: Path, facts: dict[str, object]) -> None:
    """Say beside the parts whose they are, for a person who looks into the folder."""
    with replacing(folder / "encoder.json", "embed") as scratch:
        scratch.write_text(dump_json(facts), "utf-8")


def _open(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as fault:
        raise DataError(f"embed: {path} is damaged ({fault}); delete it and run again") from fault


def _among(keys: Keys, wanted: Keys) -> npt.NDArray[np.int64]:
    """Return the places of those keys that are in `wanted`, ascending."""
    if not len(wanted):
        return np.empty(0, np.int64)
    place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    found: npt.NDArray[np.int64] = np.flatnonzero(wanted[place] == keys)
    return found


def _keys(table: pa.Table) -> Keys:
    buffer = table["key"].combine_chunks().buffers()[1]
    return np.frombuffer(buffer, KEY, count=table.num_rows)
