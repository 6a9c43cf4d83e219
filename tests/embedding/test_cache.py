"""The cache: append-only parts, found by text."""

import time
from pathlib import Path

import numpy as np
import pytest

from sft_diversity.core.errors import DataError
from sft_diversity.embedding.cache import Vectors, text_keys, write_part


def part(folder, name, texts, value):
    vectors = np.full((len(texts), 4), value, np.float16)
    write_part(folder, name, text_keys(texts), vectors, np.array([len(t) > 3 for t in texts]))


def test_parts_add_up_and_a_text_keeps_its_first_vector(tmp_path):
    part(tmp_path, "a", ["x", "longer"], 1)
    part(tmp_path, "b", ["y", "x"], 2)
    cache = Vectors(tmp_path)
    vectors, cut = cache.get(text_keys(["y", "x", "longer", "x"]))
    assert vectors[:, 0].tolist() == [2, 1, 1, 1]
    assert cut.tolist() == [False, False, True, False]
    assert cache.has(text_keys(["x", "z"])).tolist() == [True, False]
    with pytest.raises(KeyError):
        cache.get(text_keys(["z"]))


def test_parts_written_since_are_taken_up(tmp_path):
    cache = Vectors(tmp_path / "new")
    assert not cache.has(text_keys(["x"])).any()
    part(tmp_path / "new", "a", ["x"], 1)
    cache.refresh()
    assert cache.has(text_keys(["x"])).all()


def test_an_unfinished_part_is_not_seen_and_a_damaged_one_is_named(tmp_path):
    part(tmp_path, "a", ["x"], 1)
    (tmp_path / ".b.1.writing").write_bytes(b"half")
    assert len(Vectors(tmp_path)) == 1
    (tmp_path / "c.arrow").write_bytes(b"half")
    with pytest.raises(DataError, match=r"c\.arrow is damaged"):
        Vectors(tmp_path)


def test_a_cache_of_some_texts_knows_no_others_and_finds_theirs(tmp_path):
    part(tmp_path, "a", ["x", "longer"], 1)
    part(tmp_path, "b", ["z", "y"], 2)
    part(tmp_path, "c", ["w"], 3)
    cache = Vectors(tmp_path, only=np.sort(text_keys(["y", "longer", "not here"])))
    assert len(cache) == 2
    assert cache.has(text_keys(["y", "x", "longer", "w", "not here"])).tolist() == [
        True, False, True, False, False,
    ]  # fmt: skip
    vectors, cut = cache.get(text_keys(["y", "longer"]))
    assert vectors[:, 0].tolist() == [2, 1]
    assert cut.tolist() == [False, True]
    assert len(Vectors(tmp_path, only=text_keys([]))) == 0


def test_no_file_stays_open(tmp_path):
    for number in range(5):
        part(tmp_path, f"p{number}", [f"text {number}"], number + 1)
    cache = Vectors(tmp_path)
    vectors, _ = cache.get(text_keys([f"text {number}" for number in range(5)]))
    assert vectors[:, 0].tolist() == [1, 2, 3, 4, 5]
    until = time.monotonic() + 10  # a thread of Arrow's may let the last file go after the answer
    while str(tmp_path) in Path("/proc/self/maps").read_text("utf-8"):
        assert time.monotonic() < until
        time.sleep(0.01)
