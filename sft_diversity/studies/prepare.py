"""What every run of a study reads: corpus, subsets, and how many steps and tokens each cell is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.core import config as configs
from sft_diversity.core import incidence, parquet, stopping
from sft_diversity.core.cells import Cell
from sft_diversity.core.corpus import COMPONENTS, is_corpus, read_file
from sft_diversity.core.drafts import Draft, Work, check_out, open_draft
from sft_diversity.core.errors import DataError
from sft_diversity.core.folder import contents_key, read_manifest, rows_account, stage_of
from sft_diversity.core.models import ModelFolder
from sft_diversity.core.progress import progress, say
from sft_diversity.core.store import corpus_at
from sft_diversity.core.tokens import TokenPass
from sft_diversity.embedding import stage as embedding
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import IngestConfig, IngestOptions
from sft_diversity.ingestion.fetched import Fetcher
from sft_diversity.scoring import stage as scoring
from sft_diversity.scoring.generate import stage as generation
from sft_diversity.selection.config import SelectConfig, percent_hint
from sft_diversity.selection.show import no_kind_warnings
from sft_diversity.stages import store
from sft_diversity.studies import cells as grid
from sft_diversity.studies.config import STAGE, StudyConfig
from sft_diversity.training import stage as finetuning
from sft_diversity.training.models import BASES
from sft_diversity.verbs import data, selecting

VERSION = 1
_SIZES = pa.schema(
    [("id", pa.string())]
    + [(name, pa.int32()) for name in ("tokens", "labels", "tokens_kept", "labels_kept")]
)
SAME_DRAW = 0.9
_TEMPLATE_TOKENS = 16  # what is left for roles and ends of turns at least
BEGUN = "runs"
_OWN = (BEGUN, "models")  # what makes a folder a study's: begun, or records or models copied
_FROM_INDEXES = ("exclude", "match_length")
_FROM_SELECT = ("tokenizer", "encoder", "embed")  # what indexes and embeddings share with select


def check_study(study: StudyConfig, place: Path, work: Path) -> None:
    """Refuse a study that could not be made, before a sample is read.

    Raises
    ------
    UsageError, DataError
        If `place` holds something else, the corpus is smaller than a size of the grid, or a
        tokenizer, an encoder, a model, a package or an evaluation set is not there.
    """
    if not any((place / name).exists() for name in _OWN):
        check_out(place, STAGE, [study.corpus] if study.corpus else [])
    corpus = Path(study.corpus or place / "corpus")
    if study.corpus is None and not is_corpus(corpus):
        ingest = configs.build(IngestOptions, study.ingest, "study, block `ingest`")
        plain = configs.part_of(IngestConfig, ingest)
        kept = store(work)
        fetcher = Fetcher(kept.root, kept.dry, kept.once)
        ingesting.check_rows(ingesting.resolve((), plain), fetcher, max(study.grid["size"]))
    # lengths and samples that are left out are known once the indexes are made
    asked = [
        {k: v for k, v in grid.select_options(cell, study, place).items() if k not in _FROM_INDEXES}
        for cell in grid.cells(study)
    ]
    options = [configs.build(SelectConfig, one, "study, block `select`") for one in asked]
    there = study.corpus or is_corpus(corpus)
    selecting.check(store(work), options, corpus_at(corpus) if there else None)
    if study.metrics:
        embedding.check_encoder(configs.build(EmbedConfig, _encoding(study), "study, metrics"))
    if hint := percent_hint(study.grid["diversity"]):
        say(hint)
    finetuning.check_options(study.finetuning)
    scoring.file_keys(*scoring.sets_of(study.scoring))
    if study.generating is not None:
        generation.check_sets(study.generating)


def make_corpus(study: StudyConfig, place: Path) -> Path:
    """Return the study's corpus; without one made before, what `ingest` makes in the study."""
    if study.corpus is not None:
        return Path(study.corpus)
    data.ingest(out=place / "corpus", **study.ingest)
    return place / "corpus"


