"""One corpus, two subsets and a study, made once."""

from __future__ import annotations

import pytest

from sft_diversity.reporting.config import ReportConfig
from sft_diversity.reporting.stage import DATA, PAGE
from tests.making import report
from tests.reporting import making


@pytest.fixture(scope="session")
def made(tmp_path_factory, tokenizer):
    root = tmp_path_factory.mktemp("report")
    corpus, work = making.make(root, tokenizer)
    return {
        "root": root,
        "corpus": corpus,
        "work": work,
        "one": making.subset(corpus, root / "one", range(0, 60), strategy="micro-response"),
        "two": making.subset(corpus, root / "two", range(40, 240, 2), strategy="random"),
        "study": making.study(root, corpus),
    }


@pytest.fixture(scope="session")
def pages(made, tmp_path_factory):
    """Return the folder of a report of each sort."""
    out = tmp_path_factory.mktemp("pages")
    config = ReportConfig(layout="pca", samples=100, map_points=150)
    sorts = {"subset": ["one"], "comparison": ["one", "two"], "study": ["study"],
             "corpus": ["corpus"]}  # fmt: skip
    for sort, names in sorts.items():
        sources = [made[name] for name in names]
        report(sources, out / sort, config, made["work"])
    return out


__all__ = ["DATA", "PAGE", "made", "pages"]
