"""Copies of what URLs name, in the work folder: a file is fetched once, and when it changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, locks, progress, stopping, urls
from sft_diversity.core.errors import DataError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.urls import Found, RemotePlace, Wanted

#: In the work folder.
FOLDER = "remote"
_FETCHED = "fetched.jsonl"


@dataclass(frozen=True)
class Copy:
    """What a URL names, and where its copy is.

    Attributes
    ----------
    files : mapping of path to int
        Of each file the bytes, 0 where they are not known before it is fetched; by its path below
        `root`.
    root : Path
    is_folder : bool
        Whether the URL names a folder, `name` of `root`.
    there : bool
        Whether all is here, as it is on the other side.
    """

    name: str
    files: Mapping[str, int]
    root: Path
    is_folder: bool
    there: bool


@dataclass(frozen=True)
class Fetcher:
    """Fetches into a work folder; or only looks, where `dry`. A URL is looked at once a command.

    Parameters
    ----------
    once : callable
        `Ask.once` or `Job.once`.
    """

    work: Path
    dry: bool
    once: Callable[[Hashable, Callable[[], Any]], Any]

    def copy(self, url: str, split: str | None, wanted: Wanted, limit: int) -> Copy:
        """Return the copy of what a URL names; fetched first, unless `dry`.

        Parameters
        ----------
        split : str, optional
            What of a folder `wanted` takes: each has a copy of its own.
        wanted : callable
            From the paths in a folder to those that are read.
        limit : int
            Bytes that a file whose size is not said may have.
        """
        copy: Copy = self.once(
            ("remote", url, split), lambda: _copy(url, split, wanted, limit, self.work, self.dry)
        )
        return copy


def _copy(url: str, split: str | None, wanted: Wanted, limit: int, work: Path, dry: bool) -> Copy:
    place = urls.open_url(url, "ingest")
    name, is_folder = place.plain(place.name), False
    if place.is_pattern:
        found = place.matching()
    elif (file := place.at_file()) is not None:
        found = {name: file}
    else:
        is_folder = True
        found = {f"{name}/{inside}": one for inside, one in place.below(wanted).items()}
    home = _Home(
        place, work / FOLDER / content_key([urls.public_url(url), split])[:16], found, limit
    )
    if not dry:
        home.fetch()
    sizes = {path: one.bytes or 0 for path, one in found.items()}
    return Copy(name, sizes, home.root, is_folder, there=not dry or not home.left())


@dataclass(frozen=True)
class _Home:
    """The folder of one URL's copy: the files in `files/`, and beside it what was fetched."""

    place: RemotePlace
    path: Path
    found: Mapping[str, Found]
    limit: int

    @property
    def root(self) -> Path:
        return self.path / "files"

    def left(self) -> list[str]:
        """Return the files that are not here, or may be others by now."""
        marks = self._marks()
        return [
            name
            for name, one in self.found.items()
            if one.mark is None or marks.get(name) != one.mark or not (self.root / name).is_file()
        ]

    def fetch(self) -> None:
        """Fetch what is left; every file is whole here or not at all."""
        if not self.left() and not self._gone():
            return
        with locks.alone(self.path, "ingest"):
            for path in self._gone():
                path.unlink()
            left = self.left()
            if not left:
                return
            size = sum(self.found[name].bytes or 0 for name in left)
            progress.say(f"ingest: {self.place}: fetching {len(left):,} files, {size:,} bytes")
            with progress.progress("ingest: fetch", size, "bytes", silent=not size) as bar:
                for name in left:
                    self._fetch(name, self.found[name], bar)

    def _gone(self) -> list[Path]:
        """Return the files that are not on the other side any more."""
        here = [path for path in self.root.rglob("*") if not path.is_dir()]
        return [path for path in here if path.relative_to(self.root).as_posix() not in self.found]

    def _fetch(self, name: str, one: Found, bar: progress.Progress) -> None:
        most = self.limit if one.bytes is None else one.bytes
        got = 0

        def arrived(size: int) -> None:
            nonlocal got
            got += size
            if got > most:
                raise DataError(f"ingest: {self.place}: {name} is larger than {most:,} bytes")
            bar.advance(size)
            stopping.safe_point("ingest")

        with folder.writing(self.root / name, "ingest") as scratch:
            self.place.fetch(one, scratch, arrived)
            if one.bytes is not None and scratch.stat().st_size != one.bytes:
                raise DataError(
                    f"ingest: {self.place}: {name} changed while it was fetched, or broke off; run "
                    "the command again"
                )
        line = folder.json_lines([{"file": name, "mark": one.mark}])
        with (self.path / _FETCHED).open("ab") as lines:
            lines.write(line)

    def _marks(self) -> dict[str, str | None]:
        """Return the marks of what was fetched; of a line that was cut off nothing."""
        marks: dict[str, str | None] = {}
        try:
            lines = (self.path / _FETCHED).read_bytes().splitlines()
        except OSError:
            return marks
        for line in lines:
            try:
                one = json.loads(line)
                marks[one["file"]] = one["mark"]
            except (ValueError, TypeError, KeyError):
                continue
        return marks