def make_subsets(
    study: StudyConfig, corpus: Path, place: Path, work: Path
) -> dict[str, dict[str, Any]]:
    """Make all subsets in `place/subsets/CELL` from one pool; return their figures by cell.

    `draw` is the seed of the first of those that count as one draw; see `draws_that_differ`.
    """
    ids = _ids(study, corpus, place, work)
    made = grid.cells(study)
    asked = {cell.name: grid.select_options(cell, study, ids) for cell in made}
    figures = selecting.subsets(corpus, asked, out=place / "subsets", work=work)
    for line in dict.fromkeys(line for one in figures.values() for line in no_kind_warnings(one)):
        say(line)
    picks = {name: _read(place / "subsets" / name, ["id"])["id"] for name in asked}
    draws = draws_that_differ(made, picks)
    return {name: told | {"draw": draws[name]} for name, told in figures.items()}


def draws_that_differ(
    cells: Sequence[Cell], picks: Mapping[str, pa.ChunkedArray]
) -> dict[str, int]:
    """Return for each cell the seed of its draw: where seeds hardly vary, one for the whole level.

    Draws of one level that share more than `SAME_DRAW` of their samples, on average over pairs, are
    the same evidence: as draws of their own they would make intervals too narrow.
    """
    levels: dict[str, list[Cell]] = {}
    for cell in cells:
        levels.setdefault(cell.group, []).append(cell)
    found: dict[str, int] = {}
    for level in levels.values():
        shared = [
            pc.sum(pc.is_in(picks[one.name], value_set=picks[other.name])).as_py() / one.size
            for one, other in itertools.combinations(level, 2)
        ]
        same = bool(shared) and sum(shared) / len(shared) > SAME_DRAW
        found |= {cell.name: level[0].seed if same else cell.seed for cell in level}
    return found


def make_embeddings(study: StudyConfig, corpus: Path, work: Path) -> None:
    """Embed both components, for the metrics."""
    for component in COMPONENTS:
        data.embed(corpus, work=work, components=(component,), **_encoding(study))


def _encoding(study: StudyConfig) -> dict[str, Any]:
    """Return the options of `embed` for the metrics."""
    encoder = study.measure.get("encoder") or study.select.get("encoder")
    given = {} if encoder is None else {"encoder": encoder}
    return given | (study.measure.get("embed") or study.select.get("embed") or {})


def _ids(study: StudyConfig, corpus: Path, place: Path, work: Path) -> Path:
    """Write, for each regime, which samples every strategy may pick, and which are left out.

    Returns
    -------
    Path
        Folder of `REGIME-common.parquet`; `REGIME-others.parquet`, all the rest; and
        `REGIME-long.parquet`, the part of these that is longer than training reads.
    """
    shared = {k: study.select[k] for k in _FROM_SELECT if k in study.select}
    own = study.select.get("index", {})
    indexes = []
    for strategy in study.grid["strategy"]:
        options = {**shared, **own, "strategy": strategy}
        if strategy.startswith("micro-"):
            options["band"] = study.select.get("band")
        indexes.append(Path(data.index(corpus, work=work, **options)["out"]))
    kept, tokenizer = store(work), study.select.get("tokenizer")
    passes = [
        kept.get("tokens", {"component": name, "tokenizer": tokenizer}, corpus).path
        for name in COMPONENTS
    ]
    template = _template_tokens(study)
    made = Work(
        "common",
        VERSION,
        {at.name: contents_key(read_manifest(at)) for at in [*indexes, *passes]},
        {
            "whole": list(study.whole_samples),
            "max_length": study.finetuning.max_length,
            "template": template,
            "no_kind": study.select.get("no_kind"),
        },
    )
    draft = open_draft(place / "common", made)
    if not draft.reused:
        ids = incidence.load_ids(indexes[0])
        filled = study.select.get("no_kind") == "fill"
        holds = [(np.diff(incidence.load(at).indptr) > 0) | filled for at in indexes]
        tokens = sum(TokenPass(at).lengths for at in passes)
        long = np.asarray(tokens) + template > study.finetuning.max_length
        for regime in ("A", "B"):
            left_out = long & (regime in study.whole_samples)
            common = np.logical_and.reduce(holds) & ~left_out
            for name, rows in (("common", common), ("others", ~common), ("long", left_out)):
                draft.write_table(
                    f"{regime}-{name}.parquet", pa.table({"id": ids.filter(pa.array(rows))})
                )
        draft.commit(rows=rows_account(len(ids), len(ids), {}))
    return place / "common"


