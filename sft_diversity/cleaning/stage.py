"""`clean`: a corpus in, the same without near-duplicates and contamination out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sft_diversity.cleaning import minhash, overlap, parts, report, settle
from sft_diversity.cleaning.chain import chain
from sft_diversity.cleaning.config import CleanConfig
from sft_diversity.cleaning.evalfiles import Opened, open_all
from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, lineage, parquet, progress, schema, stopping, vectors
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.stage import Ask, Job, Result, Stage

VERSION = 1
STAGE = "clean"
REPORT = "clean-report"  # stage of a folder that holds the report alone
_SECONDS_A_SAMPLE = 1e-4  # one pass over the words, on one core
_INFO = ["id", "source", "source_file", "source_row"]


def check(source: Path, out: Path, config: CleanConfig) -> None:
    """Refuse a place or evaluation files that would not do, before any embedding."""
    drafts.check_out(out, REPORT if config.report_only else STAGE, [source])
    open_all(config.against)


def needs(config: CleanConfig, ask: Ask) -> None:
    """Read the corpus, the evaluation files, and with `cosine` its embeddings."""
    from rensa import RMinHash

    ask.corpus()
    ask.key("minhash", f"rensa {RMinHash.ALGORITHM_VERSION}")
    evals = open_all(config.against)
    for opened in evals:
        ask.key(f"against {opened.label}", opened.sha256)
    named = [
        {"path": one.label, "prompts": one.prompts, "references": one.references} for one in evals
    ]
    ask.resolve(against=named)
    for name in config.components if config.cosine is not None else ():
        ask.stage(f"embeddings {name}", "embed", config.encoding | {"components": (name,)})


@stopping.at_once(STAGE)
def join(job: Job[CleanConfig]) -> Result:
    """Write the corpus without its near-duplicates and contaminated samples.

    Contaminated samples go first; then samples are settled in order of `keep`, by MinHash and, with
    `cosine`, by embedding. The output is a corpus folder: `samples/` in the corpus's shards,
    `removed.parquet` and `removed.jsonl` (each removed sample with its twin), `clusters.parquet`.
    With `report_only` there is no `samples/`.

    Raises
    ------
    DataError
        If nothing would be left, or an evaluation file cannot be read.
    """
    corpus, draft, config = job.corpus, job.draft, job.config
    if draft.state == "resumed":
        job.say(f"clean: goes on at {parts.state(corpus, draft)}")
    embeddings: dict[str, Path] = {
        name: job.inputs[role].path
        for name in config.components
        if (role := f"embeddings {name}") in job.inputs
    }
    removed, result = _report(corpus, draft, config, open_all(config.against), embeddings)
    if not config.report_only:
        _write_samples(corpus, draft, removed["id"])
    parts.forget(draft)
    rows = sum(source["rows"]["in"] for source in result["sources"])
    dropped = parquet.counts(removed, "reason")
    return Result(
        rows=folder.rows_account(rows, rows - len(removed), dropped),
        seeds={"minhash": config.seed},
        figures=result,
        lineage=lineage.of(corpus=corpus),
        recipe=lineage.public({**draft.work.config, **_encoding(config, embeddings)})[0],
    )


def _encoding(config: CleanConfig, embeddings: Mapping[str, Path]) -> dict[str, Any]:
    """Return the options of the embeddings that were read, as they came out here."""
    for place in embeddings.values():
        made = folder.read_manifest(place)
        resolved = {n: v for n, v in made["config"].items() if n != "components" and v is not None}
        commit = made["result"]["encoder"]["commit"]
        revision = {} if commit is None else {"revision": commit}
        encoder = {} if config.encoder is None else {"encoder": config.encoder}
        return encoder | {"embed": {**config.embed, **resolved, **revision}}
    return {}


def _options(config: CleanConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"encoder", "embed", "ingest"})


def _cost(config: CleanConfig, ask: Ask) -> dict[str, Any]:
    """Estimate; exact cosines from a small matrix product that is timed here."""
    corpus = ask.inputs["corpus"]
    cosines = 0.0 if config.cosine is None else round(cosine_seconds(corpus.rows), 1)
    size = sum(path.stat().st_size for path in corpora.shards(corpus.path))
    return {
        "seconds": corpus.rows * _SECONDS_A_SAMPLE + cosines,
        "bytes": round(size * (0.1 if config.report_only else 1.1)),
        "cosine_seconds": cosines,
    }


def _lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    rows = manifest["rows"]
    gone = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in rows["dropped"].items())
    yield f"{rows['kept']:,} of {rows['in']:,} samples kept; out: {gone or 'none'}"
    for line in corpora.emptied(manifest):
        yield f"warning: {line}; see removed.jsonl"


CLEAN = Stage(
    STAGE, VERSION, CleanConfig, needs=needs, join=join, options=_options, cost=_cost, lines=_lines
)
#: The report alone: no corpus, so another kind of output.
CLEAN_REPORT = replace(CLEAN, name=REPORT)


def cosine_seconds(rows: int, dim: int = 384) -> float:
    """Estimate the seconds of all pairs' cosines, from blocks that are timed now."""
    block = np.random.default_rng(0).standard_normal((settle.BLOCK, dim)).astype(np.float32)
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        products = block @ block.T
        (products >= 1e9).any()
        best = min(best, time.perf_counter() - started)
    pairs = rows * rows / 2
    return float(best * pairs / settle.BLOCK**2)


