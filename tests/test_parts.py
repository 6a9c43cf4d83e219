"""The cut of a corpus into slices, and what names a part."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import corpus as corpora
from sft_diversity.core import parts
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from tests.embedding import make


@pytest.mark.parametrize(("rows", "shards"), [(90, 1), (90, 2), (90, 8), (7, 2), (1, 2), (0, 1)])
def test_slices_are_the_corpus_in_order(tmp_path, rows, shards):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(rows), shards)
    found = parts.slices(corpus)
    tables = [piece.read(["id", "response"]) for piece in found]
    whole = corpora.read(corpus, ["id", "response"])
    assert pa.concat_tables([whole.slice(0, 0), *tables]).equals(whole)
    assert [table.num_rows for table in tables] == [piece.rows for piece in found]
    assert sorted(piece.name for piece in found) == [piece.name for piece in found]
    assert len(found) >= min(rows, 8), "a few jobs can share a small corpus"
    assert all(piece.rows for piece in found), "an empty shard is in no slice"


@given(rows=st.integers(0, 50), into=st.integers(0, 60))
def test_a_shard_is_cut_evenly(rows, into):
    pieces = parts._cut(None, rows, min(into, rows))
    sizes = [piece.rows for piece in pieces]
    assert sum(sizes) == (rows if into else 0)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_no_slice_is_larger_than_what_a_kill_may_lose(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "SLICE_ROWS", 10)
    corpus = make.corpus(tmp_path / "corpus", make.pairs(95), 2)
    sizes = [piece.rows for piece in parts.slices(corpus)]
    assert max(sizes) <= 10
    largest = max(pq.read_metadata(path).num_rows for path in corpora.shards(corpus))
    assert len(sizes) <= 2 * -(-largest // 10)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "1/0", "a/b", "-1/4", "1/2/3", ""])
def test_what_names_no_part_is_refused(text):
    with pytest.raises(UsageError, match="give I/N with I from 1 to N"):
        parts.parse(text, "embed")


def test_a_part_is_named_as_its_number_sorts():
    assert parts.parse(" 3 / 12 ", "embed") == Part(3, 12)
    assert str(Part(3, 12)) == "3/12"
    assert Part(3, 12).name == "03-of-12"
