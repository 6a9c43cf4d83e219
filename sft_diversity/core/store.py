"""The store makes what stages declare: found, taken up again, planned or split by one walk.

An output is identified by its stage, the stage's version, the keys of its inputs and its options.
In the work folder it lies under that key, so that other options never overwrite it. Its units are
drafted beside it, each whole or not there: that is resume, and the work of a part, at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, lineage, locks, progress
from sft_diversity.core.drafts import Draft, Work
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.parts import Part
from sft_diversity.core.stage import Job, Made, Result, Stage, Tool, once

T = TypeVar("T")

#: Folder of the records of parts, in the work folder.
PARTS = "parts"
_SCRATCH = ".scratch"


@dataclass(frozen=True)
class Request:
    """An output asked for: a stage, its options, and the corpus or whatever else it is made of."""

    stage: Stage[Any]
    config: Any
    corpus: Made | None
    subject: str = ""

    @property
    def key(self) -> str:
        """Of what was asked, before anything is resolved: the same on every machine.

        All options count: a tokenizer is none of `Stage.options`, it counts by its content there.
        """
        return content_key(
            {
                "stage": self.stage.name,
                "options": self.config.model_dump(mode="json"),
                "corpus": self.corpus and self.corpus.key,
                "subject": self.subject,
            }
        )


@dataclass
class Asked:
    """What a stage needs, as it says it; an `Ask`."""

    store: Store
    corpus_asked: Made | None
    subject: str
    inputs: dict[str, Made] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    keys: dict[str, str | None] = field(default_factory=dict)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    loads: dict[str, Callable[[], Callable[..., Any]]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    n_rows: int | None = None

    def corpus(self) -> Made:
        """See `stage.Ask`."""
        assert self.corpus_asked is not None
        self.inputs["corpus"] = self.corpus_asked
        self.keys["corpus"] = self.corpus_asked.key
        return self.corpus_asked

    def stage(self, role: str, stage: str, options: Mapping[str, Any]) -> Made:
        """See `stage.Ask`."""
        request = self.store.request(stage, options, self.corpus_asked)
        found = self.store.resolve(request).made
        self.requests[role], self.inputs[role], self.keys[role] = request, found, found.key
        return found

    @property
    def work(self) -> Path:
        """See `stage.Ask`."""
        return self.store.root

    @property
    def dry(self) -> bool:
        """See `stage.Ask`."""
        return self.store.dry or (self.corpus_asked is not None and not self.corpus_asked.there)

    def key(self, role: str, key: str | None) -> None:
        """See `stage.Ask`."""
        self.keys[role] = key

    def tool(self, role: str, tool: str, options: Any) -> None:
        """See `stage.Ask`."""
        found = self.store.tools[tool](options, self.dry)
        self.keys[role], self.facts[role], self.loads[role] = found.key, found.facts, found.load

    def rows(self, rows: int) -> None:
        """See `stage.Ask`."""
        self.n_rows = rows

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """See `stage.Ask`."""
        return self.store.once(key, make)

    def resolve(self, **options: Any) -> None:
        """See `stage.Ask`."""
        self.options |= options


@dataclass(frozen=True)
class Resolved:
    """A request, what it needs, and where its output is or will be."""

    request: Request
    asked: Asked
    work: Work | None
    made: Made


class Store:
    """Makes, finds and plans outputs; knows stages only as the table that it is given.

    Parameters
    ----------
    root : Path
        The work folder.
    stages : mapping of name to Stage
    tools : mapping of name to callable
        From options and whether nothing is to be fetched to a `Tool`.
    dry : bool
        Make nothing; `plan` says what would be made.
    """

    def __init__(
        self,
        root: Path,
        stages: Mapping[str, Stage[Any]],
        tools: Mapping[str, Callable[[Any, bool], Tool]],
        dry: bool = False,
        say: Callable[[str], None] = progress.say,
    ) -> None:
        self.root, self.stages, self.tools, self.dry, self.say = root, stages, tools, dry, say
        self.plan: list[dict[str, Any]] = []
        self.kept: dict[Hashable, Any] = {}
        self._resolved: dict[str, Resolved] = {}
        self._got: dict[str, Made] = {}
        self._finished: dict[str, dict[str, tuple[Path, Mapping[str, Any]]]] = {}

    # ---- what callers ask ----------------------------------------------------------------------

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """See `stage.Job.once`."""
        return once(self.kept, key, make)

    def request(
        self, stage: str, options: Any, corpus: Path | Made | None = None, subject: str = ""
    ) -> Request:
        """Return a request; `options` are the stage's config, or a mapping to make it of."""
        declared = self.stages[stage]
        config = options
        if not isinstance(options, declared.config):
            config = configs.build(declared.config, options, f"key `{stage}`")
        made = corpus if corpus is None or isinstance(corpus, Made) else corpus_at(corpus)
        return Request(declared, config, made, subject)

    def get(
        self,
        stage: str,
        options: Any,
        corpus: Path | Made | None = None,
        *,
        subject: str | Path = "",
        out: Path | None = None,
    ) -> Made:
        """Return an output, made now if it is not there; in a dry run, only planned.

        Raises
        ------
        SftdivError
            Whatever the stages refuse; UsageError if `out` may not be written, or parts of it were
            made that would come out otherwise here.
        """
        request = self.request(stage, options, corpus, str(subject))
        records = self.part_folder(request, Part(1, 1)).parent
        for one in self._split(request) if records.exists() else ():
            if not one.made.there:
                self._same_elsewhere(records, one)
        return self._get(request, out)

    def check(self, stage: str, options: Any, corpus: Path | Made | None = None) -> None:
        """Refuse what cannot be made here, all that it needs included; makes and plans nothing."""
        self.resolve(self.request(stage, options, corpus))

    def prepare(self, stage: str, options: Any, corpus: Path | Made) -> None:
        """Make (or plan) all that an output is made of, not itself."""
        for needed in self.resolve(self.request(stage, options, corpus)).asked.requests.values():
            self._get(needed)

    def get_part(
        self, stage: str, options: Any, corpus: Path | Made | None, part: Part, subject: str = ""
    ) -> Made:
        """Make one part of the units of a stage, or, where it has none, of what it needs.

        Any number of parts may be made at once, on machines that share the work folder; `get` then
        goes on from there. Returns the folder of the part's record, whose manifest says: finished.
        """
        request = self.request(stage, options, corpus, subject)
        record = self.part_folder(request, part)
        for one in self._split(request):
            self._make_part(one, part, record)
        return Made(record, None, there=not self.dry)

    def part_folder(self, request: Request, part: Part) -> Path:
        """Return where the record of a part is, the same on every machine."""
        return self.root / PARTS / request.key[:16] / part.name

    def find(self, stage: str, key: str) -> Path | None:
        """Return the finished output of the work folder that has this key, if one has."""
        found = self._known(stage).get(key)
        return found[0] if found else None

    def finished(self, stage: str) -> list[tuple[Path, Mapping[str, Any]]]:
        """Return the finished outputs of a stage in the work folder, with their manifests."""
        return list(self._known(stage).values())

    # ---- the walk ------------------------------------------------------------------------------

    def resolve(self, request: Request, out: Path | None = None) -> Resolved:
        """Return what a request comes to here, all that it needs included; makes nothing."""
        memo = content_key([request.key, str(out), str(request.corpus and request.corpus.path)])
        if memo in self._resolved and request.corpus is not None and request.corpus.key:
            return self._resolved[memo]
        stage, asked = request.stage, Asked(self, request.corpus, request.subject)
        stage.needs(request.config, asked)
        work = None
        if None not in asked.keys.values():
            keys = {role: str(key) for role, key in asked.keys.items()}
            options = dict(stage.options(request.config)) | asked.options
            work = Work(stage.name, stage.version, keys, options)
        rows = request.corpus.rows if request.corpus else 0
        rows = rows if asked.n_rows is None else asked.n_rows
        place = out or self._place(request, work)
        there = work is not None and _is_done(place, work)
        made = Made(place, work.key if work else None, rows, there)
        self._resolved[memo] = found = Resolved(request, asked, work, made)
        return found

    def _get(self, request: Request, out: Path | None = None) -> Made:
        if out is not None:
            drafts.check_out(out, request.stage.name)
        found = self.resolve(request, out)
        if self.dry:
            return self._note(found)
        progress.LOG.debug("%s: key %s", request.stage.said(request.config), found.made.key)
        if found.made.key in self._got and out is None:
            return self._got[found.made.key]
        if not found.made.there or out is not None:
            self._make(found)
        else:
            folder.read_input(found.made.path)
            self.say(f"{request.stage.said(request.config)}: {found.made.path} is up to date")
            self._tell(found)
        assert found.made.key is not None
        self._got[found.made.key] = made = replace(found.made, there=True)
        return made

    def _make(self, found: Resolved) -> None:
        request, asked, work = found.request, found.asked, found.work
        if not found.made.there:
            for role, needed in asked.requests.items():
                asked.inputs[role] = self._get(needed)
        assert work is not None, "an input has no key after it was made"
        draft = drafts.open_draft(found.made.path, work)
        label = request.stage.said(request.config)
        nothing_before = draft.reason == drafts.STARTING
        self.say(
            f"{label}: {draft.state}, {self._reason(work) if nothing_before else draft.reason}"
        )
        if not draft.reused:
            try:
                self._commit(found, draft)
            finally:
                draft.release()
        self._tell(found)
        self._forget(found)

    def _tell(self, found: Resolved) -> None:
        stage = found.request.stage
        for line in stage.lines(folder.read_manifest(found.made.path)):
            self.say(f"{stage.name}: {line}")

    def _commit(self, found: Resolved, draft: Draft) -> None:
        stage = found.request.stage
        job = self._job(found, draft)
        in_work = self._place(found.request, draft.work)
        if in_work != draft.out:  # parts are made in the work folder
            drafts.take_over(draft, in_work, {unit.name for unit in job.units})
        stage.each(job)
        result: Result = stage.join(job)
        draft.commit(
            rows=result.rows,
            seeds=result.seeds,
            result=result.figures,
            run={**job.run, **result.run},
            lineage={**self._lineage(found), **result.lineage},
            recipe=result.recipe,
        )
        if in_work != draft.out and not self._parts_begun(found.request):
            drafts.discard(in_work, draft.work)

    def _parts_begun(self, request: Request) -> bool:
        """Whether a process makes a part now: of a unit that it is at, files would be lost."""
        records = self.part_folder(request, Part(1, 1)).parent
        names = (path.name[1 : -len(".lock")] for path in records.glob(".*.lock"))
        return any(locks.held(records / name) for name in names)

    def _job(self, found: Resolved, draft: Draft, part: Part | None = None) -> Job[Any]:
        request, inputs = found.request, found.asked.inputs
        units = list(request.stage.units(request.config, inputs))
        own = units if part is None else _share(units, part)
        label = request.stage.said(request.config)
        tools = {role: load() for role, load in found.asked.loads.items()}
        return Job(
            request.config, inputs, draft, units, own, self.root, label, self.say,
            request.subject, tools, self.kept,
        )  # fmt: skip

    def _lineage(self, found: Resolved) -> lineage.Lineage:
        places = {role: made.path for role, made in found.asked.inputs.items() if role != "corpus"}
        return lineage.of(**places) | {n: dict(facts) for n, facts in found.asked.facts.items()}

    def _note(self, found: Resolved) -> Made:
        """Add a request, and before it all that it needs, to the plan."""
        for needed in found.asked.requests.values():
            self._get(needed)
        request, made = found.request, found.made
        step: dict[str, Any] = {"stage": request.stage.name, "rows": made.rows}
        if made.there:
            step |= {"state": "cached", "seconds": 0.0, "bytes": 0}
            if request.corpus is None:
                step["rows"] = folder.read_manifest(made.path)["rows"].get("in")
        elif request.corpus is None or request.corpus.there:
            step |= {
                "state": "to do",
                **request.stage.cost(request.config, found.asked),
            }
        else:  # what is made of a corpus that is not there yet can only be counted
            step |= {"state": "to do"}
        step["out"] = str(made.path)
        if step not in self.plan:
            self.plan.append(step)
        return made

    # ---- parts ---------------------------------------------------------------------------------

    def _split(self, request: Request) -> Iterator[Resolved]:
        """Yield what has units among a request and, if it has none, among what it needs."""
        found = self.resolve(request)
        if request.stage.units(request.config, found.asked.inputs):
            yield found
            return
        split = [one for needed in found.asked.requests.values() for one in self._split(needed)]
        if not split:
            raise UsageError(
                f"{request.stage.said(request.config)}: more jobs would not speed it up; "
                "leave out --part"
            )
        yield from split

    def _make_part(self, found: Resolved, part: Part, record: Path) -> None:
        self._same_elsewhere(record.parent, found)
        stage, inputs = found.request.stage, found.asked.inputs
        own = _share(list(stage.units(found.request.config, inputs)), part)
        rows = sum(unit.rows for unit in own)
        if found.work is None:  # in a dry run only: what it reads is still to be fetched
            self._note_part(found, part, record, rows, done=False)
            return
        work = Work(f"{found.work.stage}-part", found.work.version, found.work.inputs, {
            **found.work.config, "part": part.number, "parts": part.of,
        })  # fmt: skip
        scratch = drafts.draft_of(record) / _SCRATCH
        whole = drafts.shared_draft(found.made.path, found.work, scratch)
        done = _is_done(record, work) and all(whole.has(unit.name) for unit in own)
        if self.dry:
            self._note_part(found, part, record, rows, done)
            return
        for role, needed in found.asked.requests.items():
            inputs[role] = self._get(needed)
        label = stage.said(found.request.config)
        self.say(f"{label}: part {part}, {rows:,} rows, {len(own)} of its units")
        if not done:
            shutil.rmtree(record, ignore_errors=True)  # units that it speaks of are gone
        draft = drafts.open_draft(record, work)
        if draft.reused:
            return
        try:
            job = self._job(found, whole, part)
            stage.each(job)
            shutil.rmtree(scratch, ignore_errors=True)
            facts = {"part": str(part), "rows": rows, "units": len(own)}
            draft.commit(rows=folder.rows_account(rows, rows, {}), result=facts, run=job.run)
        finally:
            draft.release()

    def _note_part(self, found: Resolved, part: Part, record: Path, rows: int, done: bool) -> None:
        """Add a part to the plan, at its share of the cost of the whole."""
        request = found.request
        step: dict[str, Any] = {"stage": request.stage.name, "part": str(part), "rows": rows}
        if done:
            step |= {"state": "cached", "seconds": 0.0, "bytes": 0}
        else:
            cost = request.stage.cost(request.config, found.asked)
            share = rows / max(found.made.rows, 1)
            scaled = {n: round(cost[n] * share, 1) for n in ("seconds", "bytes") if n in cost}
            step |= {"state": "to do", **cost, **scaled}
        self.plan.append(step | {"out": str(record)})

    def _same_elsewhere(self, records: Path, found: Resolved) -> None:
        """Refuse what machines that made parts resolved otherwise: no join would take both."""
        work = found.work
        if work is None:
            return
        for path in sorted(records.glob(f"[!.]*/{folder.MANIFEST}"))[:1]:
            made = folder.read_manifest(path.parent)
            before = {k: v for k, v in made["config"].items() if k not in ("part", "parts")}
            same = (before, made["inputs"]) == (work.config, work.inputs)
            if made["stage"] == f"{work.stage}-part" and not same:
                what = work.difference(made | {"stage": work.stage, "config": before})
                raise UsageError(
                    f"{work.stage}: part {made['result']['part']} was made otherwise than it would "
                    f"be here: {what}; give that option on every machine, or remove {records}"
                )

    # ---- places --------------------------------------------------------------------------------

    def _place(self, request: Request, work: Work | None) -> Path:
        if work is None:
            return self.root / request.stage.name / "not made yet"
        return self.find(work.stage, work.key) or self.root / work.stage / work.key[:16]

    def _known(self, stage: str) -> dict[str, tuple[Path, Mapping[str, Any]]]:
        """Return the finished outputs of a stage in the work folder, by key."""
        if stage not in self._finished:
            self._finished[stage] = {}
            for place in sorted((self.root / stage).glob("[!.]*")):  # no drafts, which begin so
                if folder.stage_of(place) == stage:
                    manifest = folder.read_manifest(place)
                    self._finished[stage].setdefault(manifest["key"], (place, manifest))
        return self._finished[stage]

    def _reason(self, work: Work) -> str:
        """Say why an output is made anew that another version of its stage had made."""
        for _, manifest in self._known(work.stage).values():
            other = Work(work.stage, manifest["version"], work.inputs, work.config)
            if manifest["key"] == other.key != work.key:
                return f"recomputed because {work.difference(manifest)}"
        return drafts.STARTING

    def _forget(self, found: Resolved) -> None:
        self._finished.pop(found.request.stage.name, None)
        self._resolved = {k: v for k, v in self._resolved.items() if v.made.there}


def corpus_at(path: Path) -> Made:
    """Return a corpus; its key is a hash of its samples, not of how they were made."""
    return Made(path, corpora.key(path), corpora.rows(path))


def _share(units: Sequence[Any], part: Part) -> list[Any]:
    """Return the units of a part: every N-th; none where there are more parts than units."""
    return list(units[part.number - 1 :: part.of])


def _is_done(place: Path, work: Work) -> bool:
    if folder.stage_of(place) != work.stage:
        return False
    return bool(folder.read_manifest(place, work.stage).get("key") == work.key)
