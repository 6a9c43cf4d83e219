"""A page's session over a small real corpus, and a client of its server."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sft_diversity.core.store import corpus_at
from sft_diversity.exploring.app import Routes
from sft_diversity.exploring.session import Session
from sft_diversity.stages import store
from sft_diversity.verbs.sources import corpus_of
from tests.exploring import BASE, GIVEN, PORT, TOKEN

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """A corpus of 350 real samples, and the work folder in which it was made."""
    work = tmp_path_factory.mktemp("explore") / "work"
    made = corpus_of(store(work), [ROOT / "data/sample/dolly_3k"], {})
    return made.path, work


@pytest.fixture(scope="session")
def session(pool, tmp_path_factory):
    corpus, work = pool
    root = tmp_path_factory.mktemp("root")
    return Session(corpus_at(corpus), [str(corpus)], work, GIVEN, root)


@pytest.fixture(scope="session")
def client(session):
    return TestClient(Routes(session).app(TOKEN, PORT), base_url=BASE)
