"""First pass: every file becomes sorted runs, a quarantine and counts, part by part.

A part is one large file or several small ones of a source. A finished part is never read again: a
stopped run goes on with the next.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from sft_diversity.core import messages as messaging
from sft_diversity.core.drafts import Draft
from sft_diversity.core.errors import DataError
from sft_diversity.core.isolated import KINDS, IsolatedReader
from sft_diversity.ingestion import formats, hub, json_rows, mapping, own, streams, tables
from sft_diversity.ingestion.config import IngestConfig, SourceConfig
from sft_diversity.ingestion.files import File, listed
from sft_diversity.ingestion.formats import Reader, Sample, Turn
from sft_diversity.ingestion.rows import RAW_LIMIT, BadRow, Limits, Row
from sft_diversity.ingestion.runs import RunRow, RunWriter
from sft_diversity.ingestion.separated import separated_rows
from sft_diversity.ingestion.text import digest, digest_of_normal, normal_bytes, normalise

PARTS = ".parts"
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
        for row in self._all_rows():
            if self._reader is None:
                waiting.append(row)
                self._recognise(row, waiting)
            else:
                self._take(row)
        if waiting and self._reader is None:
            self._unknown(waiting)
        return {"format": self._format, "rows": self._rows, "quarantined": self._quarantined}

    def _all_rows(self) -> Iterator[Row]:
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
            yield Row(None, BadRow("truncated-file", str(fault)), b"", 0)

    def _recognise(self, row: Row, waiting: list[Row]) -> None:
        if isinstance(row.value, dict):
            if self._format == "auto":
                found = formats.recognised(row.value)
            else:
                found = self._format, formats.named(self._format, row.value)
            if found is not None:
                self._format, reader = found
                self._reader = own.known(mapping.replacer(self._source.replace, reader))
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
        self._rows += 1
        try:
            if isinstance(row.value, BadRow):
                raise row.value
            assert self._reader is not None
            self._keep(self._reader(row.value), row)
        except BadRow as verdict:
            self._quarantine(row, verdict)
        except RecursionError:
            self._quarantine(row, BadRow("too-deep"))
        except UnicodeEncodeError:
            self._quarantine(row, BadRow("lone-surrogate"))

    def _keep(self, sample: Sample, row: Row) -> None:
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
        place = self._number, self._rows - 1
        if key is None:
            self._runs.add(RunRow(_EMPTY, _EMPTY, *place, True, b"", b"", b"", []))
            return
        if not self._unique:  # equal samples stay, so what tells them apart is their place
            where = self._source.name, self._file.label, str(self._rows - 1)
            texts += [name.encode() for name in where]
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

    def _quarantine(self, row: Row, verdict: BadRow) -> None:
        self._quarantined += 1
        raw, size = row.raw, row.size
        if not raw and isinstance(row.value, dict):
            raw, size = tables.as_text(row.value)
        entry = {
            "source": self._source.name,
            "file": self._file.label,
            "row": self._rows - 1,
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
    return lambda row: formats.opened_up(inner(row))


def _open(
    file: File, source: SourceConfig, limits: Limits, isolated: IsolatedReader
) -> Iterator[Row]:
    if file.kind == "hub":
        wanted = hub.address(file.label)
        split = wanted.split or source.split or "train"
        return hub.hub_rows(wanted.name, wanted.revision, split, wanted.config)
    if file.kind in KINDS:
        return tables.columnar_rows(isolated, file.path, file.kind, limits)
    blocks = streams.chunks(file.path, limits)
    if file.kind == "json":
        return json_rows.rows(blocks, limits.row_bytes)
    delimiter = source.table.delimiter or {"csv": ",", "tsv": "\t"}[file.kind]
    return separated_rows(blocks, source.table, delimiter, limits.row_bytes, file.label)


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
