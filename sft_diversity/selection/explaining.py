"""`explain` and `diff`: finished subsets, read back with what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, vectors
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.errors import UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Rows
from sft_diversity.selection import differ
from sft_diversity.selection import explain as explainer
from sft_diversity.selection.dial import make_dial
from sft_diversity.selection.problem import FREE, Limits
from sft_diversity.selection.stage import STAGE, files_of

_TEXT = 300  # characters shown
#: Limits under which the pool is not one of the whole corpus's; a cap leaves the pools alone.
_LIMITS = ("exclude", "must_include", "quality", "match_length", "token_budget", "quota")


@dataclass(frozen=True)
class _Subset:
    manifest: dict[str, Any]
    ids: pa.Array
    rows: Rows
    made: Incidence | None
    names: list[str]

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = self.manifest["result"]
        return result


def explain(subset: Path, id: str, found: Mapping[str, Path]) -> dict[str, Any]:
    """Return why `id` is in `subset` or not; `found` are the folders it was made from.

    Returns
    -------
    dict
        `id, source, picked, instruction, response` (shortened), `pick` (its number, from 0),
        `nearest` (the most similar other pick by embedding, where there are embeddings), and what
        `select.explain` says of a pick or of a row that is none.

    Raises
    ------
    UsageError
        If the corpus has no such sample.
    """
    opened = _open(subset, found)
    place = pc.index(opened.ids, id).as_py()
    if place < 0:
        raise UsageError(f"explain: the corpus has no sample {id!r}; ids are in the column `id`")
    sample = corpora.take(found["corpus"], np.array([place]))
    told: dict[str, Any] = {
        "id": id,
        "source": sample["source"][0].as_py(),
        **{name: sample[name][0].as_py()[:_TEXT] for name in COMPONENTS},
    }
    config = opened.manifest["config"]
    at = np.flatnonzero(opened.rows == place)
    told |= {"picked": bool(len(at)), "strategy": config["strategy"]}
    if len(at):
        told["pick"] = int(at[0])
    if opened.made is not None and len(at):
        told |= explainer.picked(opened.made, opened.names, opened.rows, int(at[0]))
    elif opened.made is not None:
        limits = [name for name in _LIMITS if config[name] is not None]
        if limits:
            told |= {"reason": "constrained", "limits": limits}
            told["nearest_by_kinds"] = explainer.nearest_by_kinds(opened.made, opened.rows, place)
        else:
            holding = opened.rows[np.diff(opened.made.indptr)[opened.rows] > 0]
            beside = opened.result.get("no_kind_picks", 0)
            cap = config["max_per_kind"]
            capped = FREE if cap is None else Limits(cap=cap)
            dial = make_dial(opened.made, config["size"] - beside, limits=capped)
            told |= explainer.rejected(dial, config["diversity"], opened.names, holding, place)
            if told["reason"] == "no_kind" and config["no_kind"] == "fill":
                drawn, of = (opened.result[name] for name in ("no_kind_picks", "no_kind"))
                told |= {"reason": "not_drawn", "new_kinds": [], "chance": round(drawn / of, 4)}
    component = "instruction" if config["strategy"].endswith("-instruction") else "response"
    embedded = found.get(f"embeddings-{component}")
    if embedded is not None:
        _, unit = vectors.read_component(embedded, component)
        told["nearest"] = explainer.nearest_by_embedding(unit, opened.rows, place)
    for name in ("nearest", "nearest_by_kinds"):
        if told.get(name):
            told[name]["id"] = opened.ids[told[name].pop("row")].as_py()
    return told


def diff(
    first: Path, second: Path, found_first: Mapping[str, Path], found_second: Mapping[str, Path]
) -> dict[str, Any]:
    """Return how two subsets of one corpus differ.

    Returns
    -------
    dict
        `rows, kinds` (where both were chosen by one incidence), `sources, figures`; see `differ`.

    Raises
    ------
    UsageError
        If they are of different corpora.
    """
    one, other = _open(first, found_first), _open(second, found_second)
    if one.manifest["inputs"]["corpus"] != other.manifest["inputs"]["corpus"]:
        raise UsageError(f"diff: {first} and {second} are subsets of different corpora")
    told: dict[str, Any] = {"rows": differ.rows(one.rows, other.rows)}
    by = next((part for part in (one, other) if part.made is not None), None)
    if by is not None and by.made is not None:
        told["kinds"] = {
            "by": by.manifest["config"]["strategy"],
            **differ.kinds(by.made, by.names, one.rows, other.rows),
        }
    told["sources"] = differ.mixes(one.result["sources"], other.result["sources"])
    told["figures"] = differ.figures(
        {**one.manifest["config"], **one.result}, {**other.manifest["config"], **other.result}
    )
    return told


def _open(subset: Path, found: Mapping[str, Path]) -> _Subset:
    manifest = folder.read_manifest(subset, STAGE)
    ids = corpora.read(found["corpus"], ["id"])["id"].combine_chunks()
    picked = pa.concat_tables([pq.read_table(path, columns=["id"]) for path in files_of(subset)])
    rows: Rows = pc.index_in(picked["id"], value_set=ids).to_numpy().astype(np.int64)
    made, names = None, []
    if "incidence" in found:
        made = incidence.load(found["incidence"])
        kinds = pq.read_table(found["incidence"] / "kinds.parquet", columns=["kind"])
        names = kinds["kind"].to_pylist()
    elif "incidence" in manifest["inputs"]:
        raise UsageError(f"{subset}: its incidence is not in the work folder; name it with --work")
    return _Subset(manifest, ids, rows, made, names)
