"""Verbs that make data, and what selection reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sft_diversity.core import config as configs
from sft_diversity.core import folder, urls
from sft_diversity.core import parts as splitting
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.progress import say
from sft_diversity.core.store import Store
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import IngestConfig, IngestOptions
from sft_diversity.stages import store
from sft_diversity.verbs.options import (
    WORK,
    ConfigFile,
    Corpus,
    DryRun,
    Out,
    OutOrWork,
    Work,
)
from sft_diversity.verbs.results import Result, made, options_from
from sft_diversity.verbs.sources import corpus_of

if TYPE_CHECKING:
    from sft_diversity.exporting.stage import ExportConfig

PartOption = Annotated[
    str | Part | None,
    typer.Option(help="Only the I-th of N parts of the corpus, I/N; then run without."),
]


def ingest(
    *source: Annotated[str | Path, typer.Argument(help="Files, folders, URLs, hub:org/name.")],
    out: Out,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Make a corpus folder of raw files; options are those of `IngestOptions`."""
    asked = options_from(IngestOptions, config, options)
    plain = ingesting.resolve(source, configs.part_of(IngestConfig, asked), asked.format)
    ingesting.check_out(Path(out), plain)
    kept = store(WORK, dry_run)
    return made(kept, kept.get("ingest", plain, out=Path(out)))