def _report(
    corpus: Path,
    draft: drafts.Draft,
    config: CleanConfig,
    evals: list[Opened],
    embeddings: Mapping[str, Path],
) -> tuple[pa.Table, dict[str, Any]]:
    """Settle who goes and write the report; return the removed rows and the figures."""
    info = corpora.read(corpus, _INFO)
    texts = [text for opened in evals for text in opened.texts]
    sought = overlap.grams(texts, config.ngram, config.min_words) if texts else None
    seen = parts.read(corpus, draft, config, sought)
    found = _contamination(seen, len(info), sought, config)
    alike = _evidence(seen, info, config, embeddings)
    order = _ranks(seen.lengths, config.keep)
    verdicts = _settled(order[~np.isin(order, found.rows)], alike, config, draft)
    near = report.twins(info, verdicts, alike)
    removed = pa.concat_tables([near, report.contaminated(info, found, sought)]).sort_by("id")
    if len(removed) == len(info):
        counted = parquet.counts(removed, "reason")
        why = ", ".join(f"{number:,} {reason}" for reason, number in counted.items())
        raise DataError(
            f"clean: no sample would be left of {len(info):,} ({why}); raise `jaccard`, `cosine` "
            "or `ngram`, or look at what `against` names"
        )
    draft.write_table("removed.parquet", removed)
    with draft.writing("removed.jsonl") as path, path.open("wb") as handle:
        handle.writelines(report.readable(removed, _texts(corpus, removed), sought))
    groups = report.clusters(info, verdicts, near)
    draft.write_table("clusters.parquet", groups)
    result = report.figures(info, removed, groups, corpora.licences(corpus))
    result["evaluation"] = _hit_by_file(evals, removed)
    if config.minhash:
        bands = minhash.banding(config.jaccard, config.permutations)
        result["recall_at_threshold"] = round(bands.found(config.jaccard), 6)
    return removed, result


def _contamination(
    seen: parts.Read, n: int, sought: overlap.Grams | None, config: CleanConfig
) -> overlap.Overlaps:
    if sought is None:
        none = np.zeros(0, np.int32)
        return overlap.Overlaps(none, none, none, np.zeros(0), none)
    return overlap.overlaps(seen.hits, n, sought, config.common)


