"""Clients of the stand-in, each in a process of its own: they read their settings at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.hub.server import Hub
from tests.hub.store import User

ROOT = Path(__file__).resolve().parents[2]


def secret(name: str) -> str:
    """Return a token that looks like a real one and is easy to look for."""
    return f"hf_Secret{name.title()}Secret{name.title()}Secret"


OWNER = User("me", secret("owner"), orgs=("org",))
READER = User("reader", secret("reader"), writes=False, orgs=("me", "org"))
STRANGER = User("stranger", secret("stranger"))
WRONG = secret("wrong")


def environment(home: Path, endpoint: str, token: str | None) -> dict[str, str]:
    """Return the environment of a client: nothing of this machine's Hub settings is in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    named = {} if token is None else {"HF_TOKEN": token}
    return kept | named | {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
    }  # fmt: skip


def start(
    command: list[str], cwd: Path, hub: Hub | str, token: str | None = OWNER.token
) -> subprocess.Popen[str]:
    """Start a client that works in `cwd`."""
    endpoint = hub if isinstance(hub, str) else hub.endpoint
    return subprocess.Popen(
        command, cwd=cwd, env=environment(cwd / "hf-home", endpoint, token), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a client; no token may be in what it said."""
    out, err = process.communicate(timeout=300)
    assert "Secret" not in out + err
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def sftdiv(
    cwd: Path, hub: Hub | str, *arguments: str | Path, token: str | None = OWNER.token
) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "sft_diversity", *map(str, arguments)]
    return finish(start(command, cwd, hub, token))


def python(
    cwd: Path, hub: Hub | str, code: str, *arguments: str, token: str | None = OWNER.token
) -> str:
    """Run Python code that must not fail and return what it printed."""
    done = finish(start([sys.executable, "-c", code, *arguments], cwd, hub, token))
    assert done.returncode == 0, done.stderr
    return done.stdout


def no_token_in(folder: Path) -> None:
    """Look for a token in every file under a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"Secret" not in path.read_bytes(), path
