"""`ingest`: raw datasets in any known format become one canonical corpus."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sft_diversity.core import (
    corpus,
    drafts,
    lineage,
    machine,
    progress,
    resources,
    schema,
    stopping,
    urls,
)
from sft_diversity.core.drafts import Draft
from sft_diversity.core.errors import BadRowsError, DataError, UsageError
from sft_diversity.core.folder import rows_account
from sft_diversity.core.isolated import IsolatedReader
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.ingestion import assemble, hub, own
from sft_diversity.ingestion.config import Format, IngestConfig, SourceConfig
from sft_diversity.ingestion.fetched import Fetcher
from sft_diversity.ingestion.files import (
    File,
    changed,
    files_of,
    found_by,
    key_of,
    most_rows,
    named_by,
    public_path,
    sources_from,
)
from sft_diversity.ingestion.parts import PARTS, Part, parts_of, read_part
from sft_diversity.ingestion.rows import REASONS
from sft_diversity.ingestion.runs import read_run
from sft_diversity.ingestion.worker import helping

VERSION = 4
QUARANTINE = "quarantine.jsonl"
_MAX_WRITERS = 4  # each holds a shard of some thousand rows
_ROWS_PER_S, _BYTES_PER_ROW = 15_000, 200  # packed text on one 3 GHz core: for estimates only


def resolve(
    sources: Sequence[str | Path], config: IngestConfig, format: Format = "auto"
) -> IngestConfig:
    """Return `config` with `sources`, if any are given, in the place of its own.

    Raises
    ------
    UsageError
        If there is no source at all.
    """
    if sources:
        listed = sources_from([str(source) for source in sources], format)
        config = config.model_copy(update={"sources": listed})
    if config.root is not None:
        root = resources.from_here_or_checkout(config.root)
        config = config.model_copy(update={"root": root})
    if not config.sources:
        raise UsageError("ingest: no source; name files, folders or Hub ids, or give --config")
    return config


def check_rows(config: IngestConfig, fetcher: Fetcher, least: int = 0) -> None:
    """Refuse sources that cannot hold `least` samples, as far as that shows without reading them.

    Raises
    ------
    UsageError
        If a source is not there.
    DataError
        If they hold fewer rows, or `size` of the config is below it.
    """
    rows = 0
    files = [file for i in range(len(config.sources)) for file in files_of(config, i, fetcher)]
    with IsolatedReader("ingest") as isolated:
        for file in files:
            if rows < least:
                rows += most_rows(file, least - rows, config.limits, isolated)
    rows = min(rows, config.size or rows)
    if rows < least:
        raise DataError(
            f"select: size is {least:,} but the sources have {rows:,} rows at most; lower --size "
            "or name more sources"
        )


def needs(config: IngestConfig, ask: Ask) -> None:
    """Read the files of every source, each source by its content."""
    prepared = _prepare(config, Fetcher(ask.work, ask.dry, ask.once))
    for name, key in prepared.keys.items():
        ask.key(name, key)


def join(job: Job[IngestConfig]) -> Result:
    """Make the corpus: `samples/`, `dropped.parquet`, `quarantine.jsonl`.

    Raises
    ------
    UsageError
        If a source is not there or the config contradicts itself.
    DataError
        If a file is damaged as a whole, of no known format, or fewer samples are there than asked.
    BadRowsError
        If more rows of a source are bad than `max_bad_fraction` allows; they are in
        `OUT.quarantine.jsonl`.

    Notes
    -----
    Two passes, O(rows · log rows); memory holds one run (64 MB of text) and 60 bytes a row. A
    stopped run goes on with the next part (a large file, or several small ones).
    """
    config, draft = job.config, job.draft
    prepared = _prepare(config, Fetcher(job.work, False, job.once))
    if prepared.keys != dict(job.draft.work.inputs):
        raise changed("a source")
    for line in hub.moving(_on_the_hub(prepared, config)):
        job.say(line)
    parts = parts_of(prepared.files)
    if draft.state == "resumed":
        at = sum(draft.has(f"{part.name}.json") for part in parts)
        job.say(f"ingest: resumed at part {at} of {len(parts)}")
    counts = _first_pass(draft, parts, config)
    _check_bad(draft, parts, counts, prepared, config)
    result, rows = _second_pass(draft, counts, prepared, config)
    _forget_parts(draft)
    _failed_quarantine(draft.out).unlink(missing_ok=True)
    return Result(
        rows=rows,
        seeds={"seed": config.seed},
        figures=result,
        run={"fetched": fetched} if (fetched := _fetched(config)) else {},
        lineage=_lineage(prepared, config),
        recipe=_recipe(prepared, config),
    )


def _options(config: IngestConfig) -> dict[str, Any]:
    """Return what changes a byte: not where files lie, nor how many rows may be bad."""
    options = config.model_dump(mode="json", exclude={"root", "max_bad_fraction"})
    for source in options["sources"]:
        del source["path"]
    return options


def _cost(config: IngestConfig, ask: Ask) -> dict[str, Any]:
    """Estimate rows, time and disk from file sizes alone."""
    prepared = _prepare(config, Fetcher(ask.work, ask.dry, ask.once))
    size = sum(file.bytes for file in prepared.files)
    listed = [
        {
            "name": source.name,
            "files": len(prepared.of(i)),
            "bytes": sum(file.bytes for file in prepared.of(i)),
        }
        for i, source in enumerate(config.sources)
    ]
    rows = size // _BYTES_PER_ROW
    seconds = round(rows / _ROWS_PER_S, 1)
    return {"sources": listed, "rows": rows, "seconds": seconds, "bytes": 2 * size}


def check_out(out: Path, config: IngestConfig) -> None:
    """Refuse a place that the corpus cannot be written to: in a source, or around one.

    Raises
    ------
    UsageError
        Also where a source's pattern would find the corpus when it is run again.
    """
    root = Path(config.root or ".")
    near = [source for source in config.sources if not urls.is_remote(source.path)]
    places = [root / named_by(source) for source in near]
    drafts.check_out(out, "ingest", places)
    made = [out.resolve() / name for name in ("samples/0.parquet", "dropped.parquet", QUARANTINE)]
    for place in places:
        if any(found_by(place, path) for path in made):
            raise UsageError(
                f"ingest: {out} lies where {place} is looked for; name a folder elsewhere"
            )
        if out.is_dir() and place.resolve().is_relative_to(out.resolve()):
            raise UsageError(
                f"ingest: source {place} lies in {out}, which would be replaced; "
                "name another folder"
            )


@dataclass(frozen=True)
class _Prepared:
    """The files of all sources, in order, and the content key of each source by its name."""

    files: list[File]
    digests: list[str | None]
    keys: dict[str, str | None]

    def of(self, source: int) -> list[File]:
        """Return the files of a source, by its number."""
        return [file for file in self.files if file.source == source]


def _prepare(config: IngestConfig, fetcher: Fetcher) -> _Prepared:
    files = [file for i in range(len(config.sources)) for file in files_of(config, i, fetcher)]
    digests = [file.sha256() for file in files]
    keys = {}
    for i, source in enumerate(config.sources):
        mine = [k for k, file in enumerate(files) if file.source == i]
        keys[source.name] = key_of([files[k] for k in mine], [digests[k] for k in mine])
    return _Prepared(files, digests, keys)


def _lineage(prepared: _Prepared, config: IngestConfig) -> lineage.Lineage:
    """Return the lineage of sources that are folders of ours."""
    found: lineage.Lineage = {}
    for i, source in enumerate(config.sources):
        places = own.folders(prepared.of(i))
        names = [source.name] if len(places) == 1 else [f"{source.name}/{p.name}" for p in places]
        found |= lineage.of(**dict(zip(names, places, strict=True)))
    return found


def _recipe(prepared: _Prepared, config: IngestConfig) -> dict[str, Any]:
    kept_out = {"root", "max_bad_fraction"}  # as in the key: equal corpora have equal manifests
    options = config.model_dump(mode="json", exclude=kept_out, exclude_defaults=True)
    for i, source in enumerate(options["sources"]):
        source["path"] = public_path(config, i, prepared.of(i))
    return options


def _fetched(config: IngestConfig) -> dict[str, str]:
    """Return the URL of each source that has one, without credentials."""
    return {
        source.name: urls.public_url(source.path)
        for source in config.sources
        if urls.is_remote(source.path)
    }


def _on_the_hub(prepared: _Prepared, config: IngestConfig) -> list[tuple[str, str]]:
    """Return path and label of each source that is on the Hub."""
    files = [file for file in prepared.files if file.kind == "hub"]
    return [(config.sources[file.source].path, file.label) for file in files]


def _licence(source: SourceConfig, files: list[File]) -> str | None:
    """Return a source's licence: as the config states it, else as its card on the Hub does."""
    if source.licence is None and files and files[0].kind == "hub":
        return hub.licence_of(files[0].label)
    return source.licence


