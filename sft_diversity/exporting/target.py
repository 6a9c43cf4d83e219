"""An export copied to a folder that a URL names, on any file system that fsspec writes to.

The manifest comes last, and goes first where another export is replaced: a folder that has one is
whole. `unfinished.json` lies there meanwhile, and says what is ours when the copy is taken up.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, progress, stopping, urls
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.urls import RemotePlace
from sft_diversity.exporting import collection

UNFINISHED = "unfinished.json"
_CARD = collection.CARD  # a folder of data shows it, so it comes behind the data
_READ_ONLY = ("http", "https")


def place_to_write(url: str) -> RemotePlace:
    """Return the place that an export is copied to; nothing is asked of the other side.

    Raises
    ------
    UsageError
        If the package is not installed, or the protocol cannot be written to.
    """
    place = urls.open_url(url, "export")
    if place.protocol in _READ_ONLY:
        raise UsageError(
            f"export: {place}: a web server is only read; name a folder, hub:org/name, or s3://, "
            "gs:// and the like"
        )
    if place.is_pattern:
        raise UsageError(f"export: {place}: has wildcards; name one folder")
    return place


def copy_to(
    export: Path, place: RemotePlace, overwrite: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Make a folder elsewhere hold this export; do nothing if it does.

    What an earlier copy that was stopped has sent is not sent again. Another export there is
    replaced; files that no export wrote stay.

    Returns
    -------
    dict
        `place`, `files` and `bytes` sent, and `state`: `copied` or `already there`.

    Raises
    ------
    UsageError
        If files are there that no export wrote, unless `overwrite`.
    DataError
        If the other side refuses, cannot be reached, or has other sizes afterwards.

    Notes
    -----
    What arrived is compared by size alone: `sftdiv verify` of a copy that was fetched compares
    every byte.
    """
    return _Copy(export, place, say).run(overwrite)


@dataclass(frozen=True)
class _Copy:
    export: Path
    place: RemotePlace
    say: Callable[[str], None]

    def run(self, overwrite: bool) -> dict[str, Any]:
        manifest = folder.read_input(self.export, "export")
        wanted = {one["path"]: int(one["bytes"]) for one in manifest["files"]}
        here = self._sizes()
        done, begun = (self._read(name) for name in (folder.MANIFEST, UNFINISHED))
        if done.get("digest") == manifest["digest"] and self._holds(here, wanted):
            self._remove({UNFINISHED} & {*here})
            self.say(f"export: already there, nothing sent: {self.place}")
            return self._told(0, 0, "already there")
        if begun.get("digest") != manifest["digest"] or done:
            self._clear(here, done, begun, overwrite)
            here = {}
            self._send_json(UNFINISHED, _unfinished(manifest["digest"], wanted))
        left = [name for name, size in wanted.items() if here.get(name) != size]
        left.sort(key=lambda name: (name == _CARD, name))
        size = sum(wanted[name] for name in left)
        with progress.progress("export: copy", size, "bytes") as bar:
            for name in left:
                stopping.safe_point("export")
                self._send(self.export / name, name)
                bar.advance(wanted[name])
        stopping.safe_point("export")
        there = self._sizes()
        if not self._holds(there, wanted):
            wrong = next(name for name, size in wanted.items() if there.get(name) != size)
            raise DataError(
                f"export: {self.place}: {wrong} has not arrived whole; run the command again"
            )
        self._send_json(folder.MANIFEST, json.loads(collection.public_manifest(self.export)))
        self._remove({UNFINISHED})
        self.say(f"export: {len(left) + 1} files, {size:,} bytes, copied to {self.place}")
        return self._told(len(left) + 1, size, "copied")

    def _clear(
        self,
        here: Mapping[str, int],
        done: Mapping[str, Any],
        begun: Mapping[str, Any],
        overwrite: bool,
    ) -> None:
        """Take away what an export has left here: a file of another one may have the same size."""
        ours = {folder.MANIFEST} if done else set()
        ours |= {UNFINISHED} if begun else set()
        ours |= {one["path"] for one in (*done.get("files", ()), *begun.get("files", ()))}
        others = sorted(here.keys() - ours)
        if others and not overwrite and not (done or begun):
            named = ", ".join(others[:3]) + (" and others" if len(others) > 3 else "")
            raise UsageError(
                f"export: {self.place} holds what no export wrote ({named}); name another folder, "
                "or add --overwrite to write among it"
            )
        old = ours & here.keys()
        if old:
            self._send_json(UNFINISHED, _unfinished(None, old))
            self._remove(old & {folder.MANIFEST})
            self._remove(old - {folder.MANIFEST, UNFINISHED})

    def _told(self, files: int, size: int, state: str) -> dict[str, Any]:
        return {"place": str(self.place), "files": files, "bytes": size, "state": state}

    @staticmethod
    def _holds(here: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
        return all(here.get(name) == size for name, size in wanted.items())

    def _at(self, name: str) -> str:
        return f"{self.place.path.rstrip('/')}/{name}"

    def _sizes(self) -> dict[str, int]:
        """Return the sizes of the files that are there now; -1 where one is not said."""
        with self.place.talking():
            self.place.fs.invalidate_cache()
        try:
            listed = self.place.below(list)
        except UsageError:  # the folder is not there yet
            return {}
        return {name: -1 if one.bytes is None else one.bytes for name, one in listed.items()}

    def _read(self, name: str) -> Mapping[str, Any]:
        """Return a manifest of ours that lies there, empty where there is none to trust."""
        with self.place.talking():
            try:
                found = json.loads(self.place.fs.cat_file(self._at(name)))
            except (FileNotFoundError, ValueError, RecursionError):
                return {}
        is_ours = isinstance(found, dict) and found.get("stage") == "export"
        files = found.get("files") if is_ours else None
        paths = [one.get("path") for one in files or () if isinstance(one, dict)]
        whole = isinstance(files, list) and len(paths) == len(files)
        return found if whole and all(isinstance(path, str) for path in paths) else {}

    def _send(self, path: Path, name: str) -> None:
        with self.place.talking():
            self.place.fs.put_file(str(path), self._at(name))

    def _send_json(self, name: str, value: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="sftdiv-") as scratch:
            path = Path(scratch) / name
            path.write_text(folder.dump_json(value), "utf-8")
            self._send(path, name)

    def _remove(self, names: Collection[str]) -> None:
        with self.place.talking():
            for name in sorted(names):
                self.place.fs.rm_file(self._at(name))


def _unfinished(digest: str | None, names: Collection[str]) -> dict[str, Any]:
    return {
        "stage": "export",
        "digest": digest,
        "files": [{"path": name} for name in sorted(names) if name != UNFINISHED],
    }
