"""From a source's path to the files it means, each with a label that is the same everywhere."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_diversity.core import urls
from sft_diversity.core.corpus import MAKERS
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import MANIFEST, is_damaged, stage_of
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.hub import PREFIX
from sft_diversity.core.isolated import KINDS, IsolatedReader
from sft_diversity.ingestion import hub, streams
from sft_diversity.ingestion.config import IngestConfig, SourceConfig
from sft_diversity.ingestion.fetched import Fetcher
from sft_diversity.ingestion.rows import Limits

_KINDS = {
    ".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
_PACKED = (".gz", ".zst", ".zstd")
#: Where a folder of ours has its rows.
_ROWS = {"export": "data", "select": "samples"} | dict.fromkeys(MAKERS, "samples")
_SPLITS, _STATE = "dataset_dict.json", "state.json"  # as `save_to_disk` names them
_WILD = re.compile(r"[*?\[]")
_OTHER_SPLIT = re.compile(r"(^|[-_./])(test|validation|valid|val|dev|eval)([-_.0-9]|$)")

#: The kind of a file that is still to be fetched.
REMOTE = "remote"


@dataclass(frozen=True)
class File:
    """One file of a source. `label` goes into samples and manifests; `path` never does.

    A file behind a URL is read from its copy; `kind` is `remote` as long as there is none.
    """

    source: int
    label: str
    path: Path
    kind: str
    bytes: int
    changed: int = 0  # when it last did, in nanoseconds
    revision: str | None = None  # of a Hub data set, whose name `path` then is

    def sha256(self) -> str | None:
        """Return the SHA-256 of the file as it is, packed or not; for a Hub id its commit.

        None where it is still to be fetched.
        """
        if self.kind in ("hub", REMOTE):
            return self.revision
        with self.unchanged():
            return file_key(self.path)

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Read the file inside: it must be as it was when it was found, before and after.

        Raises
        ------
        DataError
            If another writes to it, or it cannot be read.
        """
        try:
            self._check()
            yield
            self._check()
        except OSError as fault:
            raise DataError(f"ingest: {self.path}: {fault.strerror or fault}") from None

    def _check(self) -> None:
        found = self.path.stat() if self.kind not in ("hub", REMOTE) else None
        if found and (found.st_size, found.st_mtime_ns) != (self.bytes, self.changed):
            raise changed(self.label)


def changed(what: str) -> DataError:
    """Return the error of input that is not what it was when it was first looked at."""
    return DataError(f"ingest: {what} changed while it was read; run again when it is complete")


def sources_from(paths: list[str], format: str = "auto") -> list[SourceConfig]:
    """Return a source for each path, named by its stem; names that clash get a number."""
    made: list[SourceConfig] = []
    taken: set[str] = set()
    for path in paths:
        if not path.strip():
            raise UsageError("ingest: a source is empty; name a file, folder, URL or hub:org/name")
        _check_name(path)
        hub_id = hub_id_of(path, None)
        stem = hub_id.partition("@")[0] if hub_id else stem_of(last_name(path))
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


def last_name(source: str) -> str:
    """Return a path as it is, and of a URL the path on its server."""
    return (
        urls.public_url(source).rstrip("/").partition("://")[2]
        if urls.is_remote(source)
        else source
    )


def kind_of(path: Path) -> str | None:
    """Return what kind of file this is by its name, None if the name does not tell."""
    name = Path(path.name.lower())
    if name.suffix in _PACKED:
        name = name.with_suffix("")
    if name.suffix in _KINDS:
        return _KINDS[name.suffix]
    return None


