"""Rows read together, by columns, and rows read with care: one by one they come to the same."""

import csv
import gzip
import io
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_diversity.ingestion import json_rows, parts
from sft_diversity.ingestion.rows import Block
from sft_diversity.ingestion.text import (
    digest,
    digest_of_normal,
    digests_of_exchanges,
    normal_digests,
    normalise,
)
from tests.ingestion.making import quarantine, row, rows_of, run, samples

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    [
        "",
        " ",
        "a",
        "A  b",
        "ｆ\u00a0i",
        "<think>x</think>y",
        "<tool_call>{}</tool_call>",
        "\\n",
        "\0",
    ]
)
CELL = (
    TEXT
    | st.none()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.lists(st.dictionaries(TEXT, TEXT, max_size=2), max_size=2)
)
#: Columns of several formats, of `meta`, of turns before, and of rows that were a corpus's.
NAMES = ("instruction", "input", "output", "response", "prompt", "history", "system", "id",
         "source", "more", "")  # fmt: skip
ROW = st.dictionaries(st.sampled_from(NAMES), CELL | TEXT, max_size=7) | st.fixed_dictionaries(
    {"instruction": TEXT, "output": TEXT},
    optional={"input": TEXT, "more": CELL, "system": TEXT, "source": TEXT},
)
ITEM = ROW.map(json.dumps) | st.sampled_from(
    ['{"instruction": "a", "output": "b", "output": "c"}', '{"instruction": "a", "output": ',
     '{"instruction": "\\ud800", "output": "b"}', "[1]", "7", "", "}{", '"},{"', "NaN",
     '{"instruction": "a},{b", "output": "]"}', '{"output": "b", "instruction": "x\ny"}',
     '{"instruction": [[1', "2]]}", '{"instruction": "a"', '"output": "b"}']
)  # fmt: skip
OPTIONS = st.sampled_from(
    [
        {},
        {"format": "alpaca"},
        {"format": "gpteacher"},
        {"replace": [{"find": "a", "replace": "\n"}, {"find": "b", "where": "end"}]},
        {"format": "mapping", "mapping": {"instruction": "{input}{{", "response": "{output}"}},
        {"format": "mapping", "mapping": {"instruction": "{prompt}: {more}", "input": "{input}",
                                          "response": "{output}"}},
    ]
)  # fmt: skip
MORE = st.sampled_from([{}, {"dedup": "none"}, {"turns": "first"}, {"max_row_mb": 0.0001}])


def _outcome(file: Path, out: Path, options, more):
    """Every byte of a corpus but its `run` block, or what kept it from being made."""
    source = {"name": "a", "path": str(file)} | options
    try:
        run([], out, sources=[source], **more)
    except Exception as fault:
        return str(fault).replace(str(out), "OUT")
    files = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    return files, {key: value for key, value in manifest.items() if key != "run"}


def _with_care(self, read=parts._FileReader._blocks):
    return (Block(None, block.rows) for block in read(self))


def _same(tmp_path_factory, name, content, options, more):
    place = tmp_path_factory.mktemp("both")
    (place / name).write_bytes(content)
    together = _outcome(place / name, place / "together", options, more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts._FileReader, "_blocks", _with_care)
        assert together == _outcome(place / name, place / "apart", options, more)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    items=st.lists(ITEM, max_size=8),
    glue=st.sampled_from(["\n", "\r\n", "\n\n", ",", ",\n ", " "]),
    brackets=st.sampled_from([("", ""), ("", "\n"), ("[", "]"), ("[\n", "\n]\n"), ("[", "")]),
    options=OPTIONS,
    more=MORE,
)
def test_any_json_comes_to_the_same_both_ways(
    tmp_path_factory, items, glue, brackets, options, more
):
    content = (brackets[0] + glue.join(items) + brackets[1]).encode("utf-8", "surrogatepass")
    _same(tmp_path_factory, "rows.json.gz", gzip.compress(content), options, more)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.lists(TEXT, min_size=2, max_size=3), max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
    table=st.sampled_from([{}, {"quoting": "none"}]),
    more=MORE,
)
def test_any_csv_comes_to_the_same_both_ways(tmp_path_factory, rows, quoting, table, more):
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, escapechar="\\", lineterminator="\r\n")
    writer.writerows([["instruction", "output"], *rows])
    content = text.getvalue().encode()
    _same(tmp_path_factory, "rows.csv", content, {"table": table}, more)


@given(
    items=st.lists(ITEM, max_size=12),
    seed=st.integers(0, 2**16),
    brackets=st.booleans(),
    limit=st.sampled_from([10, 100, 1 << 20]),
)
def test_however_a_stream_is_cut_its_blocks_hold_what_its_rows_do(items, seed, brackets, limit):
    text = ("[" + ",".join(items) + "]" if brackets else "\n".join(items)).encode()
    cuts = sorted(random.Random(seed).choices(range(len(text) + 1), k=5))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    together = rows_of(json_rows.blocks(iter(chunks), limit))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "parse_many", lambda raw: None)
        apart = rows_of(json_rows.blocks(iter(chunks), limit))
    assert [str(one) for one in together] == [str(one) for one in apart]


def test_a_block_is_read_together_where_all_is_well():
    rows = [row(number) for number in range(50)]
    for text in (json.dumps(rows), json.dumps(rows, indent=2), "\n".join(map(json.dumps, rows))):
        blocks = list(json_rows.blocks(iter([text.encode()]), 1 << 20))
        assert [value for block in blocks for value in block.values or ()] == rows


def test_a_bad_row_among_good_ones_is_told_with_its_place(tmp_path):
    rows = [row(1), row(2, output=None), row(3), {"instruction": 3, "output": "x"}]
    (tmp_path / "a.json").write_text(json.dumps(rows), "utf-8")
    run(tmp_path / "a.json", tmp_path / "out")
    assert [one["source_row"] for one in samples(tmp_path / "out")] == [0, 2]
    told = quarantine(tmp_path / "out")
    assert [(one["row"], one["reason"]) for one in told] == [(1, "null-text"), (3, "not-text")]
    content = (tmp_path / "a.json").read_text("utf-8")
    for one in told:
        assert content[one["byte_offset"] :].startswith(one["raw"])
        assert json.loads(one["raw"]) == rows[one["row"]]


FORMS = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from(
        "aA e\u0301\u0327\u1100\u1161\u11a8\u00a0\u2028\u0085\x1c\u3000ﬁß½´İΣς…’가\u0f71\u0f72"
    )
)


@settings(max_examples=300)
@given(st.lists(st.lists(TEXT | FORMS, min_size=3, max_size=3), max_size=4))
def test_many_texts_are_normalised_as_each_is(rows):
    found, empty = normal_digests([text.encode() for row in rows for text in row], 3)
    normal = [[normalise(text).encode() for text in row] for row in rows]
    assert found == [digest_of_normal(row) for row in normal]
    assert empty.tolist() == [[not text for text in row] for row in normal]


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4))
def test_digests_of_normal_texts_differ_where_the_texts_do(texts, others):
    normal, other = ([normalise(text).encode() for text in row] for row in (texts, others))
    assert (digest_of_normal(normal) == digest_of_normal(other)) == (normal == other)


@given(TEXT, TEXT)
def test_the_digest_of_an_exchange_is_that_of_its_texts(asked, answered):
    texts = asked.encode(), answered.encode()
    (found,) = digests_of_exchanges([texts[0]], [texts[1]])
    assert found == digest([b"user", texts[0], b"assistant", texts[1]])
