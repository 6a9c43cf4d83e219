"""One tiny encoder for the whole room."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    from tests.embedding import make

    return make.encoder(tmp_path_factory.mktemp("encoder") / "tiny")