def _evidence(
    seen: parts.Read,
    info: pa.Table,
    config: CleanConfig,
    embeddings: Mapping[str, Path],
) -> settle.Alike:
    buckets, number = minhash.buckets(seen.keys)
    loaded = []
    if config.cosine is not None:
        for name in config.components:
            ids, rows = vectors.read_component(embeddings[name], name)
            if not ids.equals(info["id"].combine_chunks()):
                raise UsageError(
                    f"clean: {embeddings[name]} holds other ids than the corpus; embed this corpus"
                )
            loaded.append(rows)
    return settle.Alike(
        buckets=buckets,
        n_buckets=number,
        values=seen.values,
        bounds=seen.bounds,
        jaccard=config.jaccard,
        vectors=loaded[0] if loaded else settle.NOTHING,
        more=loaded[1] if len(loaded) > 1 else settle.NOTHING,
        cosine=config.cosine or 2.0,
    )


def _ranks(lengths: npt.NDArray[np.int64], keep: str) -> npt.NDArray[np.int32]:
    """Return samples best first: by response length, or as they lie; ties by id."""
    order = np.arange(len(lengths)) if keep == "first" else np.argsort(-lengths, kind="stable")
    return order.astype(np.int32)


def _settled(
    order: npt.NDArray[np.int32], alike: settle.Alike, config: CleanConfig, draft: drafts.Draft
) -> settle.Verdicts:
    """Settle; blocks of cosines, which take long, are kept so that a stopped run goes on."""
    fields = settle.Links._fields
    costly = len(alike.vectors) > 0
    with progress.progress("clean: twins", len(order), "samples") as bar:

        def name(block: int, what: str) -> str:
            return f"{parts.FOLDER}/twins-{block:06}.{what}.npy"

        def find(block: int) -> settle.Links | None:
            stopping.safe_point(STAGE)
            bar.advance(min(settle.BLOCK, len(order) - block * settle.BLOCK))
            if not costly or not draft.has(name(block, fields[-1])):
                return None
            return settle.Links(*(parts.load(draft.path / name(block, what)) for what in fields))

        def store(block: int, links: settle.Links) -> None:
            if costly:
                for what in fields:
                    parts.store(draft, name(block, what), getattr(links, what))

        way = settle.direct if config.clusters == "direct" else chain
        return way(order, alike, find, store)


def _write_samples(corpus: Path, draft: drafts.Draft, removed: pa.ChunkedArray) -> None:
    """Write the shards without the removed rows; a shard keeps its name, an empty one goes."""
    for path in corpora.shards(corpus):
        stopping.safe_point(STAGE)
        name = f"samples/{path.name}"
        if draft.has(name):
            continue
        table = parquet.read(path)
        kept = table.filter(pc.invert(pc.is_in(table["id"], removed)))
        if kept.num_rows:
            draft.write_table(name, schema.check(kept, schema.samples_like(kept.schema), STAGE))


def _texts(corpus: Path, removed: pa.Table) -> dict[str, tuple[str, str]]:
    """Return the beginnings of the texts that the readable report shows, by id."""
    named = pa.chunked_array([*removed["id"].chunks, *removed["twin"].chunks], pa.string())
    shown = pc.unique(named).drop_null()
    texts = {}
    for table in corpora.batches(corpus, ["id", "instruction", "response"]):
        for row in table.filter(pc.is_in(table["id"], shown)).to_pylist():
            texts[row["id"]] = (report.head(row["instruction"]), report.head(row["response"]))
    return texts


def _hit_by_file(evals: list[Opened], removed: pa.Table) -> list[dict[str, Any]]:
    """Return, for every evaluation file, its rows, those hit, and the samples that went for it."""
    samples = parquet.counts(removed, "eval_file")
    hit = Counter(file for file, _ in parquet.counts(removed, "eval_file", "eval_row"))
    return [
        {
            "file": opened.label,
            "rows": opened.rows,
            "texts": len(opened.texts),
            "rows_hit": hit[opened.label],
            "samples": samples[opened.label],
        }
        for opened in evals
    ]