def _template_tokens(study: StudyConfig) -> int:
    """Return what the model's template adds to both components: roles, ends, its system prompt."""
    from sft_diversity.core import chat
    from sft_diversity.training.models import load_right_padding_tokenizer

    training = study.finetuning
    tokenizer = load_right_padding_tokenizer(BASES.find(training.model, training.revision))
    chat.ensure_template(tokenizer)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    return max(len(chat.render(turns, tokenizer)[0]) - 2, _TEMPLATE_TOKENS)


def sizes(study: StudyConfig, made: Sequence[Cell], place: Path) -> dict[str, pa.Table]:
    """Tokenise every sample of the subsets once, as training does.

    Returns
    -------
    dict
        For each cell a table in pick order: `tokens`, `labels` (response tokens), and both as far
        as `max_length` keeps them (`tokens_kept`, `labels_kept`; labels behind the first token).
    """
    subsets = {cell.name: place / "subsets" / cell.name for cell in made}
    training = study.finetuning
    base = BASES.find(training.model, training.revision)
    inputs = {name: read_manifest(at)["key"] for name, at in subsets.items()}
    work = Work("sizes", VERSION, inputs | {"model": base.key}, {"max": training.max_length})
    draft = open_draft(place / "sizes", work)
    say(f"tokenise subsets: {draft.reason}")
    if not draft.reused:
        _write_sizes(draft, subsets, base, training.max_length)
    return _by_cell(subsets, place)


def sizes_at_hand(made: Sequence[Cell], place: Path) -> dict[str, pa.Table] | None:
    """Return what `sizes` made before, if it made all; touches nothing."""
    subsets = {cell.name: place / "subsets" / cell.name for cell in made}
    there = stage_of(place / "sizes") and all(map(stage_of, subsets.values()))
    files = [place / "sizes" / f"{name}.parquet" for name in subsets]
    return _by_cell(subsets, place) if there and all(f.is_file() for f in files) else None


def _by_cell(subsets: Mapping[str, Path], place: Path) -> dict[str, pa.Table]:
    files = [place / "sizes" / f"{name}.parquet" for name in subsets]
    table = parquet.join(files)
    known = table["id"].combine_chunks()
    found = {}
    for name, at in subsets.items():
        ids = _read(at, ["id", "pick"]).sort_by("pick")["id"]
        found[name] = table.take(pc.index_in(ids, value_set=known))
    return found


def _write_sizes(
    draft: Draft, subsets: Mapping[str, Path], base: ModelFolder, max_length: int
) -> None:
    """Write for each subset the sizes of those of its samples that no subset before it has."""
    from sft_diversity.core import chat
    from sft_diversity.training.models import load_right_padding_tokenizer

    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    known = pa.array([], pa.string())
    fresh = {}
    for name, at in subsets.items():
        ids = _read(at, ["id"])["id"].combine_chunks()
        fresh[name] = ids.filter(pc.invert(pc.is_in(ids, value_set=known)))
        known = pa.concat_arrays([known, fresh[name]])
    done = sum(len(ids) for name, ids in fresh.items() if draft.has(f"{name}.parquet"))
    with progress("tokenise subsets", len(known), "samples", done) as bar:
        for name, at in subsets.items():
            if draft.has(f"{name}.parquet"):
                continue
            stopping.safe_point(STAGE)
            table = _read(at, ["id", "messages", "tools"])
            table = table.filter(pc.is_in(table["id"], value_set=fresh[name]))
            rows = []
            for row in table.to_pylist():
                rows.append(_size(row, tokenizer, max_length))
                bar.advance()
            columns = {c: [row[i] for row in rows] for i, c in enumerate(_SIZES.names)}
            draft.write_table(f"{name}.parquet", pa.table(columns, schema=_SIZES))
    draft.commit(rows=rows_account(len(known), len(known), {}))


def _size(row: dict[str, Any], tokenizer: Any, max_length: int) -> tuple[str, int, int, int, int]:
    from sft_diversity.core import chat

    try:
        _, labels = chat.render(row["messages"], tokenizer, row["tools"])
    except DataError:  # fine-tuning leaves it out, and stops where there are too many
        return row["id"], 0, 0, 0, 0
    said = [label != chat.IGNORED for label in labels]
    return row["id"], len(said), sum(said), min(len(said), max_length), sum(said[1:max_length])


def _read(subset: Path, columns: list[str]) -> pa.Table:
    return pa.concat_tables(
        [read_file(path, columns) for path in parquet.listed(subset, "samples")]
    )
