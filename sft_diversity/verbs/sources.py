"""The corpus that a verb reads, and what a finished subset was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, lineage
from sft_diversity.core.errors import UsageError
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store, corpus_at


def corpus_of(
    store: Store, sources: Sequence[str | Path], options: Mapping[str, Any], least: int = 0
) -> Made:
    """Return the one source if it is a corpus, else what `ingest` makes of them.

    Raw sources that cannot hold `least` samples are refused. A subset or an export is read back
    with the sources, licences and `meta` that it had.
    """
    if len(sources) == 1 and corpora.is_corpus(Path(sources[0])):
        return corpus_at(Path(sources[0]))
    from sft_diversity.ingestion import stage as ingesting  # with polars: for raw sources alone
    from sft_diversity.ingestion.config import IngestConfig
    from sft_diversity.ingestion.fetched import Fetcher

    config = ingesting.resolve(sources, configs.build(IngestConfig, options, "key `ingest`"))
    request = store.request("ingest", config, None)
    found = store.resolve(request).made
    ingesting.check_out(found.path, config)
    if not found.there:
        ingesting.check_rows(config, Fetcher(store.root, store.dry, store.once), least)
    made = store.get("ingest", config)
    if made.there or not store.dry:
        return corpus_at(made.path)
    rows = next(step["rows"] for step in store.plan if step["out"] == str(made.path))
    return Made(made.path, None, rows, there=False)


def made_from(subset: Path, root: Path, corpus: Path | None = None) -> dict[str, Path]:
    """Return the folders that a subset was made from, found by their contents.

    Parameters
    ----------
    subset : Path
    root : Path
        The work folder; what lies beside it is looked at too.
    corpus : Path, optional
        Where the corpus is, if neither of the two holds it.

    Returns
    -------
    dict
        `corpus`, and as far as they are there `incidence`, and `embeddings-<component>`.

    Raises
    ------
    UsageError
        If the corpus is not found, or is another.
    """
    manifest = folder.read_manifest(subset, "select")
    near = [path.parent for path in sorted(root.glob("*/*/manifest.json"))]
    beside = [path.parent for path in sorted(root.absolute().parent.glob("*/manifest.json"))]
    found = lineage.found_among([manifest], [*near, *beside], corpus)
    if found.corpus is None:
        raise UsageError(
            f"{subset}: its corpus is not in {root} nor beside it; name it with --corpus, "
            "and the work folder with --work"
        )
    there = {f"embeddings-{component}": at for component, at in found.embeddings.items()}
    for at in found.indexes.values():
        if manifest["inputs"].get("incidence") in folder.keys_of(folder.read_manifest(at)):
            there["incidence"] = at
    return there | {"corpus": found.corpus}
