"""Every malformed input of docs/malformed-input.md: what happens, and that no neighbour is lost."""

import gzip
import json
import os
import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard

from sft_diversity.core.errors import BadRowsError, DataError, UsageError
from sft_diversity.ingestion import files, json_rows, parts, stage
from sft_diversity.ingestion.rows import RAW_LIMIT, REASONS, BadRow
from tests.ingestion.making import (
    quarantine,
    responses,
    row,
    rows_of,
    run,
    samples,
    write_lines,
)

NEIGHBOURS = ["It is 1.", "It is 2."]
DEEP = '{"instruction": "x", "output": "y", "deep": ' + "[" * 5000 + "]" * 5000 + "}"

#: A key given twice, in every way that JSON has.
TWICE = [
    '"output" : "c"',
    '"\\u006futput": "c"',
    '"x\\u002fy": 1, "x\\/y": 2',
    '"k\\"": 1, "k\\"": 2',
    '"more": {"k": 1, "k": 2}',
    '"more": [{"x": {"k": 1, "k": 2}}]',
    '"more": [[{"k": 1, "k": 2}]]',
    '"more": [{"z": 1}, {"k": 1, "k": 2}]',
    '"more": ["text", {"k": 1, "k": 2}]',
    '"score": NaN, "output": "c"',
    '"more": ' + "[" * 210 + '{"k": 1, "k": 2}' + "]" * 210,
]
BAD_LINES = {
    "not-json": '{"instruction": "a", "output": }',
    "invalid-utf8": b'{"instruction": "a", "output": "\xff\xfe"}',
    "lone-surrogate": '{"instruction": "a", "output": "\\ud800"}',
    "too-deep": DEEP,
    "duplicate-key": '{"instruction": "a", "output": "b", "output": "c"}',
    "not-an-object": '["instruction", "output"]',
    "missing-column": {"instruction": "a"},
    "null-text": {"instruction": "a", "output": None},
    "not-text": {"instruction": "a", "output": 42},
    "too-long": {"instruction": "a", "output": "b" * 200_000},
}
OTHER_BAD = [
    ("null-text", '{"instruction": "a", "output": NaN}'),
    ("null-text", '{"instruction": "a", "output": -Infinity}'),
    ("not-text", {"instruction": "a", "output": ["b"]}),
    ("not-text", {"instruction": "a", "output": {"text": "b"}}),
    ("not-text", {"instruction": ["a"], "output": "b"}),
    ("not-text", {"instruction": "a", "input": 7, "output": "b"}),
    ("lone-surrogate", '{"instruction": "a", "output": "b", "score": NaN, "x": "\\udc00"}'),
    ("too-deep", '{"instruction": "a", "output": "b", "d": ' + "[" * 400 + "]" * 400 + "}"),
    *(("duplicate-key", '{"instruction": "a", "output": "b", ' + more + "}") for more in TWICE),
    ("duplicate-key", '{"messages": [{"role": "user", "content": "a", "content": "b"}, '
     '{"role": "assistant", "tool_calls": []}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "bad"), [*BAD_LINES.items(), *OTHER_BAD])
def test_a_bad_line_goes_to_quarantine_alone(tmp_path, reason, bad):
    file = write_lines(tmp_path / "rows.jsonl", [row(1), bad, row(2)])
    manifest = run(file, tmp_path / "out", max_row_mb=0.1)
    (entry,) = quarantine(tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert (entry["reason"], entry["row"], entry["file"]) == (reason, 1, "rows.jsonl")
    assert file.read_bytes()[entry["byte_offset"] :].startswith(
        (bad if isinstance(bad, bytes) else b"") or entry["raw"][:20].encode()
    )
    assert manifest["rows"] == {"in": 3, "kept": 2, "dropped": {}, "quarantined": 1}


@pytest.mark.parametrize(("reason", "bad"), [*BAD_LINES.items(), *OTHER_BAD])
def test_a_bad_list_item_goes_to_quarantine_alone(tmp_path, reason, bad):
    items = [
        one
        if isinstance(one, bytes)
        else (one if isinstance(one, str) else json.dumps(one)).encode()
        for one in (row(1), bad, row(2))
    ]
    (tmp_path / "rows.json").write_bytes(b"[\n " + b",\n ".join(items) + b"\n]\n")
    run(tmp_path / "rows.json", tmp_path / "out", max_row_mb=0.1)
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert [entry["reason"] for entry in quarantine(tmp_path / "out")] == [reason]


@pytest.mark.parametrize("more", ["", '"key7": 1'])
def test_time_is_linear_in_the_number_of_keys(more):
    keys = [f'"key{number}": {number}' for number in range(200_000)]
    raw = ("{" + ", ".join([*keys, *filter(None, [more])]) + "}").encode()
    started = time.process_time()
    assert isinstance(json_rows.parse(raw), BadRow) is bool(more)
    assert time.process_time() - started < 10  # it took minutes for a quarter of them


def test_integers_of_any_length_are_kept(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [row(1, n=2**64, m=[-(10**30)]), row(2, n=2**64 - 1)])
    run(file, tmp_path / "out")
    said = [json.loads(sample["meta"]) for sample in samples(tmp_path / "out")]
    assert said == [{"n": 2.0**64, "m": [-1e30]}, {"n": 2**64 - 1}]


def test_every_reason_is_known_and_tested():
    here = (
        Path(__file__).read_text("utf-8") + (Path(__file__).parent / "test_formats.py").read_text()
    )
    assert not [reason for reason in REASONS if f'"{reason}"' not in here]


def test_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"\n\n{json.dumps(row(1))}\n  \n{json.dumps(row(2))}\n\n")
    assert run(tmp_path / "a.jsonl", tmp_path / "out")["rows"]["in"] == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_byte_order_marks_and_crlf_change_nothing(tmp_path, encoding, ending, name):
    lines = [json.dumps(row(1), ensure_ascii=False), json.dumps(row(2, output="naïve 東京"))]
    if name == "a.csv":
        lines = ["instruction,output", "Say 1.,It is 1.", "Say 2.,naïve 東京"]
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    (tmp_path / name).write_bytes((mark + ending.join([*lines, ""])).encode(encoding))
    run(tmp_path / name, tmp_path / "out")
    assert responses(tmp_path / "out") == ["It is 1.", "naïve 東京"]


def test_lines_end_at_newline_only(tmp_path):
    odd = "one\u2028two\u2029\u0085three\x0bfour\x1cfive\rsix"
    text = json.dumps(row(1, output=odd), ensure_ascii=False).replace("\\r", "\r")
    raw = json.dumps(row(2, output=odd), ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(raw + "\n", newline="")
    run(tmp_path / "a.jsonl", tmp_path / "out")
    assert responses(tmp_path / "out") == [odd]
    (tmp_path / "b.tsv").write_text(f"question\tanswer\nWhat?\t{odd[:-4]}\n", newline="")
    run(tmp_path / "b.tsv", tmp_path / "b")
    assert responses(tmp_path / "b") == [odd[:-4]]
    assert text != raw


def _packed(kind: str, data: bytes) -> bytes:
    return gzip.compress(data) if kind == "gz" else zstandard.compress(data)


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_stops_unless_its_head_is_wanted(tmp_path, kind, damage):
    noise = random.Random(0)
    rows = [row(i, output=noise.randbytes(400).hex()) for i in range(3000)]
    data = _packed(kind, b"".join(json.dumps(one).encode() + b"\n" for one in rows))
    half = len(data) // 2
    data = data[:half] if damage == "cut" else data[:half] + b"\0" * 64 + data[half + 64 :]
    (tmp_path / f"a.jsonl.{kind}").write_bytes(data)
    with pytest.raises(DataError, match="damaged or cut off"):
        run(tmp_path / f"a.jsonl.{kind}", tmp_path / "out")
    manifest = run(tmp_path / f"a.jsonl.{kind}", tmp_path / "out", truncated="keep")
    assert 0 < manifest["rows"]["kept"] < 3000
    assert quarantine(tmp_path / "out")[-1]["reason"] == "truncated-file"
    kept = manifest["rows"]["kept"]
    # gzip has no check inside: what flipped bytes decode to may end the last row before the break
    sure = kept - 1 if damage == "flipped" else kept
    assert responses(tmp_path / "out")[:sure] == [one["output"] for one in rows[:sure]]


def test_frames_that_zstd_skips_are_skipped(tmp_path):
    skipped = [b"%c\x2a\x4d\x18\x04\0\0\0note" % number for number in (0x50, 0x5F)]
    frames = [zstandard.compress(json.dumps(row(i)).encode() + b"\n") for i in (1, 2)]
    raw = b"".join(piece for pair in zip(skipped, frames, strict=True) for piece in pair)
    (tmp_path / "a.jsonl.zst").write_bytes(raw + skipped[0])
    run(tmp_path / "a.jsonl.zst", tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_several_archives_in_one_file_are_all_read(tmp_path, kind):
    pieces = [_packed(kind, json.dumps(row(i)).encode() + b"\n") for i in (1, 2)]
    (tmp_path / f"a.jsonl.{kind}").write_bytes(b"".join(pieces))
    run(tmp_path / f"a.jsonl.{kind}", tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS


def test_packing_is_told_by_content_not_by_name(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(json.dumps(row(1)).encode()))
    (tmp_path / "b.jsonl.gz").write_bytes(json.dumps(row(2)).encode())
    run([tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"], tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS


def test_a_cut_last_line_is_one_bad_row(tmp_path):
    whole = b"".join(json.dumps(row(i)).encode() + b"\n" for i in (1, 2, 3))
    (tmp_path / "a.jsonl").write_bytes(whole[:-20])
    run(tmp_path / "a.jsonl", tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert [entry["reason"] for entry in quarantine(tmp_path / "out")] == ["cut-row"]


def test_a_last_line_without_newline_is_whole(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(row(1))}\n{json.dumps(row(2))}")
    run(tmp_path / "a.jsonl", tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS


@pytest.mark.parametrize("cut", [1, 2, 15, 60])
def test_a_cut_list_keeps_its_whole_items(tmp_path, cut):
    text = json.dumps([row(1), row(2), row(3)])
    (tmp_path / "a.json").write_text(text[:-cut])
    run(tmp_path / "a.json", tmp_path / "out")
    assert responses(tmp_path / "out")[:2] == NEIGHBOURS
    assert [entry["reason"] for entry in quarantine(tmp_path / "out")] == ["cut-row"]


BROKEN_ITEMS = [
    '{"instruction": "an "unescaped" quote", "input": "", "output": "b"}',
    '{"instruction": "a quote too many"", "input": "", "output": "b"}',
    '{"instruction": "never closed, "input": "", "output": "b"}',
    '{"instruction": "a brace too few", "input": "", "output": "b"',
    '{"instruction": "a brace too many", "input": "", "output": "b"}}',
    '{"instruction": "a bracket", "input": [{"from": "x"}, {"from": "y"}, "output": "b"}',
    '{"instruction": "no comma" "input": "", "output": "b"}',
    '{"instruction": "turns, [{"from": "a"}, {"from": "b"}]}',
    "nonsense",
    "}",
]


@pytest.mark.parametrize("broken", BROKEN_ITEMS)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("comma", [",", ",\n  "])
def test_an_item_that_hides_its_end_loses_no_neighbour(broken, place, comma):
    items = [json.dumps(row(1)), json.dumps(row(2))]
    items.insert(place, broken)
    blocks = [("[" + comma.join(items) + "]").encode()]
    values = [found.value for found in rows_of(json_rows.blocks(iter(blocks), 1 << 20))]
    assert [value for value in values if value in (row(1), row(2))] == [row(1), row(2)]
    assert any(isinstance(value, BadRow) for value in values)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz"])
@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n \n"])
def test_an_empty_file_has_no_rows(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    write_lines(tmp_path / "more.jsonl", [row(1)])
    manifest = run([tmp_path / name, tmp_path / "more.jsonl"], tmp_path / "out")
    assert [source["rows"]["in"] for source in manifest["result"]["sources"]] == [0, 1]


def test_nothing_but_empty_files_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match="no sample is left: the sources hold no good"):
        run(tmp_path / "a.jsonl", tmp_path / "out")


def test_a_hundred_megabyte_line_is_skipped_in_little_memory(tmp_path):
    with (tmp_path / "a.jsonl").open("wb") as handle:
        handle.write(json.dumps(row(1)).encode() + b'\n{"instruction": "x", "output": "')
        for _ in range(100):
            handle.write(b"y" * (1 << 20))
        handle.write(b'"}\n' + json.dumps(row(2)).encode() + b"\n")
    run(tmp_path / "a.jsonl", tmp_path / "out")
    (entry,) = quarantine(tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert entry["reason"] == "too-long"
    assert entry["raw_bytes"] > 100 << 20
    assert len(entry["raw"]) == RAW_LIMIT


def test_a_huge_list_item_is_skipped(tmp_path):
    with (tmp_path / "a.json").open("wb") as handle:
        handle.write(b"[" + json.dumps(row(1)).encode() + b',{"instruction": "x", "output": "')
        for _ in range(20):
            handle.write(b"y" * (1 << 20))
        handle.write(b'"},' + json.dumps(row(2)).encode() + b"]")
    run(tmp_path / "a.json", tmp_path / "out", max_row_mb=4)
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert [entry["reason"] for entry in quarantine(tmp_path / "out")] == ["too-long"]
    assert quarantine(tmp_path / "out")[0]["raw_bytes"] == pytest.approx(20 << 20, rel=0.01)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\n" * (30 << 20)))
    with pytest.raises(DataError, match="unpacks to more than"):
        run(tmp_path / "a.jsonl.gz", tmp_path / "out", max_expanded_gb=0.01)


def test_a_zstd_frame_that_wants_too_much_memory_is_refused(tmp_path):
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    packed = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    data = packed.compress(json.dumps(row(1)).encode()) + packed.flush()
    (tmp_path / "a.jsonl.zst").write_bytes(data)
    with pytest.raises(DataError, match="too much memory"):
        run(tmp_path / "a.jsonl.zst", tmp_path / "out")


def test_nan_is_null_where_no_text_is_due(tmp_path):
    lines = ['{"instruction": "a", "input": NaN, "output": "b", "score": NaN}']
    run(write_lines(tmp_path / "a.jsonl", lines), tmp_path / "out")
    assert responses(tmp_path / "out") == ["b"]


CSV = b'instruction,output\nSay 1.,It is 1.\n%b\nSay 2.,It is 2.\n"Say\n3.","It ""is""\n3."\n'
BAD_CSV = [
    ("wrong-columns", b"one,two,three"),
    ("wrong-columns", b"one"),
    ("bad-quotes", b'"never closed,two'),
    ("bad-quotes", b'"closed" too early,two'),
    ("invalid-utf8", b"one,\xff\xfe"),
    ("wrong-columns", b'one,"never closed'),
]


@pytest.mark.parametrize(("reason", "line"), BAD_CSV)
def test_a_bad_csv_line_goes_to_quarantine_alone(tmp_path, reason, line):
    (tmp_path / "a.csv").write_bytes(CSV % line)
    run(tmp_path / "a.csv", tmp_path / "out")
    (entry,) = quarantine(tmp_path / "out")
    assert responses(tmp_path / "out") == [*NEIGHBOURS, 'It "is"\n3.']
    assert entry["reason"] in (reason, "bad-quotes")
    assert entry["byte_offset"] == CSV.index(b"%b")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1 or so", b"ARROW1\0\0", b"x" * 5000])
def test_a_file_that_is_no_table_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as") as caught:
        run(tmp_path / name, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_bad_cells_of_a_table_spare_their_neighbours(tmp_path):
    text = pa.array([b"It is 1.", b"\xff\xfe", b"It is 2.", None], pa.binary())
    columns = {"question": pa.array(["a", "b", "c", "d"]), "answer": text.view(pa.string())}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    run(tmp_path / "a.parquet", tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert [e["reason"] for e in quarantine(tmp_path / "out")] == ["invalid-utf8", "null-text"]


FAR = 2**61  # milliseconds: a day in 73 million years
FAR_DECIMAL = pa.array([b"\xff" * 15 + b"\x7f", None], pa.binary(16)).view(pa.decimal128(5, 2))


VALUES = [
    (pa.array([2**31 - 1, None], pa.date32()), f"<value out of range: {2**31 - 1}>"),
    (pa.array([FAR, None], pa.timestamp("ms")), f"<value out of range: {FAR}>"),
    (pa.array([FAR, None], pa.duration("s")), f"{FAR}"),
    (pa.array([FAR, None], pa.timestamp("us", "Mars/Base")), "<'Mars/Base'>"),
    (pa.array([FAR, None], pa.date64()), f"<value out of range: {FAR}>"),  # last two: not Parquet's
    (FAR_DECIMAL, "1701411834604692317316873037158841057.27"),
]


@pytest.mark.parametrize(
    ("name", "column", "said"),
    [("a.arrow", *value) for value in VALUES] + [("a.parquet", *value) for value in VALUES[:-2]],
)
def test_a_value_that_nobody_reads_costs_no_row(tmp_path, name, column, said):
    table = pa.table({"question": ["a", "b"], "answer": NEIGHBOURS, "at": column})
    if name == "a.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        feather.write_feather(table, str(tmp_path / name))
    run(tmp_path / name, tmp_path / "out")
    assert responses(tmp_path / "out") == NEIGHBOURS
    found = samples(tmp_path / "out")
    assert [json.loads(sample["meta"]) for sample in found] == [{"at": said}, {"at": None}]


def test_a_date_that_is_read_costs_its_row(tmp_path):
    at = pa.array([FAR, 0], pa.timestamp("s"))
    feather.write_feather(pa.table({"q": ["a", "b"], "at": at}), str(tmp_path / "a.arrow"))
    mapping = {"instruction": "{q}", "response": "{at}"}
    source = {"name": "a", "path": str(tmp_path / "a.arrow"), "format": "mapping"}
    run([], tmp_path / "out", sources=[source | {"mapping": mapping}])
    assert responses(tmp_path / "out") == ["1970-01-01 00:00:00"]
    assert [entry["reason"] for entry in quarantine(tmp_path / "out")] == ["not-text"]


def test_a_long_row_of_a_table_goes_to_quarantine_alone(tmp_path):
    answers = ["It is 1.", "y" * (2 << 20), "It is 2."]
    pq.write_table(
        pa.table({"question": ["a", "b", "c"], "answer": answers}), tmp_path / "a.parquet"
    )
    run(tmp_path / "a.parquet", tmp_path / "out", max_row_mb=1)
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert [entry["reason"] for entry in quarantine(tmp_path / "out")] == ["too-long"]


def test_a_table_that_unpacks_without_end_is_refused(tmp_path):
    answers = pa.array(["y" * 1000] * 20_000)
    pq.write_table(pa.table({"question": answers, "answer": answers}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="unpacks to more than"):
        run(tmp_path / "a.parquet", tmp_path / "out", max_expanded_gb=0.01)


def test_numbers_in_a_text_column_of_a_table_say_so(tmp_path):
    pq.write_table(pa.table({"question": ["a"], "answer": [42]}), tmp_path / "a.parquet")
    write_lines(tmp_path / "b.jsonl", [row(1)])
    run([tmp_path / "a.parquet", tmp_path / "b.jsonl"], tmp_path / "out")
    assert quarantine(tmp_path / "out")[0]["reason"] == "not-text"
    assert json.loads(quarantine(tmp_path / "out")[0]["raw"]) == {"question": "a", "answer": 42}


def test_an_unknown_format_names_columns_and_the_way_out(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"frage": "a", "antwort": "b"}])
    with pytest.raises(DataError, match=r"columns are frage, antwort; name `format` or write"):
        run(file, tmp_path / "out")


def test_a_named_format_whose_columns_are_missing_fills_the_quarantine(tmp_path):
    source = {"name": "a", "path": str(write_lines(tmp_path / "a.jsonl", [{"x": 1}]))}
    write_lines(tmp_path / "b.jsonl", [row(1)])
    more = {"name": "b", "path": str(tmp_path / "b.jsonl")}
    run([], tmp_path / "out", sources=[source | {"format": "alpaca"}, more])
    assert quarantine(tmp_path / "out")[0]["reason"] == "missing-column"


def test_missing_and_strange_paths_are_usage_errors(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.docx").write_text("hello")
    for path in ("none.jsonl", "*.none", "loop", "pipe.jsonl", "empty", "note.docx"):
        with pytest.raises(UsageError, match="source") as caught:
            run(tmp_path / path, tmp_path / "out")
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no regular file"):
        run(Path("/dev/zero"), tmp_path / "out")


@pytest.mark.parametrize("name", ["../secret", "/secret", "..", "a/b", ""])
@pytest.mark.parametrize("file", ["state.json", "dataset_dict.json"])
def test_a_saved_dataset_cannot_point_outside_its_folder(tmp_path, file, name):
    (tmp_path / "saved").mkdir()
    named = {"_data_files": [{"filename": name}], "splits": [name]}
    (tmp_path / "saved" / file).write_text(json.dumps(named))
    with pytest.raises(DataError, match=r"saved/.*\.json: '.*' is no plain name"):
        run(tmp_path / "saved", tmp_path / "out")


@pytest.mark.parametrize("named", [{"splits": "train"}, {"splits": [3]}, [], {"splits": [{}]}])
def test_a_saved_dataset_that_is_none_is_one_line(tmp_path, named):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text(json.dumps(named))
    with pytest.raises(DataError, match="not as `save_to_disk` writes it"):
        run(tmp_path / "saved", tmp_path / "out")


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
@pytest.mark.parametrize("file", ["state.json", "dataset_dict.json"])
def test_a_saved_dataset_whose_names_cannot_be_is_one_line(tmp_path, file, name):
    (tmp_path / "saved").mkdir()
    named = {"_data_files": [{"filename": name}], "splits": [name]}
    (tmp_path / "saved" / file).write_text(json.dumps(named))
    with pytest.raises((DataError, UsageError)):
        run(tmp_path / "saved", tmp_path / "out")


LONG = "a" * 300


@pytest.mark.parametrize("path", [LONG, f"{LONG}/b", f"{LONG}*.jsonl", "a\0b", f"{LONG}/" * 20])
def test_a_path_that_cannot_be_is_a_usage_error(tmp_path, path):
    with pytest.raises(UsageError, match=r"ingest: .*(too long|no such)") as caught:
        run(tmp_path / path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):  # relative, it may look like a Hub id
        run([], tmp_path / "out", sources=[{"name": "a", "path": path, "format": "alpaca"}])


def test_the_home_of_nobody_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="source"):
        run([], tmp_path / "out", sources=[{"name": "a", "path": "~nobody-at-all/a.jsonl"}])


@pytest.mark.parametrize("root", ["a" * 300, "~nobody-at-all"])
def test_a_root_that_cannot_be_is_a_usage_error(tmp_path, root):
    with pytest.raises(UsageError, match="ingest: "):
        run([], tmp_path / "out", root=root, sources=[{"name": "a", "path": "a.jsonl"}])


@pytest.mark.parametrize("path", ["", " "])
def test_no_name_is_no_name_of_a_source(tmp_path, path):
    with pytest.raises(UsageError, match="a source is empty"):
        files.sources_from([path])


def test_a_link_to_nothing_is_no_file_wherever_it_lies(tmp_path):
    write_lines(tmp_path / "data" / "a.jsonl", [row(1)])
    (tmp_path / "data" / "b.jsonl").symlink_to(tmp_path / "gone.jsonl")
    for path in ("data", "data/b.jsonl", "data/*.jsonl"):
        with pytest.raises(UsageError, match=r"b\.jsonl is a link to .*gone\.jsonl, which is not"):
            run(tmp_path / path, tmp_path / "out")


def test_a_name_that_is_not_utf_8_is_a_usage_error(tmp_path):
    path = write_lines(tmp_path / "data" / os.fsdecode(b"a\xff.jsonl"), [row(1)])
    for source in (path, path.parent):
        with pytest.raises(UsageError, match="the name is not UTF-8"):
            run(source, tmp_path / "out")
    with pytest.raises(UsageError, match="the name is not UTF-8"):
        run(write_lines(tmp_path / "b.jsonl", [row(1)]), tmp_path / os.fsdecode(b"o\xff"))


CHANGES = {
    "grown": lambda path: path.write_bytes(path.read_bytes() + path.read_bytes()),
    "rewritten": lambda path: path.write_bytes(path.read_bytes().replace(b"It is", b"It as")),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["between", "within"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, monkeypatch, change, when):
    path = write_lines(tmp_path / "a.jsonl", [row(i) for i in range(50)])
    os.utime(path, (1, 1))
    inner = parts._open

    def late(file, *more):
        if when == "between":
            CHANGES[change](path)
            yield from inner(file, *more)
        else:
            rows = inner(file, *more)
            yield next(rows)
            CHANGES[change](path)
            yield from rows

    monkeypatch.setattr(parts, "_open", late)
    with pytest.raises(DataError, match=r"a\.jsonl.*(changed while it was read|No such file)"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_changes_between_its_key_and_its_reading_is_an_error(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", [row(1)])
    inner = stage.parts_of

    def late(files):
        CHANGES["grown"](path)
        return inner(files)

    monkeypatch.setattr(stage, "parts_of", late)
    with pytest.raises(DataError, match="changed while it was read"):
        run(path, tmp_path / "out")


def test_the_corpus_goes_neither_into_a_source_nor_around_one(tmp_path):
    path = write_lines(tmp_path / "data" / "a.jsonl", [row(1)])
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for source in (tmp_path / "data", tmp_path / "link", tmp_path / "**" / "*.jsonl"):
        with pytest.raises(UsageError, match=r"lies (in|where) .*; name a folder"):
            run(source, tmp_path / "data" / "out")
    with pytest.raises(UsageError, match="lies where"):
        run([tmp_path / "data" / "*" / "*" / "*.parquet", path], tmp_path / "data" / "out")
    run(tmp_path / "data" / "*.jsonl", tmp_path / "data" / "out")  # which will not find it
    with pytest.raises(UsageError, match="which would be replaced"):
        run(tmp_path / "data" / "out" / "samples" / "all.parquet", tmp_path / "data" / "out")


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"stage": "index", "digest": "x"}'])
def test_a_folder_of_ours_that_says_no_longer_what_it_is_is_no_raw_data(tmp_path, manifest):
    run(write_lines(tmp_path / "a.jsonl", [row(1)]), tmp_path / "corpus")
    (tmp_path / "corpus" / "manifest.json").write_text(manifest)
    with pytest.raises(UsageError, match=r"corpus.*(is damaged|holds no samples)"):
        run(tmp_path / "corpus", tmp_path / "out")


def test_a_manifest_of_others_is_no_harm(tmp_path):
    write_lines(tmp_path / "data" / "a.jsonl", [row(1)])
    (tmp_path / "data" / "manifest.json").write_text('{"name": "data"}')
    assert run(tmp_path / "data", tmp_path / "out")["rows"]["kept"] == 1


def test_messages_are_no_longer_than_a_reader_reads(tmp_path):
    keys = {f"{number}" * 10_000: "a" for number in range(30)}
    with pytest.raises(DataError, match=r"format not recognised, .* and 18 more; name") as caught:
        run(write_lines(tmp_path / "a.jsonl", [keys]), tmp_path / "out")
    assert len(str(caught.value)) < 2_000
    (tmp_path / "saved").mkdir()
    splits = json.dumps({"splits": [f"split-{number}" for number in range(9_999)]})
    (tmp_path / "saved" / "dataset_dict.json").write_text(splits)
    with pytest.raises(UsageError, match=r"has splits .* and 9,987 more; name one") as caught:
        run(tmp_path / "saved", tmp_path / "out")
    twice = '{"instruction": "a", "output": "b", "%": 1, "%": 2}'.replace("%", "k" * 10_000)
    with pytest.raises(BadRowsError) as caught:
        run(write_lines(tmp_path / "b.jsonl", [twice]), tmp_path / "out", max_bad_fraction=0)
    assert len(str(caught.value)) < 2_000


def test_too_many_bad_rows_stop_with_their_own_exit_code(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [row(1), "broken", row(2)])
    with pytest.raises(BadRowsError, match=r"1 of 3 rows are bad \(33.3%\)") as caught:
        run(file, tmp_path / "out", max_bad_fraction=0.3)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()
    kept = tmp_path / "out.quarantine.jsonl"
    assert str(kept) in str(caught.value)
    assert json.loads(kept.read_text("utf-8"))["raw"] == "broken"
    run(file, tmp_path / "out", max_bad_fraction=0.34)
    assert responses(tmp_path / "out") == NEIGHBOURS
    assert not kept.exists()
