"""Tables of unknown origin: what is whole comes through, what is not ends no process of ours."""

import random
import signal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import isolated
from sft_diversity.core.errors import DataError
from sft_diversity.core.isolated import IsolatedReader

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TABLE = pa.table(
    {
        "text": pa.array([f"naïve {i}" * (i % 5) for i in range(3000)]),
        "kind": pa.array([f"k{i % 4}" for i in range(3000)]).dictionary_encode(),
        "turns": pa.array([[{"role": "user", "content": f"x{i}"}] for i in range(3000)], MESSAGES),
        "none": pa.nulls(3000),
        "map": pa.array([[("a", i)] for i in range(3000)], pa.map_(pa.string(), pa.int64())),
        "pair": pa.array([["a", "b"]] * 3000, pa.list_(pa.string(), 2)),
    }
)  # fmt: skip


def write(path, table=TABLE, stream=False, **options):
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(table)
    return path


def read(path):
    with IsolatedReader("test") as reader:
        kind = path.suffix[1:]
        batches = list(reader.batches(path, kind))
        assert reader.rows(path, kind) == sum(batch.num_rows for batch in batches)
    assert all(batch.num_rows <= 1024 for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.parquet", {"write_page_checksum": True}),
        ("a.arrow", {}),
        ("a.arrow", {"stream": True}),
        ("a.arrow", {"compression": "zstd"}),
    ],
)
def test_what_is_whole_is_read_as_it_is(tmp_path, name, options):
    assert read(write(tmp_path / name, **options)) == TABLE.to_pylist()


def test_texts_come_in_no_view_type(tmp_path):
    frame = pl.DataFrame({"a": ["x" * 20, None], "b": [["y" * 20], []]})
    frame.write_ipc(tmp_path / "a.arrow")
    with IsolatedReader("test") as reader:
        (batch,) = reader.batches(tmp_path / "a.arrow", "arrow")
    assert batch.to_pylist() == frame.to_dicts()
    assert batch.schema.field("a").type == pa.large_string()


@pytest.mark.parametrize("offsets", [[0, 1 << 24, 4], [0, -5, 4], [0, 3, 2, 4]])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_offsets_that_point_elsewhere_are_one_line(tmp_path, offsets, nested, stream):
    raw = pa.array(offsets, pa.int32()).buffers()[1]
    column = pa.Array.from_buffers(
        pa.string(), len(offsets) - 1, [None, raw, pa.py_buffer(b"abcd")]
    )
    if nested:
        column = pa.StructArray.from_arrays([pa.array(range(len(column))), column], ["n", "text"])
    path = write(tmp_path / "a.arrow", pa.table({"a": column}), stream)
    with pytest.raises(
        DataError, match=r"^test: a.arrow cannot be read as arrow: .*; fetch"
    ) as told:
        read(path)
    assert "\n" not in str(told.value)


def test_a_text_that_is_not_utf_8_is_left_to_who_reads_the_row(tmp_path):
    text = pa.array([b"a", b"\xff", b"c"], pa.binary()).view(pa.string())
    turns = pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([text], ["content"]))
    with IsolatedReader("test") as reader:
        path = write(tmp_path / "a.arrow", pa.table({"text": text, "turns": turns}))
        (batch,) = reader.batches(path, "arrow")
    assert [batch.slice(i, 1).to_pylist()[0]["text"] for i in (0, 2)] == ["a", "c"]
    with pytest.raises(UnicodeDecodeError):
        batch.slice(1, 1).to_pylist()


def test_a_column_named_twice_is_one_line(tmp_path):
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(DataError, match="names column 'text' twice"):
        read(write(tmp_path / "a.parquet", table))


def test_a_crash_of_the_decoder_is_one_line_and_the_next_file_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet")
    crash = "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)"
    with IsolatedReader("test") as reader:
        with monkeypatch.context() as patched:
            patched.setattr(isolated, "_PROGRAM", crash)
            for ask in (reader.rows, lambda *file: list(reader.batches(*file))):
                with pytest.raises(DataError, match="has ended") as told:
                    ask(path, "parquet")
                assert signal.SIGSEGV.name in str(told.value)
        assert reader.rows(path, "parquet") == len(TABLE)


def test_a_file_may_be_left_in_the_middle(tmp_path):
    path = write(tmp_path / "a.parquet")
    with IsolatedReader("test") as reader:
        next(reader.batches(path, "parquet"))
        assert sum(batch.num_rows for batch in reader.batches(path, "parquet")) == len(TABLE)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_random_damage_is_one_line_or_rows(tmp_path, name):
    whole, dice = write(tmp_path / name, TABLE.slice(0, 200)).read_bytes(), random.Random(0)
    with IsolatedReader("test") as reader:
        for _ in range(60):
            raw = bytearray(whole)
            for at in dice.choices(range(len(raw)), k=dice.choice([1, 4, 16])):
                raw[at] = dice.randrange(256)
            (tmp_path / name).write_bytes(raw[: dice.choice([len(raw), dice.randrange(len(raw))])])
            try:
                for batch in reader.batches(tmp_path / name, name[2:]):
                    batch.validate()
            except DataError as told:
                assert "\n" not in str(told)  # noqa: PT017  (either is right)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("repeated", [False, True])
def test_batches_of_large_rows_are_of_few_rows(tmp_path, name, repeated):
    """32 MB at a time, whatever a row of the file takes: a batch of 1,024 took 1,024 times as much.

    Also of texts that a dictionary holds once.
    """
    texts = [chr(97 + (0 if repeated else i % 26)) * (1 << 20) for i in range(70)]
    column = pa.array(texts)
    table = pa.table({"text": column.dictionary_encode() if repeated else column})
    path = write(tmp_path / name, table, compression="zstd")
    with IsolatedReader("test") as reader:
        batches = list(reader.batches(path, path.suffix[1:]))
    assert max(batch.nbytes for batch in batches) <= 32 << 20
    assert [text for batch in batches for text in batch["text"].to_pylist()] == texts


@pytest.mark.parametrize("dictionary", [False, True])
def test_large_rows_are_decoded_few_at_once(tmp_path, dictionary):
    """What Parquet says of a group's columns bounds the rows before they are decoded."""
    texts = (
        ["x" * (1 << 20)] * 70 if dictionary else [random.Random(0).randbytes(1 << 19).hex()] * 70
    )
    write(tmp_path / "large.parquet", pa.table({"text": texts}), use_dictionary=dictionary)
    write(tmp_path / "small.parquet", use_dictionary=dictionary)
    large, small = (
        isolated._rows_at_once(pq.read_metadata(tmp_path / f"{size}.parquet").row_group(0))
        for size in ("large", "small")
    )
    assert large <= (512 if dictionary else 32)
    assert small == 1024


def test_where_no_process_can_be_begun_it_is_one_line(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise OSError(24, "Too many open files")

    path = write(tmp_path / "a.parquet")
    monkeypatch.setattr(isolated.subprocess, "Popen", failing)
    with IsolatedReader("test") as reader, pytest.raises(DataError, match="Too many open files"):
        next(reader.batches(path, "parquet"))
