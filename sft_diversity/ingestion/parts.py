"""First pass: every file becomes sorted runs, a quarantine and counts, part by part.

A part is one large file or several small ones of a source. A finished part is never read again: a
stopped run goes on with the next.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import orjson

from sft_diversity.core import messages as messaging
from sft_diversity.core.drafts import Draft
from sft_diversity.core.errors import DataError
from sft_diversity.core.isolated import KINDS, IsolatedReader
from sft_diversity.ingestion import formats, hub, json_rows, mapping, own, streams, tables
from sft_diversity.ingestion.config import IngestConfig, SourceConfig
from sft_diversity.ingestion.files import File, listed
from sft_diversity.ingestion.formats import Reader, Sample, Turn, joined
from sft_diversity.ingestion.rows import (
    RAW_LIMIT,
    BadRow,
    Block,
    Limits,
    Row,
    one_row,
    plain_blocks,
)
from sft_diversity.ingestion.runs import RunRow, RunWriter
from sft_diversity.ingestion.separated import separated_blocks
from sft_diversity.ingestion.text import (
    digest,
    digest_of_normal,
    digests_of_exchanges,
    normal_bytes,
    normal_digests,
    normalise,
)

#: Where what was read lies until it is joined; the number is the form of its rows and keys.
PARTS = ".parts-2"
_PART_BYTES = 4 << 20
_PROBE_ROWS = 100
_EMPTY = b"\0" * 16


@dataclass(frozen=True)
class Part:
    """Some files of one source; `first` is the number of the first among all files."""

    number: int
    first: int
    files: tuple[File, ...]

    @property
    def name(self) -> str:
        """Path of the part's files in the draft, without ending."""
        return f"{PARTS}/{self.number:05d}"

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return sum(file.bytes for file in self.files)


def parts_of(files: list[File]) -> list[Part]:
    """Group files, in order, to parts of some megabytes within a source."""
    parts: list[Part] = []
    group: list[File] = []
    for number, file in enumerate(files):
        full = sum(f.bytes for f in group) + file.bytes > _PART_BYTES
        if group and (full or group[0].source != file.source):
            parts.append(Part(len(parts), number - len(group), tuple(group)))
            group = []
        group.append(file)
    if group:
        parts.append(Part(len(parts), len(files) - len(group), tuple(group)))
    return parts


def read_part(draft: Draft, part: Part, config: IngestConfig) -> dict[str, Any]:
    """Read a part unless that is done; return its counts (`files` and `runs`)."""
    done = f"{part.name}.json"
    counted = _counted(draft, done)
    if counted is None:
        runs = RunWriter(draft, part.name)
        with (
            draft.writing(f"{part.name}.quarantine.jsonl") as path,
            path.open("wb") as bad,
            IsolatedReader("ingest") as isolated,
        ):
            counts = [
                _FileReader(file, part.first + i, config, isolated, runs, bad).read()
                for i, file in enumerate(part.files)
            ]
        runs.flush()
        counted = {"files": counts, "runs": runs.names}
        draft.write_json(done, counted)
    return counted


