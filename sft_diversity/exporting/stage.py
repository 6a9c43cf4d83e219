"""`export`: a subset, a corpus or a model as a folder, or a Hub repository, that others read."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from sft_diversity.core import corpus as corpora
from sft_diversity.core import (
    drafts,
    folder,
    lineage,
    models,
    parquet,
    progress,
    schema,
    stopping,
    urls,
)
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.exporting import cards, clients, formats, hub, licences, target
from sft_diversity.exporting.shards import BATCH_ROWS, RowStream, Statistics, write_shard

VERSION = 6
_STAGES = {"select": "selection.json", "finetune": "training.json"}
_STAGES |= dict.fromkeys(corpora.MAKERS, "corpus.json")
_MODEL_PARTS = (*models.FILES, "training.jsonl", "README.md")


class ExportConfig(Config):
    """How to export."""

    format: formats.Name = Field(
        default="chat",
        description="columns of a row; `chat`: messages, and prompt with completion",
    )
    file_type: Literal["parquet", "jsonl"] = Field(
        default="parquet", description="kind of the data files"
    )
    leave_out_unfit: bool = Field(
        default=False,
        description="export without the rows that the format cannot hold; left_out.jsonl has them",
    )
    max_shard_mb: int = Field(
        default=500, ge=1, le=5000, description="largest shard, before compression"
    )
    title: str | None = Field(default=None, description="title of the card; default: what it is")
    licences: dict[str, str] = Field(
        default_factory=dict, description="source -> licence, over those the corpus states"
    )
    corpus: Path | None = Field(
        default=None,
        description="corpus a subset was chosen from, or what a model was trained on: whose "
        "sources' licences hold",
    )
    acknowledge_licences: bool = Field(
        default=False,
        description="push rows whose licences are unknown, non-commercial or forbid derivatives",
    )
    private: bool = Field(default=True, description="make a new Hub repository private")
    branch: str | None = Field(
        default=None, description="Hub branch to write to, made if it is not there; default: main"
    )
    tag: str | None = Field(default=None, description="tag that names what is pushed on the Hub")
    name: str | None = Field(
        default=None, description="Hub config of the rows; default: strategy and diversity"
    )
    overwrite: bool = Field(
        default=False, description="go over what others wrote in the Hub repository or the folder"
    )
    work: Path = Field(
        default=Path(".sftdiv"), description="where an export for the Hub or a URL is staged"
    )


def check(sources: Sequence[Path], to: str, config: ExportConfig) -> None:
    """Refuse sources that cannot be exported together, and a place that cannot be written to."""
    for source in sources:
        _exportable(source)
    if hub.repository(to) is None:
        if len(sources) > 1:
            raise UsageError(f"export: a folder takes one source, not {len(sources)}; or use hub:")
        if urls.is_remote(to):
            place = target.place_to_write(to)
            if (config.branch, config.tag, config.name) != (None, None, None):
                raise UsageError(
                    f"export: {place}: branch, tag and name are of the Hub; leave them out, or "
                    "push to hub:org/name"
                )
        else:
            drafts.check_out(Path(to), "export")


def needs(config: ExportConfig, ask: Ask) -> None:
    """Read a finished subset, corpus or model."""
    manifest = _exportable(Path(ask.subject))
    ask.key(str(manifest["stage"]), str(manifest["digest"]))
    ask.resolve(title=_title(manifest, config))
    if manifest["stage"] != "finetune":
        ask.resolve(**{name: getattr(config, name) for name in _OF_ROWS})
        ask.resolve(licences=licences.stated(manifest, config.licences, config.corpus))


_OF_ROWS = ("format", "file_type", "leave_out_unfit", "max_shard_mb")


def join(job: Job[ExportConfig]) -> Result:
    """Make the export's folder.

    A subset or corpus becomes `data/train-00000-of-0000N.parquet` (or `.jsonl`), a dataset card
    README.md, the selection's manifest as `selection.json` and the options to make it again as
    `selection.yaml` (a corpus's as `corpus.json`, `.yaml`), and what trainers need to read it
    (`clients`); a model becomes its own files and `training.json`. Each shard is read back and
    compared before it counts.

    Raises
    ------
    DataError
        If there are no rows, or rows do not fit the format (see `leave_out_unfit`).
    """
    source = Path(job.subject)
    manifest = _exportable(source)
    if manifest["stage"] == "finetune":
        return _export_model(source, manifest, job.draft)
    return _export_samples(source, manifest, job.draft, job.config, job.say)


def _cost(config: ExportConfig, ask: Ask) -> dict[str, Any]:
    """Count rows, shards, bytes."""
    source = Path(ask.subject)
    manifest = _exportable(source)
    of_model = manifest["stage"] == "finetune"
    files = _model_files(source) if of_model else parquet.listed(source, "samples")
    size = sum(path.stat().st_size for path in files)
    found: dict[str, Any] = {"source": str(source), "of": manifest["stage"]}
    if not of_model:
        count, shards = _shards(files, config.max_shard_mb)
        found |= {"rows": count, "shards": shards}
        found |= {"format": config.format, "file_type": config.file_type}
    return found | {"bytes": size, "seconds": round(1 + size / 2e7)}


EXPORT = Stage(
    "export", VERSION, ExportConfig, needs=needs, join=join, cost=_cost,
    options=lambda config: {},  # which count depends on what is exported: see `needs`
)  # fmt: skip


def check_licences(
    sources: Sequence[Path],
    config: ExportConfig,
    elsewhere: str | None,
    say: Callable[[str], None],
) -> None:
    """Show the licences that need a look; before rows leave this machine they must be acknowledged.

    Raises
    ------
    UsageError
        If they are not. Or if a repository is to hold a model and something else.
    """
    manifests = [_exportable(source) for source in sources]
    models = sum(one["stage"] == "finetune" for one in manifests)
    if elsewhere is not None and models and len(sources) > 1:
        raise UsageError("export: a Hub repository takes one model, or subsets and corpora")
    found: dict[str, str] = {}
    for manifest in manifests:
        found |= licences.of_rows(manifest, config.licences, config.corpus)
    look = licences.doubts(found)
    if not look:
        return
    said = f"{len(look)} of {len(found)} sources need a look: {'; '.join(look)}"
    if elsewhere is not None and not config.acknowledge_licences:
        raise UsageError(
            f"export: licences of {said}; may these go to {elsewhere}? then add "
            "--acknowledge-licences (or state them with `licences` in --config)"
        )
    say(f"export: licences of {said}")


def _exportable(source: Path) -> dict[str, Any]:
    manifest = folder.read_manifest(source)
    if manifest["stage"] not in _STAGES:
        raise UsageError(
            f"export: {source} is an output of `{manifest['stage']}`; name a subset, a corpus "
            "or a model (an output of select, ingest or finetune)"
        )
    return manifest


def _title(manifest: Mapping[str, Any], config: ExportConfig) -> str:
    if config.title is not None:
        return " ".join(config.title.split())
    if manifest["stage"] == "select":
        chosen = cards.figures_of(manifest)
        dial, size = chosen.get("diversity"), chosen.get("rows")
        parts = [str(chosen.get("strategy", "subset")), "" if dial is None else f"{dial:g} %"]
        parts.append("" if size is None else f"{size:,} samples")
        return ", ".join(part for part in parts if part)
    return "SFT corpus" if manifest["stage"] in corpora.MAKERS else "fine-tuned model"


def _shards(files: list[Path], max_shard_mb: int) -> tuple[int, int]:
    """Return how many rows there are and how many shards they make."""
    count, size = sum(map(parquet.rows, files)), sum(map(parquet.unpacked, files))
    return count, max(1, math.ceil(size / (max_shard_mb * 1_000_000)))


def _export_samples(
    source: Path,
    manifest: Mapping[str, Any],
    draft: drafts.Draft,
    config: ExportConfig,
    say: Callable[[str], None],
) -> Result:
    files = parquet.listed(source, "samples")
    count, shards = _shards(files, config.max_shard_mb)
    if count == 0:
        raise DataError(f"export: {source} has no rows; nothing to export")
    found = _surveyed(files, draft, config, say)
    shards = min(found.fit, math.ceil(shards * found.fit / count))
    statistics = Statistics()
    wanted = schema.samples_like(parquet.schema(files[0]), subset=manifest["stage"] == "select")
    stream = RowStream(files, wanted, {one["id"] for one in found.unfit})
    with progress.progress("export", found.fit) as bar:
        for shard in range(shards):
            stopping.safe_point("export")
            size = found.fit * (shard + 1) // shards - found.fit * shard // shards
            name = f"data/train-{shard:05}-of-{shards:05}.{config.file_type}"
            write_shard(draft, name, stream.take(size), config.format, statistics, bar.advance)
    name = _STAGES[manifest["stage"]]
    draft.write_json(name, {k: v for k, v in manifest.items() if k != "run"})
    _write_text(draft, name.replace(".json", ".yaml"), lineage.again(manifest)[1])
    title = str(draft.work.config["title"])
    trainers = clients.clients(config.format, title, found)
    for one in trainers:
        for name, text in one.files.items():
            _write_text(draft, name, text)
    stated = draft.work.config["licences"]
    columns = formats.format_columns(config.format, wanted)
    text = cards.dataset_card(
        title, columns, statistics, stated, manifest, config.file_type, clients.notes(trainers)
    )
    _write_text(draft, "README.md", text)
    unknown = sorted(name for name in statistics.sources if name not in stated)
    return Result(
        rows=folder.rows_account(count, statistics.rows, {"unfit": len(found.unfit)}),
        figures=statistics.as_json()
        | {"shards": shards, "unknown_licences": unknown, "format": config.format}
        | {"file_type": config.file_type, "not_alternating": found.broken_turns}
        | {"clients": {one.name: one.file for one in trainers}},
        lineage={str(manifest["stage"]): lineage.entry(manifest)},
    )


def _surveyed(
    files: list[Path], draft: drafts.Draft, config: ExportConfig, say: Callable[[str], None]
) -> formats.Survey:
    """Look at all rows first: what does not fit is refused, or listed, before a shard is made."""
    batches = (
        pa.Table.from_batches([batch])
        for path in files
        for batch in parquet.batches(path, BATCH_ROWS, ["id", "messages"])
    )
    found = formats.survey_rows(batches, config.format, config.file_type)
    if not found.unfit:
        return found
    if not config.leave_out_unfit:
        raise formats.unfit_error(found, config.format)
    if not found.fit:
        raise DataError(f"export: no sample fits format {config.format}; use --format messages")
    lines = folder.json_lines(found.unfit)
    _write_text(draft, "left_out.jsonl", lines.decode())
    say(f"export: {len(found.unfit):,} of {found.rows:,} samples left out, see left_out.jsonl")
    return found


def _write_text(draft: drafts.Draft, name: str, text: str) -> None:
    with draft.writing(name) as path:
        path.write_text(text, "utf-8", newline="\n")


def _export_model(source: Path, manifest: Mapping[str, Any], draft: drafts.Draft) -> Result:
    files = _model_files(source)
    if not any(path.suffix == ".safetensors" for path in files):
        raise DataError(f"export: {source} has no .safetensors weights; nothing to export")
    for path in files:
        stopping.safe_point("export")
        if not draft.has(path.name):
            with draft.writing(path.name) as scratch:
                shutil.copyfile(path, scratch)
    draft.write_json("training.json", {k: v for k, v in manifest.items() if k != "run"})
    size = sum(path.stat().st_size for path in files)
    return Result(figures={"files": [path.name for path in files], "bytes": size})


def _model_files(source: Path) -> list[Path]:
    """Return a model's own files: weights as safetensors only, nothing that unpickles."""
    own = folder.listed(source, folder.read_input(source))
    return [path for path in own if any(fnmatch(path.name, part) for part in _MODEL_PARTS)]
