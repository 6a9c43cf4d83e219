"""The engine behind the page, without a web server: what is asked of a corpus and its selections.

It is the engine of `select`: the same store makes what is read, the same function chooses.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import parquet
from sft_diversity.core.errors import SftdivError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.stage import Made
from sft_diversity.exploring.columns import Column
from sft_diversity.exploring.comparing import Opened, shape
from sft_diversity.exploring.jobs import ASIDE, LATER, Job, Worker
from sft_diversity.exploring.settings import CHOICES, Asked, command, python_call, read
from sft_diversity.ingestion import memory
from sft_diversity.selection import stage as selection
from sft_diversity.selection.choices import choose_rows
from sft_diversity.selection.config import SelectConfig
from sft_diversity.stages import store

Told = dict[str, Any]
POSITIONS = tuple(range(0, 101, 5))  # of the dial, in a curve
_ANSWERS, _SHAPES = 256, 16  # kept
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
        self.by_source = Column.coded(self.samples["source"].combine_chunks())
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.chooser, self.maker = Worker("choose", self.jobs), Worker("make", self.jobs)
        self.kept: dict[Any, Any] = {}
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
        return self.submit(
            asked, lambda: self.answer(asked), f"select {asked.config.strategy}", lane=lane
        )

    def submit(
        self, asked: Asked, task: Callable[[], Any], what: str, *, lane: str = "",
        urgency: int = 0, key: Any = None,
    ) -> Job:  # fmt: skip
        """Let the chooser do a task; before it the maker what it reads, where that is not there."""
        key = key or ("select", asked.key)
        if shape(asked.config) in self._opened:
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

    def opened(self, config: SelectConfig) -> Opened:
        """Return the pool that a config selects from; what it reads must be there."""
        of = shape(config)
        if of not in self._opened:
            kept = store(self.work)
            found = kept.resolve(kept.request(selection.STAGE, config, self.corpus))
            pool = selection.open_pool(found.asked.inputs, config, self.kept)
            if len(self._opened) >= _SHAPES:  # each holds what its sizes and limits were made for
                for one in self._by_inputs.values():
                    one.pool.forget()
                    one.beside.clear()
                self._opened.clear()
            index = found.asked.inputs.get("incidence")
            new = Opened(pool, index.path if index else None)
            self._opened[of] = self._by_inputs.setdefault(pool.key, new)
        return self._opened[of]

    def answer(self, asked: Asked) -> Answer:
        """Return what options pick, beside the corpus and random samples; they are kept."""
        if asked.key in self._answers:
            return self._answers[asked.key]
        config, started = asked.config, time.perf_counter()
        known = shape(config) in self._opened
        opened = self.opened(config)
        rows, made = choose_rows(opened.pool, config)
        picked = {
            "id": self.ids.take(pa.array(rows)),
            "source": pa.array(self.by_source.labels).take(pa.array(self.by_source.values[rows])),
        }
        figures = selection.stated(self.corpus.path, config, made, pa.table(picked))
        beside = opened.compared(config, rows, figures, self.by_source)
        seconds = time.perf_counter() - started
        if not known:
            self._dial_s[config.strategy] = seconds
        told = {
            "figures": figures,
            "digest": figures["ids_key"],
            "command": command(asked, self.sources, self.work),
            "python": python_call(asked, self.sources, self.work),
            "beside": beside,
            "lengths": opened.edges.tolist(),
            "seconds": round(seconds, 3),
        }
        answer = Answer(rows.astype(np.uint32), told)
        self._answers[asked.key] = answer
        while len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)
        return answer

    def answer_of(self, asked: Asked) -> Answer:
        """Return an answer, waited for; not from the choosing thread."""
        found = self._answers.get(asked.key)
        if found is None:
            job = self.submit(asked, lambda: self.answer(asked), "select", urgency=ASIDE)
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
        return self.submit(
            asked, lambda: self._curve(asked, key), what, urgency=LATER, key=("curve", key)
        )

    def _curve(self, asked: Asked, key: str) -> Generator[float, None, Told]:
        answers = []
        for number, at in enumerate(POSITIONS):
            answers.append(self.answer(asked.at(at)).told["beside"])
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

    # ---- what is at hand -----------------------------------------------------------------------

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