def _counted(draft: Draft, name: str) -> dict[str, Any] | None:
    """Return the counts of a part that is done and whole, None where it is to be read (again)."""
    try:
        counted: dict[str, Any] = json.loads((draft.path / name).read_text("utf-8"))
        return counted if all(map(draft.has, counted["runs"])) and counted["files"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


class _FileReader:
    """Reads one file; every row ends in a run or in the quarantine."""

    def __init__(
        self,
        file: File,
        number: int,
        config: IngestConfig,
        isolated: IsolatedReader,
        runs: RunWriter,
        bad: BinaryIO,
    ) -> None:
        self._file, self._number, self._runs, self._bad = file, number, runs, bad
        self._isolated = isolated
        self._source = config.sources[file.source]
        self._first_only = config.turns == "first"
        self._unique = config.dedup == "exact"
        self._limits = config.limits
        self._rows = self._quarantined = 0
        self._format: str = self._source.format
        self._reader: Reader | None = _given_reader(self._source)

    def read(self) -> dict[str, Any]:
        """Return the file's counts."""
        waiting: list[Row] = []
        for block in self._blocks():
            if self._reader is None and not waiting and block.values:
                self._recognise(block.values[0])
            if self._reader is not None and block.values is not None:
                self._take_together(block.values, block.rows)
                continue
            for row in block.rows():
                if self._reader is None:
                    waiting.append(row)
                    self._wait(row, waiting)
                else:
                    self._take(row)
        if waiting and self._reader is None:
            self._unknown(waiting)
        return {"format": self._format, "rows": self._rows, "quarantined": self._quarantined}

    def _blocks(self) -> Iterator[Block]:
        """Yield the file's rows; a break in a compressed file ends them or is an error."""
        try:
            with self._file.unchanged():
                yield from _open(self._file, self._source, self._limits, self._isolated)
        except streams.TruncatedFile as fault:
            if not self._limits.keep_truncated:
                raise DataError(
                    f"ingest: {self._file.label} is damaged or cut off ({fault}); fetch it again, "
                    "or set `truncated` to `keep` for the rows before the break"
                ) from None
            yield one_row(Row(None, BadRow("truncated-file", str(fault)), b"", 0))

    def _recognise(self, row: dict[str, Any]) -> None:
        """Take the reader of a row's format, if it shows."""
        if self._format == "auto":
            found = formats.recognised(row)
        else:
            found = self._format, formats.named(self._format, row)
        if found is not None:
            self._format, reader = found
            self._reader = own.known(mapping.replacer(self._source.replace, reader))

    def _wait(self, row: Row, waiting: list[Row]) -> None:
        if isinstance(row.value, dict):
            self._recognise(row.value)
        if self._reader is not None:
            for held in waiting:
                self._take(held)
            waiting.clear()
        elif len(waiting) >= _PROBE_ROWS:
            self._unknown(waiting)

    def _unknown(self, waiting: list[Row]) -> None:
        """No row could be recognised: all are bad, or the format is one we do not know."""
        columns = next((list(row.value) for row in waiting if isinstance(row.value, dict)), None)
        if columns is not None:
            raise DataError(
                f"ingest: {self._file.label}: format not recognised, columns are "
                f"{listed(columns)}; name `format` or write a `mapping` in the "
                f"config (known: {formats.KNOWN_COLUMNS})"
            )
        for row in waiting:
            self._take(row)
        waiting.clear()

    def _take(self, row: Row) -> None:
        number, self._rows = self._rows, self._rows + 1
        if isinstance(row.value, BadRow):
            self._quarantine(number, row, row.value)
        elif verdict := self._read_row(number, row.value):
            self._quarantine(number, row, verdict)

    def _read_row(self, number: int, value: dict[str, Any]) -> BadRow | None:
        """Keep a row's sample, or return why it is none."""
        assert self._reader is not None
        try:
            self._keep(self._reader(value), number)
        except BadRow as verdict:
            return verdict
        except RecursionError:
            return BadRow("too-deep")
        except UnicodeEncodeError:
            return BadRow("lone-surrogate")
        return None

    def _take_together(
        self, values: Sequence[dict[str, Any]], rows: Callable[[], Iterable[Row]]
    ) -> None:
        """Take many rows: those that are mere exchanges by columns, the others one by one.

        What a bad one among them needs besides is looked up when there is one.
        """
        first, self._rows = self._rows, self._rows + len(values)
        taken = self._keep_exchanges(values, first)
        if len(taken) == len(values):
            return
        careful: list[Row] = []
        for number in sorted({*range(len(values))} - {*taken}):
            if verdict := self._read_row(first + number, values[number]):
                careful = careful or list(rows())
                self._quarantine(first + number, careful[number], verdict)

    def _keep_exchanges(self, values: Sequence[dict[str, Any]], first: int) -> Collection[int]:
        """Keep the rows that hold texts alone; return their numbers in the block.

        Each comes to what `_keep` makes of its sample: the same run row, by the same rules.
        """
        exchange = self._reader.exchange if self._reader is not None else None
        if exchange is None:
            return ()
        texts = exchange.texts(values)
        try:
            metas = [b"{}" if more is None else _as_json(more) for more in texts.more]
            tasks, inputs, answers = (list(map(str.encode, column)) for column in texts[1:4])
        except (BadRow, RecursionError, UnicodeEncodeError):
            return ()  # one by one it shows which row it is
        asked = [
            joined(task, given).encode() if given else raw
            for raw, task, given in zip(tasks, texts.instructions, texts.inputs, strict=True)
        ]
        triples = zip(tasks, inputs, answers, strict=True)
        keys, empty = normal_digests([*itertools.chain.from_iterable(triples)], 3)
        places = [first + number for number in texts.rows]
        ids = self._ids_of_exchanges(asked, answers, places)
        nothing = empty[:, 2] | (empty[:, 0] & empty[:, 1])
        for row in np.flatnonzero(nothing).tolist():
            asked[row] = answers[row] = metas[row] = b""  # nobody reads them again
        blank, none = [b""] * len(places), [None] * len(places)
        self._runs.extend(
            [ids, keys, [self._number] * len(places), places, nothing.tolist(), asked, answers,
             metas, none, none, blank, blank, [-1] * len(places)]
        )  # fmt: skip
        return texts.rows

    def _ids_of_exchanges(
        self, asked: list[bytes], answers: list[bytes], places: list[int]
    ) -> list[bytes]:
        if self._unique:
            return digests_of_exchanges(asked, answers)
        return [
            digest([b"user", one, b"assistant", other, *self._place(place)])
            for one, other, place in zip(asked, answers, places, strict=True)
        ]

    def _place(self, number: int) -> Iterator[bytes]:
        """Yield what tells equal samples apart that are not to be one."""
        return (name.encode() for name in (self._source.name, self._file.label, str(number)))

    def _keep(self, sample: Sample, number: int) -> None:
        turns = sample.turns
        if self._first_only and len(turns) != 2:
            turns = _first_exchange(sample)
        tools = sample.tools
        if self._first_only and not any(turn.tool_calls for turn in turns):
            tools = None  # they stay in `meta`: nothing of what called them is left
        structured = tools is not None or any(any(turn[2:]) for turn in turns)
        if (
            len(turns) == 2
            and turns[0].speaker == "user"
            and turns[1].speaker == "assistant"
            and not structured
        ):
            instruction, response = turns[0].said, turns[1].said
            asked, answered = instruction.encode(), response.encode()
            texts = [b"user", asked, b"assistant", answered]
            key = _key_of_exchange(instruction, asked, response, answered, sample.task)
            messages = None
        else:
            messages = [turn.message for turn in turns]
            asked, answered = (
                messaging.component_text(messages, component).encode()
                for component in ("instruction", "response")
            )
            texts = [text.encode() for text in messaging.id_texts(messages, tools)]
            key = _key_of_turns(turns)
        place = self._number, number
        if key is None:
            self._runs.add(RunRow(_EMPTY, _EMPTY, *place, True, b"", b"", b"", []))
            return
        if not self._unique:  # equal samples stay, so what tells them apart is their place
            texts += self._place(number)
        held = sample.meta if tools is None else formats.without_tools(sample.meta)
        meta = _as_json(held) if held else b"{}"
        called = None if tools is None else tools.encode()
        run = RunRow(digest(texts), key, *place, False, asked, answered, meta, messages, called)
        was = sample.origin
        if was is not None:
            file = was.file.encode()
            run = run._replace(source=was.source.encode(), source_file=file, source_row=was.row)
            if turns is sample.turns:  # settled before: only itself is its twin
                run = run._replace(id=was.id, key=was.id)
        self._runs.add(run)

    def _quarantine(self, number: int, row: Row, verdict: BadRow) -> None:
        self._quarantined += 1
        raw, size = row.raw, row.size
        if not raw and isinstance(row.value, dict):
            raw, size = tables.as_text(row.value)
        entry = {
            "source": self._source.name,
            "file": self._file.label,
            "row": number,
            "byte_offset": row.offset,
            "reason": verdict.reason,
            "detail": verdict.detail,
            "raw": raw[:RAW_LIMIT].decode("utf-8", "backslashreplace"),
            "raw_bytes": size,
        }
        self._bad.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))


