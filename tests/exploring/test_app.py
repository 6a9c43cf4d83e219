"""The server of the page, by its routes: equal to the command line, closed to everybody else."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from sft_diversity.core.store import corpus_at
from sft_diversity.exploring.app import Routes
from sft_diversity.exploring.session import Session

TOKEN, PORT = "a-token-of-tests", 8_765
BASE = f"http://127.0.0.1:{PORT}/{TOKEN}/"


@pytest.fixture(scope="module")
def desk(tmp_path_factory, topical):
    """A session over the corpus of eight topics, in a folder of its own."""
    work = tmp_path_factory.mktemp("explore")
    given = {"strategy": "micro-response", "size": 9}
    return Session(corpus_at(topical), [str(topical)], work / "work", given, work)


@pytest.fixture(scope="module")
def client(desk):
    return TestClient(Routes(desk).app(TOKEN, PORT), base_url=BASE)


def posted(client: TestClient, path: str, **body: Any) -> Any:
    """Return the answer of a POST, when what it takes is made."""
    for _ in range(600):
        answer = client.post(path, json=body)
        if answer.status_code != 202:
            return answer
        time.sleep(0.05)
    raise AssertionError("no answer within half a minute")


def picked(client: TestClient, settings: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    answer = posted(client, "api/select", settings=settings)
    assert answer.status_code == 200, answer.text
    (size,) = struct.unpack("<I", answer.content[:4])
    head = json.loads(answer.content[4 : 4 + size])
    return head, np.frombuffer(answer.content[4 + size :], "<u4")


def test_a_selection_has_its_rows_figures_and_command(client, desk):
    head, rows = picked(client, {"diversity": 40, "size": 12})
    assert len({*rows.tolist()}) == 12
    assert head["figures"]["rows"] == 12
    assert head["digest"] == head["figures"]["ids_key"]
    assert head["command"].startswith("sftdiv select ")
    assert sum(head["beside"]["corpus"]["lengths"]) == desk.n


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("http://127.0.0.1:8765/another-token/api/corpus", {}),
        ("http://127.0.0.1:8765/api/corpus", {}),
        (BASE + "api/corpus", {"host": "evil.example:8765"}),
        (BASE + "api/corpus", {"host": "127.0.0.1:99"}),
    ],
)
def test_who_does_not_know_the_token_or_comes_by_another_name_gets_nothing(client, path, headers):
    answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (404, b"")


def test_a_page_of_another_origin_cannot_steer(client):
    headers = {"origin": "http://evil.example"}
    answer = client.post("api/select", json={"settings": {}}, headers=headers)
    assert (answer.status_code, answer.content) == (403, b"")
    own = client.post(
        "api/select", json={"settings": {}}, headers={"origin": f"http://127.0.0.1:{PORT}"}
    )
    assert own.status_code in (200, 202)


def test_a_wrong_setting_is_named_in_one_line(client):
    answer = client.post("api/select", json={"settings": {"diversity": 140}})
    assert answer.status_code == 422
    assert answer.json()["field"] == "diversity"
    answer = client.post("api/select", json={"settings": {"tokenizer": Path("/etc").as_posix()}})
    assert answer.status_code == 422
    assert answer.json()["field"] == "tokenizer"
