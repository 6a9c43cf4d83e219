"""The cache: append-only parts, found by text."""

import numpy as np
import pytest

from sft_diversity.core.errors import DataError
from sft_diversity.embed.store import Store, keys_of, write_part


def part(folder, name, texts, value):
    vectors = np.full((len(texts), 4), value, np.float16)
    write_part(folder, name, keys_of(texts), vectors, np.array([len(t) > 3 for t in texts]))


def test_parts_add_up_and_a_text_keeps_its_first_vector(tmp_path):
    part(tmp_path, "a", ["x", "longer"], 1)
    part(tmp_path, "b", ["y", "x"], 2)
    store = Store(tmp_path)
    vectors, cut = store.get(keys_of(["y", "x", "longer", "x"]))
    assert vectors[:, 0].tolist() == [2, 1, 1, 1]
    assert cut.tolist() == [False, False, True, False]
    assert store.has(keys_of(["x", "z"])).tolist() == [True, False]
    with pytest.raises(KeyError):
        store.get(keys_of(["z"]))


def test_parts_written_since_are_taken_up(tmp_path):
    store = Store(tmp_path / "new")
    assert not store.has(keys_of(["x"])).any()
    part(tmp_path / "new", "a", ["x"], 1)
    store.refresh()
    assert store.has(keys_of(["x"])).all()


def test_an_unfinished_part_is_not_seen_and_a_damaged_one_is_named(tmp_path):
    part(tmp_path, "a", ["x"], 1)
    (tmp_path / ".b.1.writing").write_bytes(b"half")
    assert len(Store(tmp_path)) == 1
    (tmp_path / "c.arrow").write_bytes(b"half")
    with pytest.raises(DataError, match=r"c\.arrow is damaged"):
        Store(tmp_path)