def _given_reader(source: SourceConfig) -> Reader | None:
    if source.mapping is None:
        return None
    inner = mapping.replacer(source.replace, mapping.reader(source.mapping))
    return Reader(lambda row: formats.opened_up(inner(row)), inner.exchange)


def _open(
    file: File, source: SourceConfig, limits: Limits, isolated: IsolatedReader
) -> Iterator[Block]:
    if file.kind == "hub":
        wanted = hub.address(file.label)
        split = wanted.split or source.split or "train"
        return plain_blocks(hub.hub_rows(wanted.name, wanted.revision, split, wanted.config))
    if file.kind in KINDS:
        return tables.columnar_blocks(isolated, file.path, file.kind, limits)
    chunks = streams.chunks(file.path, limits)
    if file.kind == "json":
        return json_rows.blocks(chunks, limits.row_bytes)
    delimiter = source.table.delimiter or {"csv": ",", "tsv": "\t"}[file.kind]
    return separated_blocks(chunks, source.table, delimiter, limits.row_bytes, file.label)


def _first_exchange(sample: Sample) -> list[Turn]:
    """Return the system turn, if any, and one user turn with the answer directly after it.

    Of rows with instruction and output that is the last exchange (what came before is history), of
    dialogues the first; nothing where no answer follows a user turn directly.
    """
    turns = sample.turns
    system = [turn for turn in turns[:1] if turn.speaker == "system"]
    if sample.task is not None:
        return system + turns[-2:]
    for one, other in itertools.pairwise(turns):
        if one.speaker == "user" and other.speaker == "assistant" and not other.tool_calls:
            return [*system, one, other]
    return []


