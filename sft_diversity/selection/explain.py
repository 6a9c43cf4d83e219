"""Why a sample is in a subset or is not, in the terms of the choice; how two subsets differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, parquet, vectors
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.errors import UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.kernels import Ints, Rows
from sft_diversity.core.messages import component_of
from sft_diversity.core.vectors import Vectors
from sft_diversity.selection.constraints import rows_named
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.pick_state import row_sums
from sft_diversity.selection.problem import FREE, PickLimits, Problem
from sft_diversity.selection.stage import STAGE

Told = dict[str, Any]
_TEXT = 300  # characters shown
_SHOWN = 20  # kinds named
#: PickLimits under which the pool is not one of the whole corpus's; a cap leaves the pools alone.
_LIMITS = ("exclude", "must_include", "quality", "match_length", "token_budget", "quota")


@dataclass(frozen=True)
class PickedBy:
    """The picks of a subset, and the incidence that they were chosen by with the kinds' names."""

    incidence: Incidence
    names: Sequence[str]
    picks: Rows

    def kinds_of(self, row: int) -> Ints:
        """Return the kinds of a row."""
        ends = self.incidence.indptr[row : row + 2]
        return np.asarray(self.incidence.indices[ends[0] : ends[1]], np.int64)

    def held(self, picks: Rows) -> Ints:
        """Return how many of `picks` hold each kind."""
        return Problem(self.incidence, picks, len(picks)).held(picks)

    def named(self, kinds: Ints) -> list[str]:
        """Return the names of kinds."""
        return [self.names[int(kind)] for kind in kinds]


@dataclass(frozen=True)
class OpenedSubset:
    """A subset with its corpus's ids; of the manifest `config` and `result` are read."""

    manifest: Mapping[str, Any]
    ids: pa.Array
    picks: Rows
    by: PickedBy | None


def explain_sample(subset: Path, id: str, found: Mapping[str, Path]) -> Told:
    """Return why `id` is in `subset` or not; `found` are the folders it was made from.

    Returns
    -------
    dict
        `id, source, picked, instruction, response` (shortened), `pick` (its number, from 0),
        `nearest` (the most similar other pick by embedding, where there are embeddings), and what
        `explain_pick` or `explain_rejected` says.

    Raises
    ------
    UsageError
        If the corpus has no such sample.
    """
    opened = _open(subset, found)
    row = pc.index(opened.ids, id).as_py()
    if row < 0:
        raise UsageError(f"explain: the corpus has no sample {id!r}; ids are in the column `id`")
    component = component_of(opened.manifest["config"]["strategy"])
    embedded = found.get(f"embeddings-{component}")
    unit = None if embedded is None else vectors.read_component(embedded, component)[1]
    return explain_row(found["corpus"], opened, row, unit)


def explain_row(
    corpus: Path, opened: OpenedSubset, row: int, unit: Vectors | None, dial: Dial | None = None
) -> Told:
    """Return what `explain_sample` does of a row; the `dial` picked by is made where not given."""
    config = opened.manifest["config"]
    component = component_of(config["strategy"])
    shown = dict.fromkeys((*COMPONENTS, component))
    sample = corpora.take(corpus, np.array([row]), ["source", *shown])
    at = np.flatnonzero(opened.picks == row)
    told: Told = {
        "id": opened.ids[row].as_py(),
        "source": sample["source"][0].as_py(),
        **{name: sample[name][0].as_py()[:_TEXT] for name in shown},
        "picked": bool(len(at)),
        "strategy": config["strategy"],
    }
    if len(at):
        told["pick"] = int(at[0])
    if opened.by is not None and len(at):
        told |= explain_pick(opened.by, int(at[0]))
    elif opened.by is not None:
        told |= _left_out(opened.by, config, opened.manifest["result"], row, dial)
    if unit is not None:
        told["nearest"] = nearest_by_embedding(unit, opened.picks, row)
    for name in ("nearest", "nearest_by_kinds"):
        if told.get(name):
            told[name]["id"] = opened.ids[told[name].pop("row")].as_py()
    return told


