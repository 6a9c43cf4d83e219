"""The engine behind the page, without a web server: what is asked of a corpus and its selections.

It is the engine of `select`: the same store makes what is read, the same function chooses.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import parquet, vectors
from sft_diversity.core.errors import SftdivError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.kernels import Rows
from sft_diversity.core.numbers import evenness
from sft_diversity.core.stage import Made
from sft_diversity.exploring.jobs import ASIDE, LATER, Job, Worker
from sft_diversity.exploring.settings import CHOICES, Asked, command, python_call, read
from sft_diversity.ingestion import memory
from sft_diversity.selection import stage as selection
from sft_diversity.selection.choices import choose_rows, describe_picks
from sft_diversity.selection.config import EMBEDDED, SelectConfig
from sft_diversity.selection.explain import OpenedSubset, PickedBy, explain_row
from sft_diversity.selection.pick_state import row_sums
from sft_diversity.selection.pool import Pool
from sft_diversity.selection.problem import Problem
from sft_diversity.selection.show import reasons
from sft_diversity.stages import store

Told = dict[str, Any]
POSITIONS = tuple(range(0, 101, 5))  # of the dial, in a curve
_DRAWN = {"diversity", "seed", "fill"}  # what a dial that was made serves all of
_ANSWERS, _SHAPES = 256, 16  # kept
_BINS = 24  # of the histogram of lengths
_DIAL_S = 2e-5  # a guess: seconds for each sample, where no dial was made yet


@dataclass(frozen=True, eq=False)
class Answer:
    """What a selection comes to.

    Attributes
    ----------
    rows : uint32 array, shape (size,)
        In pick order.
    told : dict
        Figures as `select --json` prints them, digest, command, comparison.
    """

    rows: npt.NDArray[np.uint32]
    told: Told


@dataclass(eq=False)
class Opened:
    """A pool, and where its incidence lies.

    Attributes
    ----------
    beside : dict
        What random samples of a shape of settings come to, by that shape.
    """

    pool: Pool
    index: Path | None
    beside: dict[str, Told] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> pa.Table:
        """The table of kinds."""
        assert self.index is not None
        return parquet.read(self.index / "kinds.parquet")

    @cached_property
    def names(self) -> list[str]:
        """The kinds' names."""
        found: list[str] = self.kinds["kind"].to_pylist()
        return found


