"""A work folder for the made-up stages, and what is in one that nobody disturbed."""

from __future__ import annotations

import pytest

from tests.core import making
from tests.core.making import CORPUS, noted, store
from tests.making import outputs


@pytest.fixture
def here(tmp_path):
    """This machine, as it is at the start of every test."""
    making.here = making.Here(beside=tmp_path)
    yield making.here
    making.here = making.Here()


@pytest.fixture
def root(tmp_path, here):
    """The work folder."""
    return tmp_path / "work"


@pytest.fixture
def alone(tmp_path, here):
    """The outputs of a work folder in which `total` was made undisturbed."""
    place = tmp_path / "alone"
    store(place).get("total", {}, CORPUS)
    noted(tmp_path)
    return outputs(place)
