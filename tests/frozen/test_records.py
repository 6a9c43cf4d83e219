"""Whatever is rebuilt inside, people find the same outside; see `recording`."""

from __future__ import annotations

import json

import pytest

from tests.frozen import recording

FROZEN = json.loads(recording.RECORDS.read_text("utf-8"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("frozen")


@pytest.mark.parametrize("part", recording.PARTS)
def test_what_is_frozen_is_as_it_was(part, home):
    made = json.loads(json.dumps(recording.PARTS[part](home)))
    assert made == FROZEN[part]
