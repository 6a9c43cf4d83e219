"""Arrow and Parquet files of unknown origin, read in a process apart.

The native readers trust what a file says of itself further than is good: a damaged one can end the
process that decodes it. So another process decodes and validates, and sends what is whole; where
that one ends, the file is damaged, and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core.errors import DataError

KINDS = ("parquet", "arrow")
_PROGRAM = "from sft_diversity.core.isolated import serve; serve()"
_ROWS = 1024  # of a batch
_BATCH_BYTES = 32 << 20  # of a batch, but of one row that is larger
_REPEATED_BYTES = 512 << 20  # what a batch may take where each row repeats a long text
_PATIENCE_S = 10  # with a process whose end of the pipe has closed


class IsolatedReader:
    """Reads tables through a process that is started for the first of them.

    Use it in a `with` statement; files are read one after the other. `stage` is named in errors.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stop()

    def batches(self, path: Path, kind: str) -> Iterator[pa.RecordBatch]:
        """Yield a file's rows, valid but for texts that are not UTF-8.

        A batch has up to 1,024 rows and, but of a single row, 32 MB.

        An Arrow file may be an IPC file or an IPC stream. Texts come in no view type and with no
        dictionary.

        Raises
        ------
        DataError
            If the file is not what its name says, is damaged, or names a column twice; such files
            have no rows to save.
        """
        try:
            answer = self._asked("batches", path, kind)
            with pa.ipc.open_stream(answer) as stream:
                yield from stream
            self._told(path, kind)
        except (OSError, EOFError, pa.ArrowException):
            raise self._ended(path, kind) from None
        except GeneratorExit:
            self._stop()  # what was not taken still lies in the pipe
            raise

    def rows(self, path: Path, kind: str) -> int:
        """Return the rows of a file; errors as above."""
        try:
            self._asked("rows", path, kind)
            return int(self._told(path, kind)["rows"])
        except (OSError, EOFError):
            raise self._ended(path, kind) from None

    def _asked(self, what: str, path: Path, kind: str) -> BinaryIO:
        """Ask for a file; return the pipe behind a first answer that is no fault."""
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # a signal to the terminal's group is the caller's
                )
            except OSError as fault:  # of the machine, not of the file
                raise DataError(
                    f"{self._stage}: no process can be begun to read {path.name} in: "
                    f"{fault.strerror}; end others, or raise `ulimit -n`"
                ) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, os.fsdecode(path), kind]).encode() + b"\n")
        self._process.stdin.flush()
        if what == "batches":
            self._told(path, kind)
        return self._process.stdout  # type: ignore[return-value]

    def _told(self, path: Path, kind: str) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        if fault := answer.get("fault"):
            raise self._unreadable(path, kind, fault)
        return answer

    def _ended(self, path: Path, kind: str) -> DataError:
        """Return what is to be said of a file behind which the other process has ended."""
        assert self._process is not None
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:  # what it says is no answer
            code = -signal.SIGKILL
        self._stop()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self._unreadable(path, kind, f"the process that decoded it has ended ({how})")

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _unreadable(self, path: Path, kind: str, reason: str) -> DataError:
        reason = " ".join(reason.split())[:200].replace(str(path), path.name)
        return DataError(
            f"{self._stage}: {path.name} cannot be read as {kind}: {reason}; fetch or write it "
            "again"
        )


def serve() -> None:
    """Answer on stdout what is asked on stdin, a line each, until that closes.

    Of rows: a line. Of batches: a line, an IPC stream, a line; the first or last with the fault.
    """
    answers = sys.stdout.buffer
    with contextlib.suppress(ImportError):  # no such thing on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        what, name, kind = json.loads(line)
        try:
            answer: dict[str, Any] = {}
            if what == "rows":
                answer["rows"] = _count(name, kind)
            else:
                _send(name, kind, answers)
        except BrokenPipeError:
            return
        except Exception as fault:  # whatever it is, it is the file's
            answer = {"fault": f"{fault}" or type(fault).__name__}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _count(name: str, kind: str) -> int:
    if kind == "parquet":
        return int(pq.read_metadata(name).num_rows)
    return sum(batch.num_rows for batch in _opened(name, kind)[1])


