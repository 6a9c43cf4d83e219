"""How tests talk to the server of the page."""

from __future__ import annotations

import ast
import json
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.testclient import TestClient

import sft_diversity as sd

TOKEN, PORT = "a-token-of-tests", 8_765
BASE = f"http://127.0.0.1:{PORT}/{TOKEN}/"
#: Options to begin with; meso without an encoder.
GIVEN = {"strategy": "micro-response", "size": 30, "index": {"meso": {"merge": "none"}}}


def posted(client: TestClient, path: str, **body: Any) -> Any:
    """Return the answer of a POST; what is to be made for it is waited for."""
    answer = client.post(path, json=body)
    for _ in range(600):
        if answer.status_code != 202:
            break
        told = client.get(f"api/job/{answer.json()['job']}").json()
        if told["state"] == "running":
            time.sleep(0.05)
        elif path == "api/keep" or told["state"] == "failed":
            return told
        else:
            answer = client.post(path, json=body)
    assert answer.status_code != 202, "no answer within half a minute"
    return answer


def got(client: TestClient, path: str) -> Any:
    """Return the answer of a GET; what is to be made for it is waited for."""
    for _ in range(600):
        answer = client.get(path)
        if answer.status_code != 202:
            return answer
        time.sleep(0.05)
    raise AssertionError("no answer within half a minute")


def picked(client: TestClient, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return what a selection says of itself, and its rows."""
    answer = posted(client, "api/select", settings=settings)
    assert answer.status_code == 200, answer.text
    (size,) = struct.unpack("<I", answer.content[:4])
    assert size % 4 == 0
    head = json.loads(answer.content[4 : 4 + size])
    return head, np.frombuffer(answer.content[4 + size :], "<u4")


def called(text: str) -> Any:
    """Return what a shown call of `sd.select` returns; its arguments are literals."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == "sd.select"
    named = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    return sd.select(*map(ast.literal_eval, call.args), **named)
