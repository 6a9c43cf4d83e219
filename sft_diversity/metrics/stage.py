"""Measure: data sets in, all diversity metrics out, side by side and by component."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sft_diversity.core import folder, incidence, progress, stopping
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.core.tokens import TokenPass
from sft_diversity.core.vectors import Vectors
from sft_diversity.metrics.table import ComponentData, Figure, MeasureConfig, measure_table

VERSION = 1
STAGE = "measure"
_SECONDS_PER_ROW = 0.0012  # both components, one core; for plans only
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A data set to measure and the folders in which its samples are described.

    Attributes
    ----------
    name : str
        Heads its column.
    files : sequence of Path
        Parquet files of canonical samples.
    key : str
        Content key of the files.
    tokens : mapping of component to token pass
    embeddings : mapping of component to output of `embed`
    reference : mapping of component to output of `embed`
        The corpus whose density NovelSum reads.
    indexes : mapping of strategy to incidence
        Of the corpus the samples are from; levels that are not there are not measured.

    The passes, embeddings and incidences may be those of a larger corpus: rows are found by id.
    """

    name: str
    files: Sequence[Path]
    key: str
    tokens: Mapping[Component, Path]
    embeddings: Mapping[Component, Path]
    reference: Mapping[Component, Path]
    indexes: Mapping[str, Path] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Samples in the files."""
        return sum(pq.read_metadata(path).num_rows for path in self.files)


def plan(datasets: Sequence[Dataset], out: Path, config: MeasureConfig) -> dict[str, Any]:
    """Say what `measure` would do; touches nothing."""
    rows = sum(dataset.rows for dataset in datasets)
    done = folder.read_manifest(out) if folder.stage_of(out) == STAGE else {}
    cached = done.get("key") == _work(datasets, config).key
    return {
        "stage": STAGE,
        "rows": rows,
        "cached": cached,
        "seconds": 0.0 if cached else round(rows * _SECONDS_PER_ROW, 1),
        "bytes": 4_000 * len(datasets),
        "out": str(out),
    }


def place(datasets: Sequence[Dataset], config: MeasureConfig, root: Path) -> Path:
    """Return the folder of a measurement within the work folder, named by all it depends on."""
    return root / STAGE / _work(datasets, config).key[:16]


def measure(
    datasets: Sequence[Dataset],
    out: Path,
    config: MeasureConfig,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Measure data sets into `out/metrics/<number>-<component>.json`; return the manifest.

    Its `result` has `datasets`: for each its name, rows, words sampled, and the metrics of both
    components. One file is the unit of resume.

    Raises
    ------
    DataError
        If a data set is empty or its samples are not in the passes that describe them.
    UsageError
        If there is no data set.
    """
    if not datasets:
        raise UsageError("measure: no data set; name a subset, a corpus or a raw file")
    draft = folder.open_draft(out, _work(datasets, config))
    say(f"measure: {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, STAGE)
    steps = [(c, number) for c in COMPONENTS for number in range(len(datasets))]
    with progress.progress("measure", len(steps), "components") as bar:
        for component, number in steps:
            name = _file(number, component)
            if not draft.has(name):
                stopping.safe_point(STAGE)
                part = component_data(datasets[number], component, config)
                draft.write_json(name, measure_table(part, config))
            bar.advance()
    figures = [_figures(draft.path, datasets[number], number) for number in range(len(datasets))]
    rows = sum(dataset.rows for dataset in datasets)
    return draft.commit(
        rows=folder.rows_account(rows, rows, {}),
        seeds={"seed": config.seed},
        result={"datasets": figures, **config.model_dump(exclude={"seed"})},
    )


def component_data(dataset: Dataset, component: Component, config: MeasureConfig) -> ComponentData:
    """Return what the metrics read of one component, samples ordered by id."""
    tables = [pq.read_table(path, columns=["id", component]) for path in dataset.files]
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise DataError(f"measure: {dataset.name} has no samples")
    table = table.take(pc.sort_indices(table["id"]))
    ids = table["id"].combine_chunks()
    passed = TokenPass(dataset.tokens[component])
    rows = _rows(ids, passed.ids, dataset.name, "token pass")
    counted = passed.incidence.take(rows)
    vectors, reference = _vectors(dataset, component, ids, config)
    return ComponentData(
        texts=table[component].to_pylist(),
        token_lengths=passed.lengths[rows],
        token_occurrences=np.bincount(
            counted.indices, counted.counts, minlength=counted.n_kinds
        ).astype(np.int64),
        vectors=vectors,
        reference=reference,
        incidences=_incidences(dataset, component, ids),
    )


def _vectors(
    dataset: Dataset, component: Component, ids: pa.Array, config: MeasureConfig
) -> tuple[Vectors, Vectors]:
    """Return the vectors of the data set and of the reference's sample."""
    embedded, against = dataset.embeddings[component], dataset.reference[component]
    known = core_vectors.ids(embedded, component)
    own = _rows(ids, known, dataset.name, "embeddings")
    n = len(known) if against == embedded else len(core_vectors.ids(against, component))
    rows = rows_drawn(n, config.reference_sample, config.seed, "measure", "reference")
    if against != embedded:
        return (
            core_vectors.take(embedded, component, own),
            core_vectors.take(against, component, rows),
        )
    both = core_vectors.take(embedded, component, np.concatenate([own, rows]))  # one read
    return both[: len(own)], both[len(own) :]


def _incidences(
    dataset: Dataset, component: Component, ids: pa.Array
) -> dict[str, incidence.Incidence]:
    """Return the data set's incidence at each level that is at hand, macro first."""
    found = {}
    for level in ("macro", "meso", "micro"):
        place = dataset.indexes.get(f"{level}-{component}")
        if place is not None:
            rows = _rows(ids, incidence.load_ids(place), dataset.name, f"{level} incidence")
            found[level] = incidence.load(place).take(rows)
    return found


def _rows(ids: pa.Array, among: pa.Array, name: str, what: str) -> Rows:
    """Return where `ids` are among the ids of a larger set."""
    rows = pc.index_in(ids, value_set=among)
    if rows.null_count:
        raise DataError(
            f"measure: {rows.null_count:,} of {len(ids):,} samples of {name} are not in the {what} "
            "of its corpus; measure it with the work folder it was selected with, or another --work"
        )
    return np.asarray(rows.to_numpy(zero_copy_only=False)).astype(np.int64)


def _figures(place: Path, dataset: Dataset, number: int) -> dict[str, Any]:
    metrics: dict[str, Mapping[str, Figure]] = {
        component: json.loads((place / _file(number, component)).read_text("utf-8"))
        for component in COMPONENTS
    }
    return {"name": dataset.name, "rows": dataset.rows, **metrics}


def _file(number: int, component: str) -> str:
    return f"metrics/{number:03}-{component}.json"


def _work(datasets: Sequence[Dataset], config: MeasureConfig) -> folder.Work:
    inputs = {}
    for number, dataset in enumerate(datasets):
        read = {
            "samples": dataset.key,
            "tokens": [_key(dataset.tokens[c]) for c in COMPONENTS],
            "embeddings": [core_vectors.key(dataset.embeddings[c], c) for c in COMPONENTS],
            "reference": [core_vectors.key(dataset.reference[c], c) for c in COMPONENTS],
            "indexes": {name: _key(place) for name, place in sorted(dataset.indexes.items())},
        }
        inputs[f"{number:03}"] = content_key([dataset.name, read])
    return folder.Work(STAGE, VERSION, inputs, config.model_dump(mode="json"))


def _key(place: Path) -> str:
    return folder.contents_key(folder.read_input(place))