def _left_out(by: PickedBy, config: Told, result: Told, row: int, dial: Dial | None) -> Told:
    """Return why a row is no pick: `explain_rejected` on the dial that was picked by."""
    limits = [name for name in _LIMITS if config[name] is not None]
    if limits:
        nearest = nearest_by_kinds(by, row)
        return {"reason": "constrained", "limits": limits, "nearest_by_kinds": nearest}
    cap, beside = config["max_per_kind"], result.get("no_kind_picks", 0)
    if dial is None:
        capped = FREE if cap is None else PickLimits(cap=cap)
        dial = Dial(by.incidence, config["size"] - beside, limits=capped)
    holding = by.picks[np.diff(by.incidence.indptr)[by.picks] > 0]
    told = explain_rejected(
        PickedBy(by.incidence, by.names, holding), dial, config["diversity"], row
    )
    if told["reason"] == "no_kind" and config["no_kind"] == "fill":
        chance = round(beside / result["no_kind"], 4)
        told |= {"reason": "not_drawn", "new_kinds": [], "chance": chance}
    return told


def explain_pick(by: PickedBy, at: int) -> Told:
    """Explain the pick at position `at`.

    Returns
    -------
    dict
        `kinds` it holds; those it `brought` (no earlier pick held them) and how many that is
        (`gain`); `balance_gain`, what it added to Σ log(1 + c); `irreplaceable`, the kinds that no
        other pick holds; `nearest_by_kinds` (see there).
    """
    row = int(by.picks[at])
    kinds = by.kinds_of(row)
    before, held = by.held(by.picks[:at])[kinds], by.held(by.picks)[kinds]
    return {
        "kinds": len(kinds),
        "gain": int((before == 0).sum()),
        "brought": by.named(kinds[before == 0]),
        "balance_gain": _balance_gain(before),
        "irreplaceable": by.named(kinds[held == 1]),
        "nearest_by_kinds": nearest_by_kinds(by, row),
    }


def explain_rejected(by: PickedBy, dial: Dial, diversity: float, row: int) -> Told:
    """Explain why `row` was not picked at `diversity` percent of `dial`.

    Returns
    -------
    dict
        `reason`: `no_kind`, `not_in_pool` or `not_drawn`. Not in the pool: the `kind` that was
        dropped with it, how many `samples` hold that, the `k` of the smallest pool that it is in,
        and the `diversity` in percent at which that pool is drawn from. Not drawn: the `new_kinds`
        it would add, its `balance_gain`, and the `chance` of a sample of the pool.
    """
    peeling, step = dial.peeling, dial.place(diversity).step
    kinds = by.kinds_of(row)
    if len(kinds) == 0:
        return {"reason": "no_kind"}
    left = int(peeling.sample_left[row])
    near = {"kinds": len(kinds), "nearest_by_kinds": nearest_by_kinds(by, row)}
    if left > step:
        held = by.held(by.picks)[kinds]
        return {
            "reason": "not_drawn",
            "new_kinds": by.named(kinds[held == 0]),
            "balance_gain": _balance_gain(held),
            "chance": round(len(by.picks) / max(1, int(peeling.pool_sizes[step])), 4),
            **near,
        }
    degrees = np.bincount(by.incidence.indices, minlength=by.incidence.n_kinds)
    gone = kinds[peeling.kind_left[kinds] == left]
    rarest = int(gone[np.argmin(degrees[gone])])
    percent = dial.percent(dial.covered(left - 1)) or 0.0
    return {
        "reason": "not_in_pool",
        "kind": by.names[rarest],
        "samples": int(degrees[rarest]),
        "k": int(peeling.kinds_after[left - 1]),
        "diversity": round(min(100.0, max(0.0, percent)), 1),
        **near,
    }


def _balance_gain(held: Ints) -> float:
    """Return what a row whose kinds are held so often adds to Σ log(1 + c)."""
    return round(float(np.log((held + 2) / (held + 1)).sum()), 6)


def nearest_by_kinds(by: PickedBy, row: int) -> Told | None:
    """Return the other pick whose kinds are most like those of `row` (Jaccard), ties by order."""
    kinds, others = by.kinds_of(row), by.picks[by.picks != row]
    if len(kinds) == 0 or len(others) == 0:
        return None
    own = np.zeros(by.incidence.n_kinds)
    own[kinds] = 1.0
    problem = Problem(by.incidence, others, len(others))
    both = row_sums(*problem.by_row, others, own)
    alike = both / (len(kinds) + problem.widths(others) - both)
    best = int(alike.argmax())
    return {"row": int(others[best]), "jaccard": round(float(alike[best]), 4)}