def files_of(config: IngestConfig, number: int, fetcher: Fetcher) -> list[File]:
    """Return the files of a source, ordered by label; those behind a URL are fetched first.

    Raises
    ------
    UsageError
        If there are none, or one is no regular file or of no known kind.
    """
    source = config.sources[number]
    hub_id = hub_id_of(source.path, config.root)
    if hub_id is not None:
        wanted = hub.address(hub_id)
        commit = hub.commit_of(wanted)
        return [File(number, wanted.at(commit), Path(wanted.name), "hub", 0, revision=commit)]
    if urls.is_remote(source.path):
        return _copies(config, number, fetcher)
    root = Path(config.root) if config.root is not None else None
    named = named_by(source)
    full = root / named if root is not None and not named.is_absolute() else named
    try:
        paths, base = _expanded(full, source)
        if root is not None and not named.is_absolute():
            base = root
        return [_file(number, path, base, source) for path in paths]
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise UsageError(f"ingest: source {source.name}: {full}: {reason}") from None


def _copies(config: IngestConfig, number: int, fetcher: Fetcher) -> list[File]:
    source = config.sources[number]
    where = f"ingest: source {source.name}: {urls.public_url(source.path)}"
    copy = fetcher.copy(
        source.path, source.split, lambda names: _readable(names, source.split),
        config.limits.expanded_bytes,
    )  # fmt: skip
    if not copy.files:
        raise UsageError(f"{where}: no data file of split `{source.split or 'train'}` there")
    if not copy.there:
        return [
            File(number, label, copy.root / label, REMOTE, size)
            for label, size in copy.files.items()
        ]
    paths = [copy.root / label for label in sorted(copy.files)]
    if copy.is_folder:
        paths = _folder(copy.root / copy.name, source, where)
    return [_file(number, path, copy.root, source) for path in paths]


def _readable(names: Iterable[str], split: str | None) -> list[str]:
    """Return what of a folder that is elsewhere is needed to read it."""
    listed = sorted(names)
    if {MANIFEST, _SPLITS, _STATE} & {*listed}:  # says itself which of its files are data
        return [name for name in listed if _is_data(name) or Path(name).name == MANIFEST]
    return _of_split([name for name in listed if _is_data(name)], split)


def named_by(source: SourceConfig) -> Path:
    """Return the path that a source names, a pattern or not, as it is given."""
    try:
        return Path(source.path).expanduser()
    except RuntimeError as fault:  # ~ of somebody who has no home
        raise UsageError(f"ingest: source {source.name}: {source.path}: {fault}") from None


def public_path(config: IngestConfig, number: int, files: list[File]) -> str:
    """Return a source's path as another may write it: from the folder that its labels start from.

    Of a Hub source it has the commit.
    """
    source = config.sources[number]
    if files and files[0].kind == "hub":
        return PREFIX + files[0].label
    named = named_by(source)
    if urls.is_remote(source.path):
        named = Path("/", last_name(source.path))
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
    here = Path(root or ".") / path
    if not looks_so or kind_of(here) is not None or _there(here) or _there(here.parent):
        return None
    return path


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, no right to look
        return False


def _file(number: int, path: Path, base: Path, source: SourceConfig) -> File:
    where = f"ingest: source {source.name}: {path}"
    if not path.is_file():
        broken = path.is_symlink() and not path.exists()
        what = f"a link to {path.readlink()}, which is not there" if broken else "no regular file"
        raise UsageError(f"{where} is {what}")
    _check_name(str(path))
    kind = kind_of(path) or _sniffed(path)
    if kind is None:
        raise UsageError(
            f"{where}: unknown kind of file; "
            f"known endings: {', '.join(_KINDS)}, each also with .gz or .zst where it is text"
        )
    found = path.stat()
    label = path.relative_to(base).as_posix()
    return File(number, label, path, kind, found.st_size, found.st_mtime_ns)


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"ingest: {path}: the name is not UTF-8; rename it") from None


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
        return _folder(full, source, where), full.parent
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


def found_by(pattern: Path, path: Path) -> bool:
    """Whether a pattern that a source may be would find a resolved path, were it there."""
    wild = next((i for i, part in enumerate(pattern.parts) if _WILD.search(part)), None)
    if wild is None:
        return False
    base = Path(*pattern.parts[:wild]).resolve()
    below = path.parts[len(base.parts) :] if path.is_relative_to(base) else ()
    return _finds(pattern.parts[wild:], below)


