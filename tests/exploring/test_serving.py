"""The command as a real process: what it says, whom it answers, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests import command
from tests.exploring import GIVEN

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": PATHS, "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def server(pool, tmp_path):
    """A server in a folder of its own, its address, and what it said."""
    corpus, work = pool
    words = [sys.executable, "-m", "sft_diversity", "explore", str(corpus), "--work", str(work)]
    words += ["--size", str(GIVEN["size"]), "--no-open"]
    said = tmp_path / "said.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, stdout=file, stderr=file)
    try:
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", said.read_text("utf-8"))
            if found or process.poll() is not None:
                break
            time.sleep(0.1)
        assert found, said.read_text("utf-8")
        yield process, found[0], said
    finally:
        process.kill()
        process.wait()


def asked(address: str, path: str, body: object | None = None) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, answer.read()


def test_the_command_that_the_page_shows_gives_the_same_digest_in_a_shell(server, tmp_path):
    process, address, said = server
    assert len(address.split("/")[3]) >= 32
    settings = {"diversity": 62.5, "size": 17, "exclude": [3, 4], "quota": "meta.category=corpus"}
    for _ in range(600):
        status, content = asked(address, "api/select", {"settings": settings})
        if status == 200:
            break
        time.sleep(0.1)
    (size,) = struct.unpack("<I", content[:4])
    head = json.loads(content[4 : 4 + size])
    shown = subprocess.run(
        head["command"] + " --json", shell=True, cwd=tmp_path, env=ENVIRONMENT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(shown.stdout)["ids_key"] == head["digest"]
    wrong = address.replace(address.split("/")[3], "x" * 32)
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(wrong, "api/corpus")
    assert (refused.value.code, refused.value.read()) == (404, b"")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert said.read_text("utf-8").count(address.split("/")[3]) == 1
    assert "Traceback" not in said.read_text("utf-8")


def test_a_port_that_is_taken_is_refused_in_one_line(server, pool, tmp_path):
    _, address, _ = server
    corpus, work = pool
    port = address.split("/")[2].split(":")[1]
    told = command.sftdiv("explore", corpus, "--port", port, "--work", work, cwd=tmp_path)
    assert told.returncode == 2
    assert f"port {port}" in told.stderr


def test_a_plan_serves_nothing(pool, tmp_path):
    corpus, _ = pool
    told = command.sftdiv("explore", corpus, "--dry-run", "--json", "--work", tmp_path / "new")
    assert [step["stage"] for step in json.loads(told.stdout)["plan"]] == [
        "tokens",
        "tokens",
        "index",
    ]
    assert not (tmp_path / "new").exists()
