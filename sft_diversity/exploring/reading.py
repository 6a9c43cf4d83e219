"""What the page reads of the samples: the map, columns, texts, what holds a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, parquet
from sft_diversity.core.errors import UsageError
from sft_diversity.core.messages import component_of, without_nulls
from sft_diversity.exploring.columns import Column, meta_columns
from sft_diversity.exploring.jobs import Job
from sft_diversity.exploring.marks import Mark, marker
from sft_diversity.exploring.session import Session
from sft_diversity.exploring.settings import CHOICES, NAMES
from sft_diversity.maps.stage import STAGE as MAP
from sft_diversity.maps.stage import TABLE
from sft_diversity.selection.config import SelectConfig
from sft_diversity.stages import store

Told = dict[str, Any]
_TEXT, _WHOLE, _FOUND = 600, 200_000, 20_000  # characters of a table, of a sample; rows of a search
_NO_PLACE = 65_535
_COUNTED = ("instruction_tokens", "response_tokens")
_MAPPED = "micro-response"  # whose kinds a map is laid out by, where none are at hand


class Reader:
    """Reads for the page.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._places: npt.NDArray[np.uint16] | None = None
        self._map: Told | None = None

    def corpus(self) -> Told:
        """Return what there is to explore, and how it is asked for.

        What strategies would take is not found out here: dry plans of all take seconds.
        """
        of, fields = self.session, SelectConfig.model_fields
        settings = {n: None if fields[n].is_required() else fields[n].default for n in NAMES}
        return {
            "name": of.name,
            "n": of.n,
            "digest": of.corpus.key,
            "strategies": [
                {"name": name, "ready": None, "seconds": None, "why": None}
                for name in of.strategy_names
            ],
            "sources": of.by_source.labels,
            "settings": settings | {n: v for n, v in of.given.items() if n in NAMES},
            "choices": {name: list(words) for name, words in CHOICES.items()},
            "columns": self._columns_told(),
            "map": self._map_told(),
        }

    # ---- the map -------------------------------------------------------------------------------

    def _map_options(self) -> Told | None:
        """Return what a map is laid out by: embeddings at hand, else kinds; None: no index yet."""
        of = self.session
        for component, place in sorted(of.embedded.items(), reverse=True):  # response first
            return {"by": "embeddings", "component": component, "place": str(place)}
        strategy = str(of.given["strategy"])
        found = store(of.work).finished("index")
        held = [
            (manifest["config"]["strategy"] != strategy, str(place), manifest)
            for place, manifest in found
            if manifest["inputs"].get("corpus", of.corpus.key) == of.corpus.key
        ]
        if not held:
            return None
        _, at, manifest = min(held, key=lambda one: one[:2])
        component = component_of(manifest["config"]["strategy"])
        return {"by": "kinds", "component": component, "place": at}

    def _map_told(self) -> Told:
        if self._map is not None:
            return self._map
        options = self._map_options()
        if options is None:
            return {"by": "kinds", "ready": False, "seconds": self._map_seconds, "regions": []}
        dry = store(self.session.work, dry=True)
        made = dry.get(MAP, options, self.session.corpus)
        told = {"by": options["by"], "ready": made.there, "regions": []}
        told["seconds"] = 0 if made.there else self._map_seconds
        if made.there:
            told["regions"] = folder.read_manifest(made.path)["result"]["regions"]
        return told

    @property
    def _map_seconds(self) -> float:
        landmarks = min(3_000, self.session.n)
        return round(0.004 * landmarks + self.session.n * landmarks * 2e-8, 1)

    def places(self) -> npt.NDArray[np.uint16] | Job:
        """Return x, y of every row, 0 to 65,534, or 65,535 where it has none; or the job."""
        if self._places is not None:
            return self._places
        job = self.session.maker.submit(
            "lay out the map", lambda: self.lay_out() is None, key="map", seconds=self._map_seconds
        )
        job.wait(0.25)
        return job if self._places is None else self._places

    def lay_out(self) -> npt.NDArray[np.uint16]:
        """Return the places, made first where they are not there; in the making thread."""
        if self._places is not None:
            return self._places
        of = self.session
        if (own := of.given.get("embeddings")) is not None:
            named = {"embeddings": own, "components": (component_of(str(of.given["strategy"])),)}
            store(of.work).get("embed", named, of.corpus)
        options = self._map_options()
        if options is None:  # a map by kinds needs some
            index = of.asked({"strategy": _MAPPED}).config.index_options
            store(of.work).get("index", index, of.corpus)
            options = self._map_options()
        assert options is not None
        made = store(of.work).get(MAP, options, of.corpus)
        table = parquet.read(made.path / TABLE, ["x", "y"])
        both = np.column_stack([table[n].to_numpy().astype(np.float64) for n in ("x", "y")])
        scaled = np.rint(both / 1_000 * (_NO_PLACE - 1))
        found = np.where(np.isnan(both), _NO_PLACE, scaled).astype(np.uint16)
        regions = folder.read_manifest(made.path)["result"]["regions"]
        self._map = {"by": options["by"], "ready": True, "seconds": 0, "regions": regions}
        self._places = found
        return found

    def brief(self, rows: npt.NDArray[np.int64], most: int) -> list[list[Any]]:
        """Return samples as row, id, instruction, response, texts cut at so many characters."""
        taken = self.session.samples.take(pa.array(rows)).select(["id", "instruction", "response"])
        columns = [taken[name].to_pylist() for name in taken.column_names]
        return [
            [row, id, one[:most], other[:most]]
            for row, id, one, other in zip(rows.tolist(), *columns, strict=True)
        ]

    # ---- columns -------------------------------------------------------------------------------

    @cached_property
    def _columns(self) -> dict[str, Column]:
        """Columns that never change: the source, and what most samples have in their `meta`."""
        of = self.session
        metas = corpora.read(of.corpus.path, ["meta"])["meta"]
        return {"source": of.by_source, **meta_columns(metas)}

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """Return the codes of a category, or numbers, a value for each row; None: not known yet."""
        if name in self._columns:
            return self._columns[name].values
        if name == "kinds":
            opened = self.session.incidence(None)
            return None if opened is None else np.diff(opened.pool.kinds.indptr).astype(np.float32)
        if name not in _COUNTED:
            raise UsageError(f"explore: there is no column {name[:60]!r}")
        lengths = self.session.lengths(name.removesuffix("_tokens"))
        return None if lengths is None else lengths.astype(np.float32)

    def _columns_told(self) -> list[Told]:
        every: dict[str, Column | None] = dict(self._columns)
        for name in (*_COUNTED, "kinds"):
            values = self.column(name)
            every[name] = None if values is None else Column(values)
        return [
            {"name": name, "sort": "number", "labels": None, "low": None, "high": None}
            if one is None
            else {"name": name, **one.told()}
            for name, one in every.items()
        ]

    # ---- texts ---------------------------------------------------------------------------------

    def samples(self, rows: list[int], strategy: str | None) -> list[Told]:
        """Return samples for a table, long texts cut."""
        for row in rows:
            self.session.check_row(row)
        taken = self.session.samples.take(pa.array(rows, pa.int64())).to_pylist()
        sizes = {part: self.session.lengths(part) for part in ("instruction", "response")}
        opened = self.session.incidence(strategy)
        held = None if opened is None else opened.pool.kinds
        found = []
        for row, sample in zip(rows, taken, strict=True):
            texts = {part: sample[part] for part in ("instruction", "response")}
            told: Told = {"row": row, "id": sample["id"], "source": sample["source"]}
            told |= {part: text[:_TEXT] for part, text in texts.items()}
            told["cut"] = any(len(text) > _TEXT for text in texts.values())
            for part, lengths in sizes.items():
                told[f"{part}_tokens"] = None if lengths is None else int(lengths[row])
            told["kinds"] = None if held is None else int(held.indptr[row + 1] - held.indptr[row])
            found.append(told)
        return found

    def sample(self, row: int, strategy: str | None) -> Told:
        """Return a sample whole, its turns with where its kinds stand."""
        of_page = str(self.session.given["strategy"])
        self.session.check_row(row)
        sample = corpora.take(self.session.corpus.path, np.array([row])).to_pylist()[0]
        turns, left, marks = [], _WHOLE, self._marker(row, strategy)
        total = sum(len(turn["content"]) for turn in sample["messages"])
        by = "user" if component_of(strategy or of_page) == "instruction" else "assistant"
        for turn in map(without_nulls, sample["messages"]):
            more = {name: turn[name][:_WHOLE] for name in turn if name not in ("role", "content")}
            text = turn["content"][:left]
            left -= len(text)
            held = marks(text) if turn["role"] == by else []
            turns.append({"role": turn["role"], "text": text, "marks": held, **more})
        meta = json.loads(sample["meta"] or "{}")
        told: Told = {"row": row, "id": sample["id"], "source": sample["source"], "turns": turns}
        told |= {"total_characters": total, "cut": total > _WHOLE, "columns": meta}
        return told

    def _marker(self, row: int, strategy: str | None) -> Callable[[str], list[Mark]]:
        opened = self.session.incidence(strategy)
        if opened is None:
            return lambda text: []
        held = opened.pool.kinds
        kinds = held.indices[held.indptr[row] : held.indptr[row + 1]].tolist()
        return marker(opened.kinds, kinds, opened.pool.indexed, self.session.given.get("tokenizer"))

    def search(self, text: str, where: str) -> tuple[npt.NDArray[np.uint32], int]:
        """Return the first rows that hold a text, whatever its case, and how many do."""
        parts = {"both": ("instruction", "response")}.get(where, (where,))
        if not set(parts) <= {"instruction", "response"}:
            raise UsageError("explore: search in both, instruction or response")
        if not text or len(text) > 1_000:
            raise UsageError("explore: search for a text of 1 to 1,000 characters")
        held = np.zeros(self.session.n, bool)
        for part in parts:
            found = pc.match_substring(self.session.samples[part], text, ignore_case=True)
            held |= found.combine_chunks().to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(held)
        return rows[:_FOUND].astype(np.uint32), len(rows)
