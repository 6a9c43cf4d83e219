"""From a source's path to the files it means, each with a label that is the same everywhere."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from sft_diversity.core.corpus import MAKERS
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import stage_of
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.hub import PREFIX
from sft_diversity.core.isolated import KINDS, IsolatedReader
from sft_diversity.ingestion import hub, streams
from sft_diversity.ingestion.config import IngestConfig, SourceConfig
from sft_diversity.ingestion.rows import Limits

_KINDS = {
    ".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
_PACKED = (".gz", ".zst", ".zstd")
#: Where a folder of ours has its rows.
_ROWS = {"export": "data", "select": "samples"} | dict.fromkeys(MAKERS, "samples")
_WILD = re.compile(r"[*?\[]")
_OTHER_SPLIT = re.compile(r"(^|[-_./])(test|validation|valid|val|dev|eval)([-_.0-9]|$)")


@dataclass(frozen=True)
class File:
    """One file of a source. `label` goes into samples and manifests; `path` never does."""

    source: int
    label: str
    path: Path
    kind: str
    bytes: int
    revision: str | None = None  # of a Hub data set, whose name `path` then is

    def sha256(self) -> str:
        """Return the SHA-256 of the file as it is, packed or not; for a Hub id its commit."""
        if self.kind == "hub":
            return str(self.revision)
        try:
            return file_key(self.path)
        except OSError as fault:
            raise DataError(f"ingest: {self.path}: {fault.strerror or fault}") from None


def sources_from(paths: list[str], format: str = "auto") -> list[SourceConfig]:
    """Return a source for each path, named by its stem; names that clash get a number."""
    made: list[SourceConfig] = []
    taken: set[str] = set()
    for path in paths:
        hub_id = hub_id_of(path, None)
        stem = hub_id.partition("@")[0] if hub_id else stem_of(path)
        name = re.sub(r"[^\w.+-]", "_", stem).lstrip("_.+-")[:90] or "source"
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique)
        made.append(SourceConfig.model_validate({"name": unique, "path": path, "format": format}))
    return made


def stem_of(path: str) -> str:
    """Return a path's last name without the endings of packing and of file kind."""
    name = Path(path).name or Path(path).resolve().name
    for endings in (_PACKED, tuple(_KINDS)):
        suffix = Path(name).suffix.lower()
        if suffix in endings:
            name = name[: -len(suffix)]
    return name


def kind_of(path: Path) -> str | None:
    """Return what kind of file this is by its name, None if the name does not tell."""
    name = Path(path.name.lower())
    if name.suffix in _PACKED:
        name = name.with_suffix("")
    if name.suffix in _KINDS:
        return _KINDS[name.suffix]
    return None


def files_of(config: IngestConfig, number: int) -> list[File]:
    """Return the files of a source, ordered by label.

    Raises
    ------
    UsageError
        If there are none, or one is no regular file or of no known kind.
    """
    source = config.sources[number]
    if hub_id := hub_id_of(source.path, config.root):
        wanted = hub.address(hub_id)
        commit = hub.commit_of(wanted)
        return [File(number, wanted.at(commit), Path(wanted.name), "hub", 0, commit)]
    root = Path(config.root) if config.root is not None else None
    named = Path(source.path).expanduser()
    full = root / named if root is not None and not named.is_absolute() else named
    try:
        paths, base = _expanded(full, source)
        if root is not None and not named.is_absolute():
            base = root
        return [_file(number, path, base, source) for path in paths]
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise UsageError(f"ingest: source {source.name}: {full}: {reason}") from None


def public_path(config: IngestConfig, number: int, files: list[File]) -> str:
    """Return a source's path as another may write it: from the folder that its labels start from.

    Of a Hub source it has the commit.
    """
    source = config.sources[number]
    if files and files[0].kind == "hub":
        return PREFIX + files[0].label
    named = Path(source.path).expanduser()
    if config.root is not None and not named.is_absolute():
        return source.path
    wild = next((i for i, part in enumerate(named.parts) if _WILD.search(part)), None)
    if wild is None or named.exists():
        return named.name or named.resolve().name
    return str(Path(*named.parts[wild:]))


def hub_id_of(path: str, root: str | None) -> str | None:
    """Return what follows `hub:` if a path means the Hub: says so, or could mean nothing here."""
    if path.startswith(PREFIX):
        return path.removeprefix(PREFIX)
    looks_so = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?", path) is not None
    if not looks_so or kind_of(Path(path)) is not None or (Path(root or ".") / path).exists():
        return None
    return None if (Path(root or ".") / path).parent.exists() else path


