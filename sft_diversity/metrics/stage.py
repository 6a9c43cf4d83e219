"""`measure`: data sets in, all diversity metrics out, side by side and by component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import folder, incidence, stopping
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.corpus import Component, read_file, rows_among
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import stage_of
from sft_diversity.core.hashing import content_key
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.core.stage import Ask, Job, Made, Result, Stage, Unit
from sft_diversity.core.tokens import TokenPass
from sft_diversity.core.vectors import Vectors
from sft_diversity.metrics.table import ComponentData, MeasureConfig, measure_table

VERSION = 1
_SECONDS_PER_ROW = 0.0012  # both components, one core; for plans only


@dataclass(frozen=True)
class Dataset:
    """A data set to measure and the folders in which its samples are described.

    Attributes
    ----------
    name : str
        Heads its column.
    files : sequence of Path
        Parquet files of canonical samples.
    rows : int
        Samples in them.
    key : str or None
        Content key of the files; None: they are still to be made.
    tokens : mapping of component to token pass
    embeddings : mapping of component to output of `embed`
        Empty: the metrics of embeddings are not measured.
    reference : mapping of component to output of `embed`
        The corpus whose density NovelSum reads.
    indexes : mapping of strategy to incidence
        Of the corpus the samples are from; levels that are not there are not measured.

    The passes, embeddings and incidences may be those of a larger corpus: rows are found by id.
    """

    name: str
    files: Sequence[Path]
    rows: int
    key: str | None
    tokens: Mapping[Component, Path]
    embeddings: Mapping[Component, Path]
    reference: Mapping[Component, Path]
    indexes: Mapping[str, Path] = field(default_factory=dict)

    def contents(self) -> str | None:
        """Return a key of all that is read of it, or None where part of that is to be made."""
        read = [self.tokens, self.embeddings, self.reference]
        if self.key is None or None in (stage_of(place) for at in read for place in at.values()):
            return None
        keys = {
            "samples": self.key,
            "tokens": [_key(place) for place in self.tokens.values()],
            "embeddings": [core_vectors.key(at, c) for c, at in self.embeddings.items()],
            "reference": [core_vectors.key(at, c) for c, at in self.reference.items()],
            "indexes": {name: _key(place) for name, place in sorted(self.indexes.items())},
        }
        return content_key([self.name, keys])


class Measurement(MeasureConfig):
    """What is measured, and how."""

    datasets: tuple[Dataset, ...]


def needs(config: Measurement, ask: Ask) -> None:
    """Read data sets and what describes them."""
    if not config.datasets:
        raise UsageError("measure: no data set; name a subset, a corpus or a raw file")
    for number, dataset in enumerate(config.datasets):
        ask.key(f"{number:03}", dataset.contents())


def units(config: Measurement, inputs: Mapping[str, Made]) -> list[Unit]:
    """Return the metrics of a component of a data set, each a file."""
    return [
        Unit(_file(number, component), dataset.rows, (dataset, component))
        for component in config.components
        for number, dataset in enumerate(config.datasets)
    ]


def each(job: Job[Measurement]) -> None:
    """Measure what is left of the units.

    Raises
    ------
    DataError
        If a data set is empty or its samples are not in the passes that describe them.
    """
    for unit in job.todo("components"):
        dataset, component = unit.what
        with stopping.at_once(job.label):
            part = component_data(dataset, component, job.config)
            job.draft.write_json(unit.name, measure_table(part, job.config))


def join(job: Job[Measurement]) -> Result:
    """Return the figures: `datasets`, for each its name, rows, and the metrics of its components.

    The options of the metrics stand beside them.
    """
    given = job.config.datasets
    figures = [
        {"name": dataset.name, "rows": dataset.rows}
        | {c: folder.read_json(job.draft.path / _file(number, c)) for c in job.config.components}
        for number, dataset in enumerate(given)
    ]
    rows = sum(dataset.rows for dataset in given)
    return Result(
        rows=folder.rows_account(rows, rows, {}),
        seeds={"seed": job.config.seed},
        figures={"datasets": figures, **job.config.model_dump(exclude={"datasets", "seed"})},
    )


def _file(number: int, component: Component) -> str:
    return f"metrics/{number:03}-{component}.json"


def _key(place: Path) -> str:
    return folder.contents_key(folder.read_input(place))


def _cost(config: Measurement, ask: Ask) -> dict[str, Any]:
    rows = sum(dataset.rows for dataset in config.datasets)
    size = 4_000 * len(config.datasets)
    return {"rows": rows, "seconds": round(rows * _SECONDS_PER_ROW, 1), "bytes": size}


MEASURE = Stage(
    "measure", VERSION, Measurement, needs=needs, units=units, each=each, join=join, cost=_cost,
    options=lambda config: config.model_dump(mode="json", exclude={"datasets"}),
)  # fmt: skip


def component_data(dataset: Dataset, component: Component, config: MeasureConfig) -> ComponentData:
    """Return what the metrics read of one component, samples ordered by id."""
    table = pa.concat_tables(read_file(path, ["id", component]) for path in dataset.files)
    if not table.num_rows:
        raise DataError(f"measure: {dataset.name} has no samples")
    table = table.take(pc.sort_indices(table["id"]))
    ids = table["id"].combine_chunks()
    passed = TokenPass(dataset.tokens[component])
    rows = rows_among(ids, passed.ids, f"measure: {dataset.name}", "the token pass of its corpus")
    vectors = reference = None
    if component in dataset.embeddings:
        vectors, reference = _vectors(dataset, component, ids, config)
    return ComponentData(
        texts=table[component].to_pylist(),
        token_lengths=passed.lengths[rows],
        token_occurrences=passed.take(rows).occurrences,
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
    own = rows_among(ids, known, f"measure: {dataset.name}", "the embeddings of its corpus")
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
            known, what = incidence.load_ids(place), f"the {level} incidence of its corpus"
            rows = rows_among(ids, known, f"measure: {dataset.name}", what)
            found[level] = incidence.load(place).take(rows)
    return found