def _send(name: str, kind: str, answers: BinaryIO) -> None:
    schema, batches = _opened(name, kind)
    twice = [column for column, number in Counter(schema.names).items() if number > 1]
    if twice:
        raise ValueError(f"it names column {twice[0][:80]!r} twice")
    sent = pa.schema([field.with_type(_mapped(field.type, _without_views)) for field in schema])
    answers.write(b"{}\n")
    with pa.ipc.new_stream(answers, sent) as stream:
        for batch in batches:
            _check(batch)
            for part in _cast(batch, sent):
                for piece in _pieces(part):
                    stream.write_batch(piece)


def _cast(batch: pa.RecordBatch, sent: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield a batch in types without dictionaries: a row may then repeat all that one holds."""
    if sent.equals(batch.schema):
        yield batch
        return
    rows = min(max(_REPEATED_BYTES // max(batch.nbytes, 1), 1), _ROWS)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows).cast(sent)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    start = 0
    while start < batch.num_rows:
        piece = batch.slice(start, _ROWS)
        while piece.num_rows > 1 and piece.nbytes > _BATCH_BYTES:
            piece = piece.slice(0, piece.num_rows // 2)
        yield piece
        start += piece.num_rows


def _opened(name: str, kind: str) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Return the schema and the batches of a file; nothing is mapped: it may change meanwhile."""
    if kind == "parquet":
        table = pq.ParquetFile(name, page_checksum_verification=True)
        return table.schema_arrow, _parquet_batches(table)
    source = pa.OSFile(name)
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    if not is_file:
        stream = pa.ipc.open_stream(source)
        return stream.schema, stream
    file = pa.ipc.open_file(source)
    return file.schema, map(file.get_batch, range(file.num_record_batches))


def _parquet_batches(table: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    for number in range(table.num_row_groups):
        rows = _rows_at_once(table.metadata.row_group(number))
        yield from table.iter_batches(batch_size=rows, row_groups=[number])


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    """Return how many rows of a group are decoded at once, by what its metadata says of them.

    Each row may repeat the longest text of a dictionary, whose size is not said: it is taken from
    that of its page as stored and from how far the column's pages are compressed.
    """
    row = repeated = 0
    for number in range(group.num_columns):
        column = group.column(number)
        row += column.total_uncompressed_size // max(group.num_rows, 1)
        if column.has_dictionary_page:
            stored = max(column.data_page_offset - (column.dictionary_page_offset or 0), 0)
            larger = column.total_uncompressed_size / max(column.total_compressed_size, 1)
            repeated += int(stored * larger)
    most = min(_BATCH_BYTES // max(row, 1), _REPEATED_BYTES // max(repeated, 1), _ROWS)
    return max(most, 1)


def _check(batch: pa.RecordBatch) -> None:
    """Look at every offset, index and length; whether a text is UTF-8 or a day ends is no matter.

    The full validation says of the first thing that is wrong only, so what it may say of values is
    taken from it by looking at their bytes.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        for column in batch.columns:
            column.view(_mapped(column.type, _stored)).validate(full=True)


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return the type of the bytes behind a type whose values can be wrong."""
    if pa.types.is_decimal(kind):
        return pa.binary(kind.byte_width)
    if pa.types.is_time(kind) or pa.types.is_date64(kind):
        return pa.int64() if kind.bit_width == 64 else pa.int32()
    return _BYTES.get(kind, kind)


_BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


def _without_views(kind: pa.DataType) -> pa.DataType:
    """Return a type whose slices hold no text but their own."""
    return _NO_VIEWS.get(kind, kind)


_NO_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def _mapped(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return a type with its leaves exchanged; without views there are no dictionaries either."""
    types = pa.types
    if types.is_dictionary(kind):
        value = _mapped(kind.value_type, leaf)
        plain = leaf is _without_views
        return value if plain else pa.dictionary(kind.index_type, value, kind.ordered)
    if types.is_struct(kind):
        return pa.struct([field.with_type(_mapped(field.type, leaf)) for field in kind])
    if types.is_map(kind):
        key, item = (_mapped(inner, leaf) for inner in (kind.key_type, kind.item_type))
        return kind if (key, item) == (kind.key_type, kind.item_type) else pa.map_(key, item)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = kind.value_field.with_type(_mapped(kind.value_type, leaf))
        if types.is_fixed_size_list(kind):
            return pa.list_(item, kind.list_size)
        return pa.list_(item) if types.is_list(kind) else pa.large_list(item)
    return leaf(kind)
