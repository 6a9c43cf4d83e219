"""What the page reads of the samples: the map, columns, texts, what holds a text."""

from __future__ import annotations

import json
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
from sft_diversity.exploring.jobs import Job
from sft_diversity.exploring.session import Session
from sft_diversity.exploring.settings import CHOICES, NAMES
from sft_diversity.maps.stage import STAGE as MAP
from sft_diversity.maps.stage import TABLE
from sft_diversity.selection.config import SelectConfig
from sft_diversity.stages import store

Told = dict[str, Any]
_TEXT, _WHOLE, _FOUND = 600, 200_000, 20_000  # characters of a table, of a sample; rows of a search
_NO_PLACE = 65_535
_LABELS = 256  # different values of a column that is coloured by


class Reader:
    """Reads for the page.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._of = session
        self._places: npt.NDArray[np.uint16] | None = None
        self._map: Told | None = None

    def corpus(self) -> Told:
        """Return what there is to explore, and how it is asked for."""
        of, fields = self._of, SelectConfig.model_fields
        settings = {n: None if fields[n].is_required() else fields[n].default for n in NAMES}
        return {
            "name": of.name,
            "n": of.n,
            "digest": of.corpus.key,
            "strategies": of.strategies(),
            "sources": of.labels,
            "settings": settings | {n: v for n, v in of.given.items() if n in NAMES},
            "choices": {name: list(words) for name, words in CHOICES.items()},
            "columns": [self._column_told(name) for name in self._columns],
            "map": self._map_told(),
        }

    # ---- the map -------------------------------------------------------------------------------

    def _map_options(self) -> Told | None:
        """Return what a map is laid out by: embeddings at hand, else kinds; None: no index yet."""
        of = self._of
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
        dry = store(self._of.work, dry=True)
        made = dry.get(MAP, options, self._of.corpus)
        told = {"by": options["by"], "ready": made.there, "regions": []}
        told["seconds"] = 0 if made.there else self._map_seconds
        if made.there:
            told["regions"] = folder.read_manifest(made.path)["result"]["regions"]
        return told

    @property
    def _map_seconds(self) -> float:
        landmarks = min(3_000, self._of.n)
        return round(0.004 * landmarks + self._of.n * landmarks * 2e-8, 1)

    def places(self) -> npt.NDArray[np.uint16] | Job:
        """Return x, y of every row, 0 to 65,534, or 65,535 where it has none; or the job."""
        if self._places is not None:
            return self._places
        of = self._of

        def laid_out() -> None:
            options = self._map_options()
            if options is None:  # a map by kinds needs some
                store(of.work).prepare("select", of.asked({}).config, of.corpus)
                options = self._map_options()
            if options is None:
                raise UsageError("explore: a map needs kinds or embeddings; choose a strategy")
            made = store(of.work).get(MAP, options, of.corpus)
            table = parquet.read(made.path / TABLE, ["x", "y"])
            both = np.column_stack([table[n].to_numpy().astype(np.float64) for n in ("x", "y")])
            scaled = np.rint(both / 1_000 * (_NO_PLACE - 1))
            found = np.where(np.isnan(both), _NO_PLACE, scaled).astype(np.uint16)
            self._places = found
            regions = folder.read_manifest(made.path)["result"]["regions"]
            self._map = {"by": options["by"], "ready": True, "seconds": 0, "regions": regions}

        job = of.maker.submit("lay out the map", laid_out, key="map", seconds=self._map_seconds)
        job.wait(0.25)
        return job if self._places is None else self._places

    # ---- columns -------------------------------------------------------------------------------

    @cached_property
    def _columns(self) -> dict[str, str]:
        """Names of columns and their sort; of `meta` those keys that most samples have."""
        return {"source": "category", "instruction_tokens": "number", "response_tokens": "number"}

    def _column_told(self, name: str) -> Told:
        told: Told = {"name": name, "sort": self._columns[name], "labels": None}
        told |= {"low": None, "high": None}
        if name == "source":
            told["labels"] = self._of.labels
        return told

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """Return the codes of a category, or numbers, a value for each row; None: not known yet."""
        if name == "source":
            codes: npt.NDArray[np.uint16] = self._of.source_codes
            return codes
        if name in ("instruction_tokens", "response_tokens"):
            lengths = self._of.lengths(name.removesuffix("_tokens"))
            if lengths is None:
                return None
            tokens: npt.NDArray[np.float32] = lengths.astype(np.float32)
            return tokens
        raise UsageError(f"explore: there is no column {name[:60]!r}")

    # ---- texts ---------------------------------------------------------------------------------

    def samples(self, rows: list[int], strategy: str | None) -> list[Told]:
        """Return samples for a table, long texts cut."""
        for row in rows:
            self._of.check_row(row)
        taken = self._of.samples.take(pa.array(rows, pa.int64())).to_pylist()
        sizes = {part: self._of.lengths(part) for part in ("instruction", "response")}
        opened = self._of.incidence(strategy)
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
        """Return a sample whole, its turns with what marks its kinds."""
        self._of.check_row(row)
        sample = corpora.take(self._of.corpus.path, np.array([row])).to_pylist()[0]
        turns, left = [], _WHOLE
        total = sum(len(turn["content"]) for turn in sample["messages"])
        for turn in map(without_nulls, sample["messages"]):
            more = {name: turn[name] for name in turn if name not in ("role", "content")}
            text = turn["content"][:left]
            left -= len(text)
            turns.append({"role": turn["role"], "text": text, "marks": [], **more})
        meta = json.loads(sample["meta"] or "{}")
        told: Told = {"row": row, "id": sample["id"], "source": sample["source"], "turns": turns}
        told |= {"total_characters": total, "cut": total > _WHOLE, "columns": meta}
        return told

    def search(self, text: str, where: str) -> tuple[npt.NDArray[np.uint32], int]:
        """Return the first rows that hold a text, whatever its case, and how many do."""
        parts = {"both": ("instruction", "response")}.get(where, (where,))
        if not set(parts) <= {"instruction", "response"}:
            raise UsageError("explore: search in both, instruction or response")
        if not text or len(text) > 1_000:
            raise UsageError("explore: search for a text of 1 to 1,000 characters")
        held = np.zeros(self._of.n, bool)
        for part in parts:
            found = pc.match_substring(self._of.samples[part], text, ignore_case=True)
            held |= found.combine_chunks().to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(held)
        return rows[:_FOUND].astype(np.uint32), len(rows)
