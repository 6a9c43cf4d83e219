"""The table of stages that the store is given, each loaded when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from sft_diversity.core import config as configs
from sft_diversity.core.stage import Stage, Tool
from sft_diversity.core.store import Store

_HOMES = {
    "advise": "fitting.advising:ADVISE",
    "answers": "scoring.generate.writing:WRITTEN",
    "clean": "cleaning.stage:CLEAN",
    "clean-report": "cleaning.stage:CLEAN_REPORT",
    "embed": "embedding.stage:EMBED",
    "export": "exporting.stage:EXPORT",
    "fit": "fitting.stage:FIT",
    "ingest": "ingestion.stage:INGEST",
    "index": "levels.stage:INDEX",
    "map": "maps.stage:MAP",
    "measure": "metrics.stage:MEASURE",
    "quality": "scoring.quality:QUALITY",
    "report": "reporting.stage:REPORT",
    "rewrite": "rewriting.stage:REWRITE",
    "select": "selection.stage:SELECT",
    "score generate": "scoring.generate.stage:GENERATE",
    "score harness": "scoring.harness.stage:HARNESS",
    "score heldout": "scoring.stage:HELDOUT",
    "score pairwise": "scoring.pairwise.stage:PAIRWISE",
    "tokens": "levels.tokens:TOKENS",
    "words": "levels.reading:WORDS",
}


class StageTable(Mapping[str, Stage[Any]]):
    """Stages by name."""

    def __getitem__(self, name: str) -> Stage[Any]:
        module, _, constant = _HOMES[name].partition(":")
        stage: Stage[Any] = getattr(import_module(f"sft_diversity.{module}"), constant)
        return stage

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)


def _encoder(options: Mapping[str, Any], dry: bool) -> Tool:
    from sft_diversity.embedding.stage import EmbedConfig
    from sft_diversity.embedding.texts import text_encoder

    return text_encoder(configs.build(EmbedConfig, options, "key `embed`"), dry)


#: What a room lends to stages of other rooms.
TOOLS = {"encoder": _encoder}


def store(work: str | Path, dry: bool = False) -> Store:
    """Return the store of a work folder; with `dry` it makes nothing, see `Store.plan`."""
    return Store(Path(work), StageTable(), TOOLS, dry)
