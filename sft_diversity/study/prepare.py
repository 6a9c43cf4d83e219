"""What every run of a study reads: corpus, subsets, and how many steps and tokens each cell is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sft_diversity import workflow
from sft_diversity.core import incidence
from sft_diversity.core.errors import SftdivError
from sft_diversity.core.folder import Draft, Work, open_draft, read_manifest, rows_account
from sft_diversity.core.hashing import file_sha256
from sft_diversity.core.progress import say
from sft_diversity.study import cells as grid
from sft_diversity.study.cells import Cell
from sft_diversity.study.config import StudyConfig

VERSION = 1
_FROM_SELECT = ("tokenizer", "encoder", "embed")  # what indexes and embeddings share with select


def corpus_of(study: StudyConfig, place: Path) -> Path:
    """Return the study's corpus; without one made before, what `ingest` makes in the study."""
    if study.corpus is not None:
        return Path(study.corpus)
    workflow.ingest(out=place / "corpus", **study.ingest)
    return place / "corpus"


def make_subsets(
    study: StudyConfig, corpus: Path, place: Path, work: Path
) -> dict[str, dict[str, Any]]:
    """Make all subsets in `place/subsets/CELL` from one pool; return their figures by cell."""
    eligible, others = _eligible(study, corpus, place, work)
    asked = {
        cell.name: grid.select_options(cell, study, eligible, others) for cell in grid.cells(study)
    }
    return workflow.subsets(corpus, asked, out=place / "subsets", work=work)


def make_embeddings(study: StudyConfig, corpus: Path, work: Path) -> None:
    """Embed both components, for the metrics."""
    given = {"encoder": study.measure.get("encoder") or study.select.get("encoder")}
    options = study.measure.get("embed") or study.select.get("embed") or {}
    for component in ("instruction", "response"):
        workflow.embed(corpus, work=work, components=(component,), **{**given, **options})


def _eligible(study: StudyConfig, corpus: Path, place: Path, work: Path) -> tuple[Path, Path]:
    """Write which samples hold a kind under every strategy of the grid, and which do not."""
    shared = {k: study.select[k] for k in _FROM_SELECT if k in study.select}
    own = study.select.get("index", {})
    indexes = [
        Path(workflow.index(corpus, work=work, **{**shared, **own, "strategy": strategy})["out"])
        for strategy in study.grid["strategy"]
    ]
    made = Work(
        "eligible",
        VERSION,
        {i.name: file_sha256(i / "indptr.npy") + file_sha256(i / "ids.parquet") for i in indexes},
        {},
    )
    draft = open_draft(place / "eligible", made)
    if not draft.reused:
        _write_eligible(draft, indexes)
    return place / "eligible" / "eligible.parquet", place / "eligible" / "others.parquet"


def _write_eligible(draft: Draft, indexes: Sequence[Path]) -> None:
    ids = incidence.load_ids(indexes[0])
    holds = [np.diff(incidence.load(place).indptr) > 0 for place in indexes]
    mask = np.logical_and.reduce(holds)
    for name, rows in (("eligible", mask), ("others", ~mask)):
        draft.write_table(f"{name}.parquet", pa.table({"id": ids.filter(pa.array(rows))}))
    kept = int(mask.sum())
    draft.commit(rows=rows_account(len(mask), kept, {"no_kind_in_some_strategy": len(mask) - kept}))


def sizes(study: StudyConfig, made: Sequence[Cell], place: Path) -> dict[str, pa.Table]:
    """Tokenise every sample of the subsets once, as training does.

    Returns
    -------
    dict
        For each cell a table in pick order: `tokens`, `labels` (response tokens), and both as far
        as `max_length` keeps them (`tokens_kept`, `labels_kept`; labels behind the first token).
    """
    from sft_diversity.finetune.models import find_base

    subsets = {cell.name: place / "subsets" / cell.name for cell in made}
    training = study.finetuning
    base = find_base(training.model, training.revision)
    inputs = {name: read_manifest(at)["key"] for name, at in subsets.items()}
    work = Work("sizes", VERSION, inputs | {"model": base.key}, {"max": training.max_length})
    draft = open_draft(place / "sizes", work)
    say(f"tokenise subsets: {draft.reason}")
    if not draft.reused:
        table = _sizes(list(subsets.values()), base, training.max_length)
        draft.write_table("sizes.parquet", table)
        draft.commit(rows=rows_account(table.num_rows, table.num_rows, {}))
    table = pq.read_table(place / "sizes" / "sizes.parquet")
    found = {}
    for name, at in subsets.items():
        ids = _read(at, ["id", "pick"]).sort_by("pick")["id"]
        rows = pa.compute.index_in(ids, value_set=table["id"].combine_chunks())
        found[name] = table.take(rows)
    return found


def _sizes(subsets: Sequence[Path], base: Any, max_length: int) -> pa.Table:
    from sft_diversity.core import chat
    from sft_diversity.core.progress import progress
    from sft_diversity.finetune.models import load_tokenizer

    tokenizer = load_tokenizer(base)
    chat.ensure_template(tokenizer)
    ids: dict[str, tuple[int, int, int, int]] = {}
    total = sum(read_manifest(at)["rows"]["kept"] for at in subsets)
    with progress("tokenise subsets", total) as bar:
        for at in subsets:
            table = _read(at, ["id", "messages"])
            for identity, messages in zip(table["id"].to_pylist(), table["messages"], strict=True):
                bar.advance()
                if identity in ids:
                    continue
                try:
                    _, labels = chat.render(messages.as_py(), tokenizer)
                except SftdivError as fault:
                    raise type(fault)(f"study: sample {identity}: {fault}") from None
                said = [label != chat.IGNORED for label in labels]
                ids[identity] = (
                    len(said), sum(said), min(len(said), max_length), sum(said[1:max_length]),
                )  # fmt: skip
    names = ("tokens", "labels", "tokens_kept", "labels_kept")
    ordered = sorted(ids)
    columns = {n: pa.array([ids[i][k] for i in ordered], pa.int32()) for k, n in enumerate(names)}
    return pa.table({"id": pa.array(ordered), **columns})


def _read(subset: Path, columns: list[str]) -> pa.Table:
    files = sorted((subset / "samples").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(path, columns=columns) for path in files])