def _first_pass(draft: Draft, parts: list[Part], config: IngestConfig) -> list[dict[str, Any]]:
    for place in draft.path.glob(".parts*"):  # half removed, or of another form: keys would differ
        if place.name != PARTS:
            shutil.rmtree(place)
    size = sum(part.bytes for part in parts)  # none is known of what is streamed
    with (
        progress.progress("ingest", size, "bytes", silent=size == 0) as bar,
        helping(draft, parts, config) as mine,
    ):
        for part in mine:
            read_part(draft, part, config)
            bar.advance(part.bytes)
            stopping.safe_point("ingest")
    return [read_part(draft, part, config) for part in parts]


def _check_bad(
    draft: Draft,
    parts: list[Part],
    counts: list[dict[str, Any]],
    prepared: _Prepared,
    config: IngestConfig,
) -> None:
    """Gather the quarantine; stop if one source has too much in it."""
    with draft.writing(QUARANTINE) as path, path.open("wb") as whole:
        for part in parts:
            with (draft.path / f"{part.name}.quarantine.jsonl").open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    files = [file for part in counts for file in part["files"]]
    for i, source in enumerate(config.sources):
        mine = [
            count for file, count in zip(prepared.files, files, strict=True) if file.source == i
        ]
        rows, bad = (sum(count[what] for count in mine) for what in ("rows", "quarantined"))
        if bad > config.max_bad_fraction * rows:
            kept = _failed_quarantine(draft.out)
            shutil.copyfile(draft.path / QUARANTINE, kept)
            raise BadRowsError(
                f"ingest: source {source.name}: {bad:,} of {rows:,} rows are bad "
                f"({bad / rows:.1%}), {_commonest(kept, source.name)}; `max_bad_fraction` allows "
                f"{config.max_bad_fraction:.1%}; see {kept}, mend the source or raise the limit"
            )