def _finds(pattern: Sequence[str], names: Sequence[str]) -> bool:
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        return any(_finds(pattern[1:], names[i:]) for i in range(len(names)))
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _finds(pattern[1:], names[1:])


def _folder(folder: Path, source: SourceConfig, where: str) -> list[Path]:
    if (folder / _SPLITS).is_file():
        splits = _names(folder / _SPLITS, "splits")
        split = source.split or ("train" if "train" in splits else None)
        split = split or (splits[0] if len(splits) == 1 else None)
        if split not in splits:
            raise UsageError(f"{where}: has splits {listed(splits)}; name one with `split`")
        return _saved(folder / str(split))
    if (folder / _STATE).is_file():
        return _saved(folder)
    folder = _of_ours(folder, where)
    names = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() or (path.is_symlink() and not path.is_dir())
    )
    found = _of_split([name.as_posix() for name in names if _is_data(name)], source.split)
    if not found:
        raise UsageError(f"{where}: no data file of split `{source.split or 'train'}` in it")
    return [folder / name for name in found]


def _is_data(name: str | Path) -> bool:
    path = Path(name)
    hidden = any(part.startswith(".") for part in path.parts)
    others = ("dataset_infos.json", "dataset_info.json", MANIFEST)
    return kind_of(path) is not None and not hidden and path.name not in others


def _of_split(names: Sequence[str], split: str | None) -> list[str]:
    if split is None:
        return [name for name in names if not _OTHER_SPLIT.search(name)]
    of_split = re.compile(rf"(^|[-_./]){re.escape(split)}([-_.0-9/]|$)")
    return [name for name in names if of_split.search(name)]


def _of_ours(folder: Path, where: str) -> Path:
    """Return where in a folder the rows are: in one of ours the rest is about rows, not rows.

    Raises
    ------
    UsageError
        If it is an output of ours that holds no samples, or one whose manifest is damaged.
    """
    stage = stage_of(folder)
    if stage in _ROWS:
        return folder / _ROWS[stage]
    if stage is not None:
        raise UsageError(
            f"{where} is an output of `{stage}`, which holds no samples; name a corpus, subset or "
            "export, or the files in it"
        )
    if is_damaged(folder):
        raise UsageError(
            f"{where}: {MANIFEST} is damaged, so what the folder holds is not known; make it "
            "again, or, if it holds raw data, name its files"
        )
    return folder


def _saved(folder: Path) -> list[Path]:
    """Return the Arrow files of a folder that `Dataset.save_to_disk` wrote."""
    return [folder / name for name in _names(folder / _STATE, "_data_files", "filename")]


def _names(path: Path, key: str, inner: str | None = None) -> list[str]:
    """Return the names that a file of a saved data set lists, each plain: of its own folder."""
    try:
        names = json.loads(path.read_text("utf-8"))[key]
        if inner:
            names = [item[inner] for item in names]
        if not isinstance(names, list):
            raise TypeError
        plain = [Path(name).name == name and name not in ("", "..") for name in names]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"ingest: {path}: not as `save_to_disk` writes it") from None
    if not names:
        raise DataError(f"ingest: {path}: names no {inner or 'split'}")
    if not all(plain):
        outside = names[plain.index(False)]
        raise DataError(f"ingest: {path}: {outside!r:.80} is no plain name, and could lead outside")
    return names


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return names for a message, no more of them and of each than a reader will look at."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(f"{name:.60}" for name in names[:most]) + more


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
        if file.kind in ("hub", REMOTE):
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


def key_of(files: list[File], digests: list[str | None]) -> str | None:
    """Return one content key for a source's files: their labels and bytes; None if one is not here.

    A file behind a URL counts as one of this machine does.
    """
    if None in digests:
        return None
    return content_key([[f.label, d] for f, d in zip(files, digests, strict=True)])
