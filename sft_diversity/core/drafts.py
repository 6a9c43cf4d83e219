"""Output folders that are either whole or not there.

A folder is drafted in a hidden sibling, files are synced and renamed into it one by one, the
manifest is written last, and the draft is renamed to its name. No manifest: not done. A draft that
a killed run left behind is taken up again if the work is still the same, else made anew. One
process at a time drafts an output: it holds the output's lock, and others wait for it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity.core import folder, locks
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key

#: The reason of a draft where nothing was before.
#: The reason of a draft where nothing was before.
STARTING = "starting"


@dataclass(frozen=True)
class Work:
    """What an output depends on: the stage, its code version, its inputs and its config.

    `inputs` maps a name to a content key (of a folder's manifest, of a file, of a model revision);
    `config` is JSON. Two works are equal when their keys are: paths and times take no part.
    """

    stage: str
    version: int
    inputs: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def key(self) -> str:
        """32 hex digits."""
        return content_key(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return the work as JSON values."""
        return {
            "stage": self.stage,
            "version": self.version,
            "inputs": dict(self.inputs),
            "config": dict(self.config),
        }

    def difference(self, old: Mapping[str, Any]) -> str:
        """Say in one line what changed since `old`, another work's JSON."""
        if old.get("stage") != self.stage:
            return f"stage was {old.get('stage')}"
        if old.get("version") != self.version:
            return f"the stage's version went from {old.get('version')} to {self.version}"
        said = _changes("input ", old.get("inputs", {}), self.inputs)
        said += _changes("", old.get("config", {}), self.config)
        return "; ".join(said[:4]) + (f" and {len(said) - 4} more" if len(said) > 4 else "")


def _changes(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    said = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before != after:
            said.append(f"{prefix}{name} changed: {_short(before)} -> {_short(after)}")
    return said


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass
class Draft:
    """An output folder being made. `state` says how it began: new, resumed or reused.

    A reused draft is the finished folder itself: nothing is to be done.
    """

    out: Path
    work: Work
    path: Path
    state: str
    reason: str
    started: float = field(default_factory=time.time)
    lock: locks.Lock | None = field(default=None, repr=False)

    @property
    def reused(self) -> bool:
        """Whether the finished folder already exists for this very work."""
        return self.state == "reused"

    def has(self, name: str) -> bool:
        """Whether the file `name` was finished, by this run or by one that was stopped."""
        return (self.path / name).exists()

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path; on success it is synced and renamed to `name`."""
        with folder.writing(self.path / name, self.work.stage) as scratch:
            yield scratch

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a Parquet file (zstd), whole or not at all."""
        with self.writing(name) as path:
            pq.write_table(table, path, compression="zstd")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file with sorted keys, whole or not at all."""
        folder.write_json(self.path / name, value, self.work.stage)

    def commit(
        self,
        rows: Mapping[str, Any] | None = None,
        seeds: Mapping[str, int] | None = None,
        result: Mapping[str, Any] | None = None,
        run: Mapping[str, Any] | None = None,
        lineage: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the manifest, sync, give the folder its name; return the manifest.

        `rows` accounts for rows (see `rows_account`); `result` holds figures that are equal between
        equal runs; `run` holds what is not (seconds, device, paths) and is covered by no hash.
        `lineage` and `recipe` say what it was made from and how to make it again
        (`core.lineage`); they are in the manifest where they are given.
        """
        for left in self.path.rglob(f".*{folder.SCRATCH}"):  # of writers that were killed
            left.unlink(missing_ok=True)
        body = self.work.as_json() | {
            "key": self.work.key,
            "seeds": dict(seeds or {}),
            "rows": dict(rows or {}),
            "result": dict(result or {}),
            "files": folder.inventory(self.path),
        }
        body |= {"lineage": dict(lineage)} if lineage else {}
        body |= {"recipe": dict(recipe)} if recipe else {}
        body["digest"] = content_key(body)
        now = time.time()
        body["run"] = {
            "started": _utc(self.started),
            "ended": _utc(now),
            "seconds": round(now - self.started, 3),
            "host": platform.node(),
            "platform": platform.platform(),
            "python": sys.version.split()[0],
            "versions": folder.versions(),
            **dict(run or {}),
        }
        self.write_json(folder.MANIFEST, body)
        folder.sync(self.path)
        self._publish()
        return body

    def _publish(self) -> None:
        (self.path / folder.WORK).unlink(missing_ok=True)
        _swap(self.path, self.out)
        self.path = self.out
        self.release()

    def release(self) -> None:
        """Let another process write here."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None


def check_out(out: Path, stage: str, sources: Iterable[str | Path] = ()) -> None:
    """Refuse a place that `open_draft` would refuse; touches nothing.

    Parameters
    ----------
    sources : iterable of path or str
        What the stage reads: a folder among them, and whatever lies in it, is no place to write to.

    Raises
    ------
    UsageError
        If `out` exists and is not an output of this stage, or lies in another output or a source.
    DataError
        If nothing can be written there.
    """
    if out.name in ("", ".."):
        raise UsageError(f"{stage}: {str(out)!r} is no name of a folder to write; name one")
    try:
        str(out).encode()
        _check_place(out, stage, sources)
    except UnicodeEncodeError:
        raise UsageError(f"{stage}: {out}: the name is not UTF-8; name another folder") from None
    except OSError as fault:  # a name that is too long, a folder that may not be looked into
        raise UsageError(f"{stage}: {fault.filename}: {fault.strerror}; name another") from None


def _check_place(out: Path, stage: str, sources: Iterable[str | Path]) -> None:
    way_out = "name another folder or remove it"
    if out.is_symlink() and not out.exists():
        raise UsageError(f"{stage}: {out} is a link to nothing; {way_out}")
    folder.refuse_damaged(out)
    if out.exists() and folder.stage_of(out) != stage and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{stage}: {out} exists and is no output of `{stage}`; {way_out}")
    real = out.resolve()
    for source in map(Path, sources):
        if source.is_dir() and _reads(source.resolve(), real):
            raise UsageError(
                f"{stage}: {out} lies in {source}, which is read; name a folder outside of it"
            )
    for above in real.parents:
        holder = folder.manifest_or_none(above) or {}
        if "digest" in holder and not holder.get("grows"):
            raise UsageError(
                f"{stage}: {out} lies in {above}, an output of `{holder.get('stage')}`, which is "
                "finished; name a folder outside of it"
            )
    if folder.stage_of(out) != stage:  # what may be reused need not be written
        near = next(place for place in real.parents if os.access(place, os.F_OK))
        if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
            why = "may not be written to" if near.is_dir() else "is a file"
            raise DataError(f"{stage}: cannot write {out}: {near} {why}; name another folder")


def _reads(source: Path, place: Path) -> bool:
    """Whether who reads all of `source` reads `place` too: hidden folders are left alone."""
    inside = place.is_relative_to(source)
    return inside and not any(part[0] == "." for part in place.relative_to(source).parts)


def open_draft(out: Path, work: Work, *, keep_partial: bool = True) -> Draft:
    """Begin, take up again, or find finished the output folder `out` for `work`.

    Raises
    ------
    UsageError
        If `out` exists and is not an output of this stage: it is never overwritten. Or if it lies
        inside another output.
    DataError
        If the folder cannot be made.
    """
    check_out(out, work.stage)
    if out.is_symlink():  # the folder takes another's place there, and the link stays
        out = out.resolve()
    if not _old(out).exists() and (found := _reused(out, work)):
        return found  # no lock: it may lie where nothing can be written
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = locks.acquire(out, work.stage)
        _finish_swap(out)
    except OSError as fault:
        raise folder.disk_fault(work.stage, out, fault) from fault
    assert lock is not None
    try:
        draft = _begun(out, work, keep_partial)
    except BaseException:
        lock.release()
        raise
    draft.lock = lock
    if draft.reused:
        draft.release()
    return draft


def _reused(out: Path, work: Work) -> Draft | None:
    """Return the finished folder of this very work, if that is what lies there."""
    done = folder.manifest_or_none(out)
    if done is None or (done.get("stage"), done.get("key")) != (work.stage, work.key):
        return None
    folder.read_input(out)
    return Draft(out, work, out, "reused", f"{out} is up to date")


def _begun(out: Path, work: Work, keep_partial: bool) -> Draft:
    """Return the draft of an output whose lock is held."""
    reason = ""
    if found := _reused(out, work):
        return found
    done = folder.manifest_or_none(out)
    if done is not None and done.get("stage") == work.stage:
        reason = f"recomputed because {work.difference(done)}"
    partial = draft_of(out)
    try:
        if partial.exists():
            manifest = folder.manifest_or_none(partial)
            old = _work_or_none(partial) or (manifest and _as_work(manifest))
            if keep_partial and old is not None and content_key(old) == work.key:
                draft = Draft(out, work, partial, "resumed", "resumed: an earlier run was stopped")
                if manifest is not None and manifest.get("key") == work.key:
                    draft._publish()  # killed between the manifest and the rename
                    draft.state, draft.reason = "reused", f"{out} is up to date"
                return draft
            if old:
                reason = f"recomputed because {work.difference(old)}"
            shutil.rmtree(partial)
        partial.mkdir()
    except OSError as fault:
        raise folder.disk_fault(work.stage, partial, fault) from fault
    draft = Draft(out, work, partial, "new", reason or STARTING)
    draft.write_json(folder.WORK, work.as_json())
    return draft


def _as_work(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: manifest.get(name) for name in ("stage", "version", "inputs", "config")}


@dataclass
class SharedDraft(Draft):
    """The draft of an output of the work folder, for any number of writers at once.

    They write files of their own, whole or not at all, first into `scratch`, a folder of the
    writer: that is outside of the draft, which another process may finish and rename meanwhile.
    `open_draft` goes on from there.
    """

    scratch: Path = Path()

    def has(self, name: str) -> bool:
        """Whether the file `name` is in the draft, or in the output that was made of it."""
        return super().has(name) or (self.out / name).exists()

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path; on success it is synced and handed in as `name`."""
        made, final = self.scratch / Path(name).name, self.path / name
        self.scratch.mkdir(exist_ok=True)
        with folder.writing(made, self.work.stage) as path:
            yield path
        self._begin()
        with contextlib.suppress(FileNotFoundError):  # the output is finished
            if final.parent != self.path:
                final.parent.mkdir(exist_ok=True)
            made.replace(final)
        made.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Make the draft's folder if there is none, together with what says whose it is.

        Whoever finishes the output either takes up this folder or was done before it came to be:
        in that case nobody would.
        """
        if self.path.exists():
            return
        begun = self.scratch / "begun"
        begun.mkdir(exist_ok=True)
        (begun / folder.WORK).write_text(folder.dump_json(self.work.as_json()), "utf-8")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            begun.rename(self.path)
        except OSError as fault:
            shutil.rmtree(begun)
            if fault.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another was first
                raise folder.disk_fault(self.work.stage, self.path, fault) from fault
        if (self.out / folder.MANIFEST).exists():
            shutil.rmtree(self.path, ignore_errors=True)


def shared_draft(out: Path, work: Work, scratch: Path) -> SharedDraft:
    """Return a draft that others write into too; nothing is touched before the first file."""
    partial, reason = draft_of(out), "goes on from what is there"
    return SharedDraft(out, work, partial, "resumed", reason, scratch=scratch)


def take_over(draft: Draft, place: Path, units: Collection[str]) -> None:
    """Put into a draft the units that the draft of `place`, another output of its work, has whole.

    Files that come with units are there before them, so that what is taken is whole too.
    """
    other = draft_of(place)
    old = _work_or_none(other)
    if old is None or content_key(old) != draft.work.key:
        return
    whole = [name for name in units if (other / name).exists()]
    files = (path.relative_to(other) for path in other.rglob("*") if path.is_file())
    plain = [path.as_posix() for path in files if not path.name.startswith(".")]
    for name in [
        *(n for n in plain if n not in units and n not in (folder.MANIFEST, folder.WORK)),
        *whole,
    ]:
        if not draft.has(name):
            with draft.writing(name) as path:
                _link(other / name, path)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # another file system, or one that has no links
        shutil.copyfile(old, new)


def discard(place: Path, work: Work) -> None:
    """Remove the draft of an output whose work was finished elsewhere, if nobody holds it."""
    old = _work_or_none(draft_of(place))
    if old is None or content_key(old) != work.key:
        return
    lock = locks.acquire(place, work.stage, wait=False)
    if lock is not None:
        shutil.rmtree(draft_of(place), ignore_errors=True)
        lock.release()


def unfinished(out: Path, work: Work) -> tuple[Path, str] | None:
    """Return the draft that a stopped run of other work left for `out`, and what differs.

    `open_draft` would remove it. None where there is none, or where `out` is up to date.
    """
    partial = draft_of(out)
    old = _work_or_none(partial)
    if not old or content_key(old) == work.key:
        return None
    if out.is_dir() and (folder.manifest_or_none(out) or {}).get("key") == work.key:
        return None
    return partial, work.difference(old)


def draft_of(out: Path) -> Path:
    """Return where an output is drafted."""
    return out.parent / f".{out.name}.partial"


def _work_or_none(place: Path) -> dict[str, Any] | None:
    return folder.json_or_none(place / folder.WORK)


def _swap(draft: Path, out: Path) -> None:
    """Put `draft` in the place of `out`; the old folder goes only once the new one stands."""
    old = _old(out)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    draft.rename(out)
    folder.sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old(out: Path) -> Path:
    return out.parent / f".{out.name}.old"


def _finish_swap(out: Path) -> None:
    """End what a run that was killed amid `_swap` began: the new folder stands, or the old one."""
    old = _old(out)
    if old.exists():
        if out.exists():
            shutil.rmtree(old)
        else:
            old.rename(out)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