def _file(number: int, path: Path, base: Path, source: SourceConfig) -> File:
    if not path.is_file():
        raise UsageError(f"ingest: source {source.name}: {path} is not a regular file")
    kind = kind_of(path) or _sniffed(path)
    if kind is None:
        raise UsageError(
            f"ingest: source {source.name}: {path}: unknown kind of file; "
            f"known endings: {', '.join(_KINDS)}, each also with .gz or .zst where it is text"
        )
    label = path.relative_to(base).as_posix()
    return File(number, label, path, kind, path.stat().st_size)


def _sniffed(path: Path) -> str | None:
    start = streams.head(path, 4096).lstrip()
    if start[:4] == b"PAR1":
        return "parquet"
    if start[:6] == b"ARROW1":
        return "arrow"
    return "json" if start[:1] in (b"{", b"[") else None


def _expanded(full: Path, source: SourceConfig) -> tuple[list[Path], Path]:
    """Return the files that a path, folder or glob means, and the folder labels start from."""
    where = f"ingest: source {source.name}: {full}"
    if full.is_dir():
        return _folder(full, source), full.parent
    if full.exists() or full.is_symlink():
        return [full], full.parent
    if not _WILD.search(source.path):
        raise UsageError(f"{where}: no such file or folder")
    parts = full.parts
    fixed = next(i for i, part in enumerate(parts) if _WILD.search(part))
    base = Path(*parts[:fixed]) if fixed else Path()
    found = sorted(p for p in base.glob(str(Path(*parts[fixed:]))) if not p.is_dir())
    if not found:
        raise UsageError(f"{where}: no file matches")
    return found, base


def _folder(folder: Path, source: SourceConfig) -> list[Path]:
    where = f"ingest: source {source.name}: {folder}"
    if (folder / "dataset_dict.json").is_file():
        splits = _strings(folder / "dataset_dict.json", "splits")
        split = source.split or ("train" if "train" in splits else None)
        split = split or (splits[0] if len(splits) == 1 else None)
        if split not in splits:
            raise UsageError(f"{where}: has splits {', '.join(splits)}; name one with `split`")
        return _saved(folder / str(split), where)
    if (folder / "state.json").is_file():
        return _saved(folder, where)
    ours = _ROWS.get(stage_of(folder) or "")
    folder = folder / ours if ours else folder  # what lies beside is about the rows, not rows
    found = sorted(
        path
        for path in folder.rglob("*")
        if kind_of(path) is not None
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.name not in ("dataset_infos.json", "dataset_info.json", "manifest.json")
    )
    if source.split is None:
        found = [p for p in found if not _OTHER_SPLIT.search(p.relative_to(folder).as_posix())]
    else:
        of_split = re.compile(rf"(^|[-_./]){re.escape(source.split)}([-_.0-9/]|$)")
        found = [p for p in found if of_split.search(p.relative_to(folder).as_posix())]
    if not found:
        raise UsageError(f"{where}: no data file of split `{source.split or 'train'}` in it")
    return found


def _saved(folder: Path, where: str) -> list[Path]:
    """Return the Arrow files of a folder that `Dataset.save_to_disk` wrote."""
    names = _strings(folder / "state.json", "_data_files", "filename")
    if any(Path(name).name != name or name in ("", "..") for name in names):
        raise DataError(f"{where}: state.json names a file outside the folder")
    if not names:
        raise DataError(f"{where}: state.json names no data file")
    return [folder / name for name in names]


def _strings(path: Path, key: str, inner: str | None = None) -> list[str]:
    try:
        found = json.loads(path.read_text("utf-8"))[key]
        return [str(item[inner]) if inner else str(item) for item in found]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"ingest: {path}: not as `save_to_disk` writes it") from None


def most_rows(file: File, enough: int, limits: Limits, isolated: IsolatedReader) -> int:
    """Return how many rows a file can have at most, counted no further than `enough`.

    A row of JSON has a brace and one of CSV a line; rows of Parquet and Arrow are counted, those
    on the Hub are not. A file that cannot be read is left to the reading of it: `enough`.

    Notes
    -----
    Time is one unpacking of the file, at most.
    """
    try:
        if file.kind in KINDS:
            return isolated.rows(file.path, file.kind)
        if file.kind == "hub":
            return enough
        marks = (b"{",) if file.kind == "json" else (b"\n", b"\r")
        rows = 0 if file.kind == "json" else 1
        for chunk in streams.chunks(file.path, limits):
            rows += sum(chunk.count(mark) for mark in marks)
            if rows >= enough:
                break
        return rows
    except (OSError, DataError, streams.TruncatedFile):
        return enough


def key_of(files: list[File], digests: list[str]) -> str:
    """Return one content key for a source's files: their labels and bytes."""
    return content_key([[f.label, d] for f, d in zip(files, digests, strict=True)])