def embed(
    corpus: Corpus,
    *,
    out: OutOrWork = None,
    part: PartOption = None,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Embed both components of a corpus; options are those of `EmbedConfig`.

    With `part`, "I/N", only the I-th of N parts, into the work folder's cache of vectors: parts run
    at once, anywhere; the call without `part` then finds every vector. See `part_folder`.
    """
    from sft_diversity.embedding.stage import EmbedConfig

    asked = options_from(EmbedConfig, config, options)
    return _whole_or_part("embed", asked, corpus, out, part, store(work, dry_run))


def index(
    corpus: Corpus,
    *,
    out: OutOrWork = None,
    part: PartOption = None,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Make the incidence of a strategy; options are those of `IndexConfig`.

    With `part`, "I/N", only the I-th of N parts of its costly pass (tokens for micro, words for
    meso, embeddings for macro); the call without `part` then goes on from there. See `part_folder`.
    """
    from sft_diversity.levels.stage import IndexConfig

    asked = options_from(IndexConfig, config, options)
    return _whole_or_part("index", asked, corpus, out, part, store(work, dry_run))


def _whole_or_part(
    stage: str,
    asked: Config,
    corpus: str | Path,
    out: str | Path | None,
    part: str | Part | None,
    kept: Store,
) -> Result:
    if part is None:
        return made(kept, kept.get(stage, asked, Path(corpus), out=Path(out) if out else None))
    if out is not None:
        raise UsageError(f"{stage}: --part fills the work folder; leave out --out")
    return made(kept, kept.get_part(stage, asked, Path(corpus), splitting.parse(part, stage)))


def part_folder(
    verb: str,
    corpus: str | Path,
    part: str | Part,
    *,
    work: str | Path = WORK,
    config: str | Path | None = None,
    **options: Any,
) -> Path:
    """Return the folder that `sftdiv VERB CORPUS --part I/N` writes; its manifest says: finished.

    It depends on the corpus and the options alone, not on the machine, and nothing is made.

    Raises
    ------
    UsageError
        If the verb does not work by parts, or the options or the part are wrong.
    """
    from sft_diversity.embedding.stage import EmbedConfig
    from sft_diversity.levels.stage import IndexConfig

    wanted = splitting.parse(part, verb)
    kinds: dict[str, type[Config]] = {"embed": EmbedConfig, "index": IndexConfig}
    if verb not in kinds:
        raise UsageError(f"{verb}: does not work by parts; leave out --part")
    kept = store(work)
    request = kept.request(verb, options_from(kinds[verb], config, options), Path(corpus))
    return kept.part_folder(request, wanted)


def clean(
    corpus: Annotated[
        str | Path, typer.Argument(help="A corpus, subset or export, or a raw file.")
    ],
    *,
    out: Out,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Evaluation file or folder that no sample may overlap; repeatable."),
    ] = None,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Take near-duplicates and contaminated samples out of a corpus; see `CleanConfig`.

    `corpus` may also be a subset, an export or raw files, which are ingested first.
    """
    from sft_diversity.cleaning import stage as cleaning
    from sft_diversity.cleaning.config import CleanConfig

    asked = options_from(CleanConfig, config, options | {"against": against})
    kept = store(work, dry_run)
    cleaning.check(Path(corpus), Path(out), asked)
    found = corpus_of(kept, [corpus], asked.ingest)
    stage = cleaning.REPORT if asked.report_only else cleaning.STAGE
    return made(kept, kept.get(stage, asked, found, out=Path(out)))


def rewrite(
    source: Annotated[str | Path, typer.Argument(help="A corpus or a subset.")],
    *,
    out: Out,
    work: Work = WORK,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Let one model write the responses of a corpus or subset; see `RewriteConfig`."""
    from sft_diversity.rewriting import stage as rewriting

    asked = options_from(rewriting.RewriteConfig, config, options)
    rewriting.check(Path(source), Path(out))
    kept = store(work, dry_run)
    return made(kept, kept.get("rewrite", asked, subject=source, out=Path(out)))


def export(
    *source: Annotated[
        str | Path,
        typer.Argument(help="Subset, corpus or model folders; several for hub: only."),
        Path,
    ],
    to: Annotated[
        str | Path, typer.Option(help="Folder, hub:org/name, or a URL: s3://bucket/folder."), str
    ],
    config: ConfigFile = None,
    dry_run: DryRun = False,
    **options: Any,
) -> Result:
    """Export a subset, corpus or model to a folder, a URL or `hub:org/name`; see `ExportConfig`.

    A Hub repository takes several subsets and corpora at once, a folder one.
    """
    from sft_diversity.exporting import hub, target
    from sft_diversity.exporting import stage as exporting

    asked = options_from(exporting.ExportConfig, config, options)
    to = str(to)
    sources, repository = [Path(one) for one in source], hub.repository(to)
    exporting.check(sources, to, asked)
    kept = store(asked.work, dry_run)
    away = urls.public_url(to) if urls.is_remote(to) else None
    if not dry_run:
        exporting.check_licences(sources, asked, repository or away, say)
    if away is not None:
        staged = kept.get("export", asked, subject=sources[0]).path
        if dry_run:
            return {"plan": [step | {"out": away} for step in kept.plan]}
        place = target.place_to_write(to)
        copied = target.copy_to(staged, place, asked.overwrite, say)
        manifest = folder.read_manifest(staged, "export")
        return folder.figures(manifest, away) | {"copied": copied}
    if repository is None:
        return made(kept, kept.get("export", asked, subject=sources[0], out=Path(to)))
    plain = asked.model_copy(update={"title": None})  # the title is the repository's
    exports = [kept.get("export", plain, subject=one).path for one in sources]
    if dry_run:
        return {"plan": [step | {"repository": repository, "out": to} for step in kept.plan]}
    return push(exports, repository, asked) | {"out": to}


def push(staged: Sequence[Path], repository: str, asked: ExportConfig) -> Result:
    """Push exported folders to a Hub repository; return figures, `hub` among them."""
    from sft_diversity.exporting import hub

    manifests = [folder.read_manifest(place, "export") for place in staged]
    kind: Literal["dataset", "model"] = (
        "model" if "finetune" in manifests[0]["inputs"] else "dataset"
    )
    options = hub.PushOptions(**{key: getattr(asked, key) for key in hub.OPTIONS})
    pushed = hub.push(staged, repository, kind, options, say)
    figures = manifests[0]["result"] if len(staged) == 1 else {"exports": len(staged)}
    return figures | {"hub": pushed, "seconds": manifests[-1]["run"]["seconds"]}


def verify(
    place: Annotated[str | Path, typer.Argument(metavar="DIR", help="Any output folder.")],
) -> Result:
    """Check a folder against its manifest; `faults` is empty when all is well."""
    return folder.verify(Path(place))


def doctor(work: Work = WORK) -> Result:
    """Say what this machine has for each part of the job."""
    from sft_diversity.verbs import checkup

    return checkup.doctor(Path(work))
