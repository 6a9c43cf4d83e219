"""Curate: native source files -> corpus -> subsets -> export folders.

    sftdiv run curate --config configs/curate/sample.yaml --out curated

Each subset of the config is selected from the same corpus and exported as Parquet shards that
`datasets.load_dataset` and TRL read. Run it again and finished steps are reused.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core.config import Config
from sft_diversity.verbs import data, selecting


class CurateConfig(Config):
    """Which corpus, and which subsets of it."""

    ingest: str = Field(description="ingest config, relative to this file")
    subsets: dict[str, dict[str, Any]] = Field(description="name -> options of `sftdiv select`")


def main(arguments: list[str] | None = None) -> None:
    """Ingest, select every subset, export each."""
    parser = argparse.ArgumentParser("sftdiv run curate", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--root", help="folder of the source files, instead of the config's")
    parser.add_argument("--dry-run", action="store_true", help="check all that is asked for; stop")
    asked = parser.parse_args(arguments)
    config = configs.load(asked.config, CurateConfig)
    corpus, subsets, work = asked.out / "corpus", asked.out / "subsets", asked.out / "work"
    selecting.check_subsets(corpus, config.subsets, out=subsets, work=work)
    source = asked.config.parent / config.ingest
    data.ingest(out=corpus, config=source, root=asked.root, dry_run=asked.dry_run)
    if asked.dry_run:
        return
    selecting.check_subsets(corpus, config.subsets, out=subsets, work=work)  # sizes too
    for name, options in config.subsets.items():
        subset = subsets / name
        selecting.select(corpus, out=subset, work=work, **options)
        data.export(subset, to=str(asked.out / "export" / name))
        print(f"{name}: {asked.out / 'export' / name}")


if __name__ == "__main__":
    main()