def nearest_by_embedding(unit: Vectors, picks: Rows, row: int) -> Told | None:
    """Return the other pick with the greatest cosine to `row`; vectors are of unit length."""
    others = picks[picks != row]
    if len(others) == 0:
        return None
    cosines = unit[others] @ unit[row]
    best = int(cosines.argmax())
    return {"row": int(others[best]), "cosine": round(float(cosines[best]), 4)}


def diff_subsets(
    first: Path, second: Path, found_first: Mapping[str, Path], found_second: Mapping[str, Path]
) -> Told:
    """Return how two subsets of one corpus differ.

    Returns
    -------
    dict
        `rows, kinds` (where one was chosen by an incidence), `sources`, and as `figures` the
        figures and options that differ, in the first's order.

    Raises
    ------
    UsageError
        If they are of different corpora.
    """
    one, other = _open(first, found_first), _open(second, found_second)
    if one.manifest["inputs"]["corpus"] != other.manifest["inputs"]["corpus"]:
        raise UsageError(f"diff: {first} and {second} are subsets of different corpora")
    told: Told = {"rows": diff_rows(one.picks, other.picks)}
    by = next((part for part in (one, other) if part.by is not None), None)
    if by is not None and by.by is not None:
        strategy = by.manifest["config"]["strategy"]
        told["kinds"] = {"by": strategy} | diff_kinds(by.by, one.picks, other.picks)
    results = [one.manifest["result"], other.manifest["result"]]
    told["sources"] = diff_mixes(*(result["sources"] for result in results))
    figures = [part.manifest["config"] | part.manifest["result"] for part in (one, other)]
    plain = (int, float, str, type(None))
    pairs = {name: [part.get(name) for part in figures] for name in figures[0] | figures[1]}
    told["figures"] = {
        name: pair
        for name, pair in pairs.items()
        if pair[0] != pair[1] and all(isinstance(value, plain) for value in pair)
    }
    return told


def diff_rows(one: Rows, other: Rows) -> Told:
    """Return how many rows are in both and in only one, and the Jaccard index."""
    both = len(np.intersect1d(one, other))
    only = {"only_first": len(one) - both, "only_second": len(other) - both}
    union = both + sum(only.values())
    return {"both": both, **only, "jaccard": round(both / max(1, union), 4)}


def diff_kinds(by: PickedBy, one: Rows, other: Rows) -> Told:
    """Return the kinds of both and those that only one holds, the most frequent first."""
    first, second = by.held(one), by.held(other)
    told: Told = {"both": int(((first > 0) & (second > 0)).sum())}
    for name, mine, theirs in (("first", first, second), ("second", second, first)):
        only = np.flatnonzero((mine > 0) & (theirs == 0))
        most = only[np.argsort(-mine[only], kind="stable")][:_SHOWN]
        told[f"only_{name}"] = len(only)
        told[f"only_{name}_most"] = dict(zip(by.named(most), mine[most].tolist(), strict=True))
    return told


def diff_mixes(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, list[float]]:
    """Return the share of each source in both, the greatest difference first."""
    shares = {
        name: [part.get(name, 0) / max(1, sum(part.values())) for part in (one, other)]
        for name in {*one, *other}
    }
    order = sorted(shares, key=lambda name: (-abs(shares[name][0] - shares[name][1]), name))
    return {name: [round(share, 4) for share in shares[name]] for name in order}


def _open(subset: Path, found: Mapping[str, Path]) -> OpenedSubset:
    manifest = folder.read_manifest(subset, STAGE)
    ids = corpora.ids(found["corpus"])
    picks = rows_named(str(subset), ids, "subset")
    if "incidence" in found:
        place = found["incidence"]
        names = parquet.read(place / "kinds.parquet", ["kind"])["kind"].to_pylist()
        return OpenedSubset(manifest, ids, picks, PickedBy(incidence.load(place), names, picks))
    if "incidence" in manifest["inputs"]:
        raise UsageError(f"{subset}: its incidence is not in the work folder; name it with --work")
    return OpenedSubset(manifest, ids, picks, None)
