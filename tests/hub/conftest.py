"""One stand-in and one shell for all tests: a shell loads for some seconds."""

from __future__ import annotations

import pytest

from tests.hub.client import OWNER, READER, STRANGER, Shell
from tests.hub.server import running


@pytest.fixture(scope="session")
def shell(tmp_path_factory):
    with running(OWNER, READER, STRANGER) as hub:
        opened = Shell(hub, tmp_path_factory.mktemp("shell"))
        try:
            yield opened
        finally:
            opened.close()
