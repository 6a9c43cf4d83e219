"""The split of a corpus: whole, in order, balanced, the same everywhere."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, parts
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part, Slice
from tests.embedding import make


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5_000)), min_size=1, max_size=12),
    st.integers(1, 40),
)
def test_borders_rise_from_nothing_to_all(shards, of):
    made = [Slice(None, 0, rows) for rows, _ in shards]
    sizes = [size if rows else 0 for rows, size in shards]
    borders = [parts._border(made, sizes, parts.Fraction(n, of)) for n in range(of + 1)]
    assert borders == sorted(borders)
    assert (borders[0], borders[-1]) == (0, sum(rows for rows, _ in shards))


@pytest.mark.parametrize(("shards", "of"), [(1, 3), (2, 3), (8, 3), (8, 8), (16, 5)])
def test_parts_together_are_the_corpus_in_order(tmp_path, shards, of):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(90), shards)
    found = [parts.slices(corpus, Part(i, of)) for i in range(1, of + 1)]
    tables = [piece.read(["id", "response"]) for part in found for piece in part]
    assert pa.concat_tables(tables).equals(corpora.read(corpus, ["id", "response"]))
    rows = [sum(piece.stop - piece.start for piece in part) for part in found]
    assert max(rows) - min(rows) <= 20  # texts are 1 to some 20 words long


def test_parts_hold_equally_much_text_though_not_equally_many_rows(tmp_path):
    long, short = "red cat " * 200, "dog"
    pairs = [(f"{i}", long if i % 2 else short) for i in range(400)]
    corpus = make.corpus(tmp_path / "corpus", pairs, 16)
    counts = []
    for i in range(1, 5):
        texts = [p.read(["response"])["response"] for p in parts.slices(corpus, Part(i, 4))]
        counts.append(
            sum(
                len(text)
                for text in pa.concat_tables([pa.table([t], ["t"]) for t in texts])["t"].to_pylist()
            )
        )
    assert max(counts) < 1.25 * min(counts)


def test_more_parts_than_rows_are_refused(tmp_path):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(3))
    assert sum(len(parts.slices(corpus, Part(i, 3))) for i in (1, 2, 3)) == 3
    with pytest.raises(UsageError, match="has 3 rows; make at most as many parts"):
        parts.slices(corpus, Part(1, 4))


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "1/0", "a/b", "-1/4", "1/2/3", ""])
def test_what_names_no_part_is_refused(text):
    with pytest.raises(UsageError, match="give I/N with I from 1 to N"):
        parts.parse(text, "embed")


def test_a_part_is_finished_when_its_manifest_stands(tmp_path):
    at = parts.place(tmp_path, "made", {"option": 1}, Part(3, 12))
    assert at.name == "03-of-12"
    assert at.parent != parts.place(tmp_path, "made", {"option": 2}, Part(3, 12)).parent
    draft = folder.open_draft(at, folder.Work("made-part", 1, {}, {}))
    assert parts.finished(at.parent, "made-part") == {}
    draft.commit()
    assert parts.finished(at.parent, "made-part") == {Part(3, 12): at}
    assert parts.finished(at.parent, "other") == {}


def test_an_empty_shard_is_in_no_part(tmp_path):
    corpus = make.corpus(tmp_path / "corpus", make.pairs(1), shards=2)
    assert {pq.read_metadata(path).num_rows for path in corpora.shards(corpus)} == {0, 1}
    assert [piece.stop for piece in parts.slices(corpus, Part(1, 1))] == [1]
