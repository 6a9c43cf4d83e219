from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError
from sft_diversity.export import hub, stage
from tests.export import fixtures

TOKEN = "hf_" + "SecretSecretSecret" * 2
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    source = fixtures.subset(root / "subset")
    stage.export(source, str(root / "out"), stage.ExportConfig(), lambda _: None)
    return root / "out"


def content(operation: Any) -> bytes:
    with operation.as_file() as handle:
        return bytes(handle.read())


def test_one_commit_adds_every_file_with_its_bytes(exported):
    operations = hub.build_operations(exported)
    assert all(isinstance(one, CommitOperationAdd) for one in operations)
    assert sorted(one.path_in_repo for one in operations) == [
        "README.md", "axolotl.yaml", "data/train-00000-of-00001.parquet", "dataset_info.json",
        "manifest.json", "selection.json", "trl_sft.sh",
    ]  # fmt: skip
    for one in operations:
        if one.path_in_repo != "manifest.json":
            assert content(one) == (exported / one.path_in_repo).read_bytes()


def test_the_pushed_manifest_does_not_name_the_machine_and_still_verifies(exported, tmp_path):
    for one in hub.build_operations(exported):
        target = tmp_path / one.path_in_repo
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content(one))
    assert "run" not in json.loads((tmp_path / "manifest.json").read_text())
    assert folder.verify(tmp_path)["faults"] == []


def test_files_of_an_earlier_export_go_and_strangers_stay(exported):
    remote = [
        "README.md", ".gitattributes", "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet", "corpus.json", "notes.md", "data/mine.parquet",
    ]  # fmt: skip
    gone = [
        one.path_in_repo
        for one in hub.build_operations(exported, remote)
        if isinstance(one, CommitOperationDelete)
    ]
    assert gone == [
        "corpus.json", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize("to", ["hub:", "hub:name", "hub:a/b/c", "hub:../x", "hub:a/b c"])
def test_a_repository_name_is_org_and_name(to):
    with pytest.raises(UsageError, match="hub:org/name"):
        hub.repository(to)


def test_a_folder_is_no_repository():
    assert hub.repository("some/folder") is None
    assert hub.repository("hub:org/name-1.0") == "org/name-1.0"


@pytest.mark.parametrize(
    "text",
    [
        f"401 for {TOKEN}",
        f"header Authorization: Bearer {TOKEN}",
        f"http://x/?token={TOKEN}&a=1",
        "authorization: bearer abc.def-ghi",
    ],
)
def test_scrubbing_takes_out_whatever_looks_like_a_token(text):
    clean = hub.scrub(text)
    assert "(token)" in clean
    assert "Secret" not in clean
    assert "abc.def" not in clean


def test_log_records_of_any_library_are_scrubbed_meanwhile(caplog):
    logger = logging.getLogger("some.client")
    with caplog.at_level(logging.DEBUG), hub.scrubbed_logs():
        logger.debug("headers %r", [("Authorization", f"Bearer {TOKEN}")])
    assert "(token)" in caplog.text
    assert "Secret" not in caplog.text


class Refusing(BaseHTTPRequestHandler):
    """Refuses everything: 401 at first, then 403; repeats the token it got, to tempt a leak."""

    protocol_version = "HTTP/1.1"
    seen: list[str] = []

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "none")
        self.seen.append(token)
        status = 401 if len(self.seen) == 1 else 403
        body = json.dumps({"error": f"bad credentials {token}"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error-Message", f"no entry for {token}")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_HEAD = do_PUT = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing():
    handler = type("Handler", (Refusing,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push_twice(source: Path, work: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """Push in a process of its own: the client reads its settings once, at import."""
    code = (
        "import sys, logging; logging.basicConfig(level=logging.DEBUG)\n"
        "from pathlib import Path\n"
        "from sft_diversity.export import stage\n"
        "from sft_diversity.core.errors import SftdivError\n"
        "config = stage.ExportConfig(work=Path(sys.argv[2]))\n"
        "for _ in range(2):\n"
        "    try: stage.export(Path(sys.argv[1]), 'hub:me/subset', config)\n"
        "    except SftdivError as fault: print(f'error {fault.exit_code}: {fault}')\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(work / "home"), "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code, str(source), str(work)],
        capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT,
    )  # fmt: skip


def assert_no_token(run: subprocess.CompletedProcess[str], work: Path) -> None:
    assert TOKEN not in run.stdout + run.stderr
    for path in work.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_a_refused_push_is_one_line_without_the_token(exported, tmp_path, refusing):
    endpoint = f"http://127.0.0.1:{refusing.server_address[1]}"
    run = push_twice(exported.parent / "subset", tmp_path, endpoint)
    assert any(TOKEN in token for token in refusing.RequestHandlerClass.seen)  # it was sent
    first, second = run.stdout.splitlines()
    assert first.startswith("error 1: export: the Hub refused me/subset (401): ")
    assert "hf auth login" in first
    assert second.startswith("error 1: export: the Hub refused me/subset (403): ")
    assert "write access" in second
    assert_no_token(run, tmp_path)


def test_an_unreachable_hub_is_one_line_without_the_token(exported, tmp_path):
    run = push_twice(exported.parent / "subset", tmp_path, "http://127.0.0.1:9")
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error 1: ") and "check the network" in line for line in lines)
    assert_no_token(run, tmp_path)