def _commonest(quarantine: Path, source: str) -> str:
    """Say why most of a source's bad rows are bad, with the first of them."""
    count: Counter[str] = Counter()
    first: dict[str, dict[str, Any]] = {}
    with quarantine.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            if row["source"] == source:
                count[row["reason"]] += 1
                first.setdefault(row["reason"], row)
    reason, number = count.most_common(1)[0]
    row = first[reason]
    detail = f" ({row['detail']})" if row["detail"] else ""
    how_many = "all" if len(count) == 1 else f"{number:,}"
    where = f"row {row['row']} of {row['file']}"
    return f"{how_many} for {reason}: {REASONS[reason]}, as in {where}{detail}"


def _failed_quarantine(out: Path) -> Path:
    return out.parent / f"{out.name}.{QUARANTINE}"


def _second_pass(
    draft: Draft, counts: list[dict[str, Any]], prepared: _Prepared, config: IngestConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the shards; return the manifest's result and row account."""
    runs = [read_run(draft.path / name) for part in counts for name in part["runs"]]
    labels = [file.label for file in prepared.files]
    names = [config.sources[file.source].name for file in prepared.files]
    verdicts = assemble.judge(runs, [file.source for file in prepared.files], config)
    kept = int((verdicts.reason == assemble.REASONS.index("kept")).sum())
    size = sum(run.nbytes for run in runs) * kept // len(verdicts)
    shards = assemble.Shards(runs, verdicts, labels, names, corpus.bucket_digits(kept, size))

    def write(bucket: int) -> None:
        name = f"samples/{shards.name(bucket)}.parquet"
        if not draft.has(name):
            draft.write_table(name, schema.check(shards.make(bucket), shards.schema, "ingest"))

    with (
        progress.progress("ingest: shards", len(shards), "shards") as bar,
        ThreadPoolExecutor(min(machine.cores(), _MAX_WRITERS)) as pool,
    ):
        for _ in pool.map(write, range(len(shards))):
            bar.advance()
            stopping.safe_point("ingest")
    draft.write_table("dropped.parquet", assemble.dropped(runs, verdicts, labels, names))
    carried = assemble.origins(runs, verdicts)
    return _accounts(counts, verdicts, carried, prepared, config)


def _accounts(
    counts: list[dict[str, Any]],
    verdicts: assemble.Verdicts,
    carried: dict[int, dict[str, Counter[str]]],
    prepared: _Prepared,
    config: IngestConfig,
) -> tuple[dict[str, Any], dict[str, Any]]:
    per_file = [file for part in counts for file in part["files"]]
    per_source = verdicts.counts(len(config.sources))
    listed = []
    total: dict[str, int] = {}
    for i, source in enumerate(config.sources):
        mine = [k for k, file in enumerate(prepared.files) if file.source == i]
        verdict = dict(per_source[i])
        read = sum(per_file[k]["rows"] for k in mine)
        bad = sum(per_file[k]["quarantined"] for k in mine)
        for what, number in {**verdict, "read": read, "bad": bad}.items():
            total[what] = total.get(what, 0) + number
        said = {
            "domain": source.domain,
            "licence": _licence(source, [prepared.files[k] for k in mine]),
            "formats": sorted({per_file[k]["format"] for k in mine}),
        }
        stated = own.licences(prepared.of(i))
        before = {name for k in mine for name in carried.get(k, {})} - {""}
        for name in sorted(before):
            held = {k: carried[k][name] for k in mine if name in carried.get(k, {})}
            counted = sum(held.values(), Counter())
            verdict = {what: n - counted[what] for what, n in verdict.items()}
            read -= counted.total()
            kept = counted.pop("kept", 0)
            listed.append(
                {
                    "name": name,
                    **said,
                    "licence": source.licence or stated.get(name) or said["licence"],
                }
                | {"rows": rows_account(kept + counted.total(), kept, counted)}
                | {"files": [_file_of(prepared, k, n.total(), 0) for k, n in held.items()]}
            )
        if read or not before:
            rows = {k: per_file[k]["rows"] - _before(carried.get(k, {})) for k in mine}
            listed.append(
                {"name": source.name, **said}
                | {"rows": rows_account(read, verdict.pop("kept"), verdict, bad)}
                | {
                    "files": [
                        _file_of(prepared, k, rows[k], per_file[k]["quarantined"]) for k in mine
                    ]
                }
            )
    read, bad, kept = total.pop("read"), total.pop("bad"), total.pop("kept")
    return {"sources": _merged(listed)}, rows_account(read, kept, total, bad)


def _before(counts: dict[str, Counter[str]]) -> int:
    """Return how many rows of a file an earlier corpus held."""
    return sum(counted.total() for name, counted in counts.items() if name)


def _file_of(prepared: _Prepared, number: int, rows: int, bad: int) -> dict[str, Any]:
    named = {"file": prepared.files[number].label, "sha256": prepared.digests[number]}
    return named | {"rows": rows, "quarantined": bad}


def _merged(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry a name: two subsets of one corpus share its sources."""
    found: dict[str, dict[str, Any]] = {}
    for one in listed:
        first = found.setdefault(one["name"], one)
        if first is one:
            continue
        rows, more = first["rows"], one["rows"]
        dropped = Counter(rows["dropped"]) + Counter(more["dropped"])
        bad = rows["quarantined"] + more["quarantined"]
        first["rows"] = rows_account(
            rows["in"] + more["in"], rows["kept"] + more["kept"], dropped, bad
        )
        licences = dict.fromkeys(said["licence"] for said in (first, one) if said["licence"])
        first |= {
            "domain": first["domain"] or one["domain"],
            "licence": ", ".join(licences) or None,
            "formats": sorted({*first["formats"], *one["formats"]}),
            "files": first["files"] + one["files"],
        }
    return list(found.values())


def _forget_parts(draft: Draft) -> None:
    """Remove the first pass's files; renamed first: half a removal must not be resumed from."""
    old = draft.path / f"{PARTS}.old"
    (draft.path / PARTS).rename(old)
    shutil.rmtree(old)


def _lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Say what became of the rows, and which sources gave no sample."""
    rows = manifest["rows"]
    lost = "".join(f", {number:,} {reason}" for reason, number in rows["dropped"].items())
    yield (
        f"{rows['in']:,} rows in: {rows['kept']:,} kept{lost}, {rows['quarantined']:,} quarantined"
    )
    for line in corpus.emptied(manifest):
        yield f"warning: {line}; see dropped.parquet and {QUARANTINE}"


INGEST = Stage(
    "ingest", VERSION, IngestConfig, needs=needs, join=join, options=_options, cost=_cost,
    lines=_lines,
)  # fmt: skip