class Session:
    """A corpus, its pools and what was answered.

    Parameters
    ----------
    corpus : Made
    sources : sequence of str
        As they were named: of them the commands speak.
    work : Path
        The work folder.
    given : mapping
        Options of `select` to begin with.
    root : Path
        Below it, and nowhere else, is written.
    """

    def __init__(
        self, corpus: Made, sources: Sequence[str], work: Path, given: Mapping[str, Any], root: Path
    ) -> None:
        self.corpus, self.sources, self.work = corpus, [*map(str, sources)], work
        self.root = root.resolve()
        self.given = dict(given)
        self.samples = corpora.read(corpus.path, ["id", "source", "instruction", "response"])
        self.ids = self.samples["id"].combine_chunks()
        self.n = len(self.ids)
        source = self.samples["source"].combine_chunks().dictionary_encode()
        order = np.argsort(source.dictionary.to_pylist(), kind="stable")
        self.labels: list[str] = source.dictionary.take(pa.array(order)).to_pylist()
        place = np.empty(len(order), np.uint16)
        place[order] = np.arange(len(order), dtype=np.uint16)
        self.source_codes = place[source.indices.to_numpy()]
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.chooser, self.maker = Worker("choose", self.jobs), Worker("make", self.jobs)
        self._kept: dict[Any, Any] = {}
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._curves: OrderedDict[str, Told] = OrderedDict()
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._by_inputs: dict[Any, Opened] = {}
        self._dial_s: dict[str, float] = {}

    # ---- what is asked for ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Of the corpus, for people."""
        return ", ".join(Path(one).name or one for one in self.sources)

    def asked(self, settings: Any) -> Asked:
        """Return the options that settings of a page come to; see `settings.read`."""
        return read(settings, self.given, self._ids_file)

    def _ids_file(self, given: Sequence[str | int]) -> str | None:
        """Write ids, or rows' ids, to the work folder; return the file."""
        rows = [one for one in given if isinstance(one, int)]
        if any(not 0 <= row < self.n for row in rows):
            raise UsageError(f"explore: rows are 0 to {self.n - 1:,}")
        ids = {one for one in given if isinstance(one, str)}
        ids.update(self.ids.take(pa.array(rows, pa.int64())).to_pylist())
        return memory.ids_at(sorted(ids), self.work)

    def select(self, settings: Any, lane: str = "") -> Answer | Job:
        """Return what settings pick, or the job that will know."""
        asked = self.asked(settings)
        found = self._answers.get(asked.key)
        if found is not None:
            return found
        return self._submit(
            asked, lambda: self._answer(asked), f"select {asked.config.strategy}", lane=lane
        )

    def _submit(
        self, asked: Asked, task: Callable[[], Any], what: str, *, lane: str = "",
        urgency: int = 0, key: Any = None,
    ) -> Job:  # fmt: skip
        """Let the chooser do a task; before it the maker what it reads, where that is not there."""
        key = key or ("select", asked.key)
        if self.shape(asked.config) in self._opened:
            return self.chooser.submit(what, task, key=key, lane=lane, urgency=urgency)
        missing, seconds = self._missing(asked.config)
        dial = self._dial_s.get(asked.config.strategy, _DIAL_S * self.n)
        if not missing:
            return self.chooser.submit(
                f"{what}: the dial for {asked.config.size:,}", task, key=key, lane=lane,
                urgency=urgency, seconds=dial,
            )  # fmt: skip

        def made() -> Any:
            store(self.work).prepare(selection.STAGE, asked.config, self.corpus)
            later = self.chooser.submit(what, task, key=key, lane=lane, urgency=urgency)
            later.wait(None)
            return later.result

        what = f"make {', '.join(missing)}, once"
        return self.maker.submit(what, made, key=key, lane=lane, seconds=round(seconds + dial, 1))

    def _missing(self, config: SelectConfig) -> tuple[list[str], float]:
        """Return the stages that are to be made before a selection, and their seconds."""
        dry = store(self.work, dry=True)
        dry.prepare(selection.STAGE, config, self.corpus)
        left = [step for step in dry.plan if step["state"] != "cached"]
        return [step["stage"] for step in left], sum(step.get("seconds", 0.0) for step in left)

    def strategies(self) -> list[Told]:
        """Return what making each strategy takes, and why one cannot be."""
        return [self._strategy(name) for name in self.strategy_names]

    @cached_property
    def strategy_names(self) -> list[str]:
        """The strategies that the corpus and the options fit."""
        return [name for name in CHOICES["strategy"] if self._applies(name)]

    def _applies(self, name: str) -> bool:
        if name == "own":
            return self.given.get("kinds_column") is not None
        derived = name.endswith(("-thinking", "-answer", "-tool-call"))
        return not derived or "tools" in parquet.schema(corpora.shards(self.corpus.path)[0]).names

    def _strategy(self, name: str) -> Told:
        size = min(self.n, 2)
        try:
            config = read({"strategy": name, "size": size}, self.given, self._ids_file).config
            missing, seconds = self._missing(config)
        except SftdivError as fault:
            return {"name": name, "ready": False, "seconds": 0, "why": str(fault)}
        return {"name": name, "ready": not missing, "seconds": round(seconds, 1), "why": None}

    # ---- in the choosing thread ----------------------------------------------------------------

    @staticmethod
    def shape(config: SelectConfig) -> str:
        """Return a key of all options but those that a dial that was made serves all of."""
        drawn = set() if config.strategy in EMBEDDED else _DRAWN
        return content_key(config.model_dump(mode="json", exclude=drawn))

    def opened(self, config: SelectConfig) -> Opened:
        """Return the pool that a config selects from; what it reads must be there."""
        shape = self.shape(config)
        if shape not in self._opened:
            kept = store(self.work)
            found = kept.resolve(kept.request(selection.STAGE, config, self.corpus))
            pool = selection.open_pool(found.asked.inputs, config, self._kept)
            if len(self._opened) >= _SHAPES:  # each holds what its sizes and limits were made for
                for one in self._by_inputs.values():
                    one.pool.forget()
                    one.beside.clear()
                self._opened.clear()
            index = found.asked.inputs.get("incidence")
            new = Opened(pool, index.path if index else None)
            self._opened[shape] = self._by_inputs.setdefault(pool.key, new)
        return self._opened[shape]

    def _answer(self, asked: Asked) -> Answer:
        if asked.key in self._answers:
            return self._answers[asked.key]
        config, started = asked.config, time.perf_counter()
        known = self.shape(config) in self._opened
        opened = self.opened(config)
        rows, made = choose_rows(opened.pool, config)
        taken = pa.array(rows)
        samples = pa.table(
            {"id": self.ids.take(taken), "source": pa.array(self.labels).take(self._sources(rows))}
        )
        figures = selection.stated(self.corpus.path, config, made, samples)
        beside = {
            "picked": self._described(opened, config, rows, figures),
            "corpus": self._of_corpus(opened, config),
            "random": self._random(opened, config),
        }
        seconds = time.perf_counter() - started
        if not known:
            self._dial_s[config.strategy] = seconds
        told = {
            "figures": figures,
            "digest": figures["ids_key"],
            "command": command(asked, self.sources, self.work),
            "python": python_call(asked, self.sources, self.work),
            "beside": beside,
            "lengths": self.edges(opened.pool).tolist(),
            "seconds": round(seconds, 3),
        }
        answer = Answer(rows.astype(np.uint32), told)
        self._answers[asked.key] = answer
        while len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)
        return answer

    def _sources(self, rows: Rows) -> pa.Array:
        return pa.array(self.source_codes[rows])

    def edges(self, pool: Pool) -> npt.NDArray[np.int64]:
        """Return the bounds of the bins of response lengths, in tokens; the last is exclusive."""
        most = int(pool.tokens["response"].lengths.max(initial=1))
        edges = np.unique(np.geomspace(1, most + 1, _BINS).astype(np.int64))
        return np.concatenate([[0], edges])

    def _described(
        self, opened: Opened, config: SelectConfig, rows: Rows, figures: Mapping[str, Any]
    ) -> Told:
        """Return what is compared of picks, of the corpus and of random samples."""
        pool = opened.pool
        told: Told = {"kinds": None, "coverage": None, "evenness": None}
        if pool.incidence is not None and config.needs_incidence:
            if "kinds_covered" in figures:
                told["kinds"], told["evenness"] = figures["kinds_covered"], figures["evenness"]
            else:
                held = Problem(pool.kinds, rows, len(rows)).held(rows)
                told["kinds"] = int(np.count_nonzero(held))
                told["evenness"] = round(evenness(held), 6)
            told["coverage"] = round(told["kinds"] / max(1, pool.kinds.n_kinds), 6)
        means = ("entropy_bits", "instruction_tokens", "response_tokens")
        told |= {name: figures[name] for name in means}
        shares = np.bincount(self.source_codes[rows], minlength=len(self.labels)) / len(rows)
        told["sources"] = dict(zip(self.labels, shares.round(5).tolist(), strict=True))
        lengths = pool.tokens["response"].lengths[rows]
        told["lengths"] = np.histogram(lengths, self.edges(pool))[0].tolist()
        return told

    def _of_corpus(self, opened: Opened, config: SelectConfig) -> Told:
        key = f"corpus {config.component} {config.needs_incidence}"
        if key not in opened.beside:
            rows = np.arange(self.n)
            means = describe_picks(rows, opened.pool.tokens, config.component)
            opened.beside[key] = self._described(opened, config, rows, means)
        return opened.beside[key]

    def _random(self, opened: Opened, config: SelectConfig) -> Told:
        """Return what as many random samples within the same limits come to."""
        key = self.shape(config)
        if key not in opened.beside:
            free = {"max_per_kind": None, "no_kind": "out", "objective": "kinds"}
            drawn = config.model_copy(update={"strategy": "random", "seed": 0, **free})
            rows, _ = choose_rows(opened.pool, drawn)
            means = describe_picks(rows, opened.pool.tokens, config.component)
            opened.beside[key] = self._described(opened, config, rows, means)
        return opened.beside[key]

    def answer_of(self, asked: Asked) -> Answer:
        """Return an answer, waited for; not from the choosing thread."""
        found = self._answers.get(asked.key)
        if found is None:
            job = self._submit(asked, lambda: self._answer(asked), "select", urgency=ASIDE)
            job.wait(None)
            found = job.result
        assert isinstance(found, Answer)
        return found

    # ---- the whole dial ------------------------------------------------------------------------

    def curve(self, settings: Any) -> Told | Job:
        """Return the figures over the whole dial, or the job that will know them."""
        return self._curve_or_job(self.asked(settings))

    def curve_of(self, asked: Asked) -> Told:
        """Return a curve, waited for; not from the choosing thread."""
        found = self._curve_or_job(asked)
        if isinstance(found, Job):
            found.wait(None)
            found = found.result
        assert isinstance(found, dict)
        return found

    def _curve_or_job(self, asked: Asked) -> Told | Job:
        key = content_key(asked.config.model_dump(mode="json", exclude={"diversity"}))
        if key in self._curves:
            return self._curves[key]
        what = f"curve of {asked.config.strategy}"
        return self._submit(
            asked, lambda: self._curve(asked, key), what, urgency=LATER, key=("curve", key)
        )

    def _curve(self, asked: Asked, key: str) -> Generator[float, None, Told]:
        answers = []
        for number, at in enumerate(POSITIONS):
            answers.append(self._answer(asked.at(at)).told["beside"])
            yield (number + 1) / len(POSITIONS)
        names = ("kinds", "coverage", "entropy_bits", "response_tokens", "instruction_tokens")
        told: Told = {"diversity": list(POSITIONS)}
        for name in (*names, "evenness"):
            told[name] = [one["picked"][name] for one in answers]
        told["random"] = answers[0]["random"]
        self._curves[key] = told
        while len(self._curves) > _SHAPES:
            self._curves.popitem(last=False)
        return told

    # ---- questions about samples ---------------------------------------------------------------

    def explain(self, settings: Any, row: int) -> Job:
        """Return the job that says why a row is picked, or is not."""
        asked = self.asked(settings)
        self.check_row(row)

        def told() -> Told:
            answer, opened = self._answer(asked), self.opened(asked.config)
            by, dial, picks = None, None, answer.rows.astype(np.int64)
            if asked.config.needs_incidence:
                by = PickedBy(opened.pool.kinds, opened.names, picks)
                dial, _ = opened.pool.dial(asked.config)
            manifest = {
                "config": asked.config.model_dump(mode="json"), "result": answer.told["figures"],
            }  # fmt: skip
            subset = OpenedSubset(manifest, self.ids, picks, by)
            found = explain_row(
                self.corpus.path, subset, row, self.points(asked.config.component), dial
            )
            return {"told": found, "lines": reasons(found)}

        key = ("explain", asked.key, row)
        return self._submit(asked, told, "explain", urgency=ASIDE, key=key)

    def nearest(self, settings: Any, row: int, many: int) -> Job:
        """Return the job that knows the rows most like one: by embeddings, else by kinds."""
        asked = self.asked(settings)
        self.check_row(row)

        def found() -> npt.NDArray[np.uint32]:
            points = self.points(asked.config.component)
            if points is not None:
                alike = points @ points[row]
            else:
                alike = self._alike(self.opened(asked.config).pool, row)
            alike[row] = -np.inf
            order = np.argsort(-alike, kind="stable")[:many]
            rows: npt.NDArray[np.uint32] = order[alike[order] > 0].astype(np.uint32)
            return rows

        key = ("nearest", self.shape(asked.config), row, many)
        return self._submit(asked, found, "nearest", urgency=ASIDE, key=key)

    def _alike(self, pool: Pool, row: int) -> npt.NDArray[np.float64]:
        """Return the Jaccard index of every row's kinds with those of one."""
        if pool.incidence is None:
            return np.zeros(self.n)
        held, every = pool.kinds, np.arange(self.n)
        kinds = held.indices[held.indptr[row] : held.indptr[row + 1]]
        own = np.zeros(held.n_kinds)
        own[kinds] = 1.0
        problem = Problem(held, every, self.n)
        both = row_sums(*problem.by_row, every, own)
        either = np.diff(held.indptr) + len(kinds) - both
        return np.asarray(both / np.maximum(either, 1))

    def points(self, component: str) -> vectors.Vectors | None:
        """Return the unit vectors of a component, where they are at hand."""
        place = self.embedded.get(component)
        if place is None:
            return None
        key = ("points", place, component)
        if key not in self._kept:
            self._kept[key] = vectors.read_component(place, component)[1]
        found: vectors.Vectors = self._kept[key]
        return found

    @property
    def embedded(self) -> dict[str, Path]:
        """Embeddings of the corpus that the work folder holds, by component."""
        found: dict[str, Path] = {}
        for place, manifest in store(self.work).finished("embed"):
            if manifest["inputs"].get("corpus") == self.corpus.key:
                for component in manifest["config"]["components"]:
                    found.setdefault(component, place)
        return found

    def lengths(self, component: str) -> npt.NDArray[np.int32] | None:
        """Return the tokens of every sample's component; None where none were counted yet."""
        for one in [*self._by_inputs.values()]:
            return np.asarray(one.pool.tokens[component].lengths)  # type: ignore[index]
        return None

    def incidence(self, strategy: str | None) -> Opened | None:
        """Return the pool of a strategy by whose kinds something was chosen already."""
        wanted = strategy or self.given["strategy"]
        opened = [*self._by_inputs.values()]
        return next((one for one in opened if one.pool.indexed.get("strategy") == wanted), None)

    def check_row(self, row: Any) -> None:
        """Refuse what is no row of the corpus."""
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < self.n:
            raise UsageError(f"explore: a row is 0 to {self.n - 1:,}")