def _key_of_exchange(
    instruction: str, asked: bytes, response: str, answered: bytes, task: tuple[str, str] | None
) -> bytes | None:
    """Return the key that equal exchanges share; None where task or answer is empty.

    Equal are those whose instruction, input and response are, each normalised. The bytes are the
    texts in UTF-8, which the caller has at hand.
    """
    given = b""
    if task is not None and task[1]:
        instruction, asked = task[0], task[0].encode()
        given = normal_bytes(task[1], task[1].encode())
    task_text = normal_bytes(instruction, asked)
    answer = normal_bytes(response, answered)
    if not answer or not (task_text or given):
        return None
    return digest_of_normal((task_text, given, answer))


def _key_of_turns(turns: list[Turn]) -> bytes | None:
    """Return the key that dialogues with equal normalised turns share; None as above.

    Of calls, names and arguments count and the numbers that tell them apart do not; nor do tools.
    """
    texts = [(turn.speaker, normalise(turn.said).encode()) for turn in turns]
    more = [
        (f"{number}.{field}".encode(), normalise(said).encode())
        for number, turn in enumerate(turns)
        for field in ("thinking", "tool-call")
        if any(turn[2:])
        for said in (messaging.component_text([turn.message], field),)
        if said
    ]
    if not any(said for speaker, said in texts if speaker == "user"):
        return None
    if not more and not any(said for speaker, said in texts if speaker in ("assistant", "call")):
        return None
    parts = [part for who, said in texts for part in (who.encode(), said)]
    parts += [part for pair in more for part in pair]
    return digest_of_normal(parts)


def _as_json(meta: dict[str, Any]) -> bytes:
    try:
        return tables.as_json(meta, orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError as fault:
        raise BadRow("too-deep", str(fault)[:200]) from None
