"""Evaluation files: their rows' prompts and references, found by known names or named paths."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from sft_diversity.cleaning.config import EvalFile
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import file_sha256
from sft_diversity.core.isolated import IsolatedReader

Role = Literal["prompt", "reference"]
_MOST_BYTES = 4 << 30
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
_PACKED = (".gz", ".zst")
#: Keys under which evaluation sets keep what is asked and what is answered.
_PROMPTS = {
    "instruction", "instructions", "prompt", "prompts", "question", "query", "problem", "input",
    "context", "goal", "ctx", "turns", "user", "human", "text", "passage", "premise", "sentence",
}  # fmt: skip
_REFERENCES = {
    "output", "response", "answer", "answers", "completion", "reference", "references", "target",
    "targets", "solution", "canonical_solution", "choices", "endings", "assistant", "gpt", "label",
}  # fmt: skip
_SPEAKERS, _SAID = ("role", "from"), ("content", "value")


class EvalText(NamedTuple):
    """One text of an evaluation set and where it stands; rows count from 0."""

    file: str
    row: int
    field: str
    role: Role
    text: str


class Opened(NamedTuple):
    """One evaluation file: its label, its content and its texts."""

    label: str
    sha256: str
    prompts: list[str]  # paths that the config names
    references: list[str]
    rows: int
    texts: list[EvalText]


def open_all(against: Sequence[EvalFile | str]) -> list[Opened]:
    """Return the evaluation files of a config, folders unfolded, in order of their labels.

    Raises
    ------
    UsageError
        If a file is not there, or no text is found in it.
    DataError
        If a file cannot be read.
    """
    asked = []
    for one in against:
        entry = EvalFile(path=one) if isinstance(one, str) else one
        asked += [(path, entry) for path in _files(Path(entry.path).expanduser())]
    names = [path.name for path, _ in asked]
    opened = []
    for path, entry in asked:
        label = path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}"
        opened.append(_open(path, label, entry))
    return sorted(opened)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if _kind(p) in _SUFFIXES and p.is_file())
        if not found:
            raise UsageError(f"clean: {path} holds no file of {', '.join(_SUFFIXES)} to compare")
        return found
    if not path.is_file():
        raise UsageError(f"clean: {path} is not there; name an evaluation file with --against")
    if _kind(path) not in _SUFFIXES:
        raise UsageError(f"clean: {path.name} is none of {', '.join(_SUFFIXES)} (.gz, .zst)")
    return [path]


def _kind(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in _PACKED else path.suffix


def _open(path: Path, label: str, entry: EvalFile) -> Opened:
    rows = _parquet(path) if path.suffix == ".parquet" else _json(path)
    texts = []
    for number, row in enumerate(rows):
        found = _named(row, entry) if entry.prompts or entry.references else _known(row, "", None)
        texts += [EvalText(label, number, *one) for one in _joined(found)]
    if not texts:
        keys = sorted(rows[0]) if rows and isinstance(rows[0], dict) else []
        raise UsageError(
            f"clean: {label}: no prompt or reference found; its keys are {keys}; name them with "
            "`prompts` and `references` in a config"
        )
    sha256 = file_sha256(path)
    return Opened(label, sha256, entry.prompts, entry.references, len(rows), texts)


def _joined(found: Iterable[tuple[str, Role, str]]) -> Iterator[tuple[str, Role, str]]:
    """Join what one object says in one role (an instruction and its input); list items stay apart.

    Apart, an instruction that a thousand rows share would be a text of its own.
    """
    together: dict[tuple[str, Role], list[tuple[str, str]]] = {}
    for field, role, text in found:
        above, _, key = field.rpartition(".")
        if text.strip():
            together.setdefault((field if key.isdigit() else above, role), []).append((field, text))
    for (_, role), parts in together.items():
        yield "+".join(field for field, _ in parts), role, "\n\n".join(text for _, text in parts)


def _parquet(path: Path) -> list[Any]:
    try:
        with IsolatedReader("clean") as tables:
            return [row for batch in tables.batches(path, "parquet") for row in batch.to_pylist()]
    except (ValueError, LookupError, OverflowError) as fault:  # of a value, of a time zone
        raise DataError(f"clean: {path.name}: a value is none: {fault}") from None


def _json(path: Path) -> list[Any]:
    import zstandard

    try:
        raw = _unpacked(path)
        if raw.lstrip()[:1] == b"[":
            return list(orjson.loads(raw))
        return [orjson.loads(line) for line in raw.split(b"\n") if line.strip()]
    except (OSError, EOFError, ValueError, zstandard.ZstdError) as fault:
        raise DataError(f"clean: {path.name}: no JSON list or JSON lines: {fault}") from None


def _unpacked(path: Path) -> bytes:
    import zstandard

    with path.open("rb") as handle:
        stream: Any = handle
        if path.suffix == ".gz":
            stream = gzip.GzipFile(fileobj=handle)
        elif path.suffix == ".zst":
            frames = zstandard.ZstdDecompressor().stream_reader(handle, read_across_frames=True)
            stream = io.BufferedReader(frames)
        raw: bytes = stream.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise DataError(f"clean: {path.name}: over {_MOST_BYTES >> 30} GB unpacked; split it")
    return raw.removeprefix(b"\xef\xbb\xbf")


def _named(row: Any, entry: EvalFile) -> Iterator[tuple[str, Role, str]]:
    roles: tuple[tuple[Role, list[str]], ...] = (
        ("prompt", entry.prompts),
        ("reference", entry.references),
    )
    for role, paths in roles:
        for path in paths:
            yield from ((field, role, text) for field, text in _leaves(_at(row, path), path))


def _at(row: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(row, list) and step.isdigit() and int(step) < len(row):
            row = row[int(step)]
        else:
            row = row.get(step) if isinstance(row, dict) else None
    return row


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}")


def _known(value: Any, path: str, role: Role | None) -> Iterator[tuple[str, Role, str]]:
    """Yield the texts under keys of known names; an answer stays one however deep it lies."""
    if isinstance(value, str):
        if role is not None:
            yield path, role, value
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _known(inner, f"{path}.{number}", role)
    elif isinstance(value, dict):
        speaker = next((str(value[k]).lower() for k in _SPEAKERS if k in value), None)
        for key, inner in value.items():
            name = speaker if speaker is not None and key in _SAID else key.lower()
            below = "reference" if role == "reference" or name in _REFERENCES else role
            if below is None and name in _PROMPTS:
                below = "prompt"
            yield from _known(inner, f"{path}.{key}" if path else key, below)
