"""Clients of the stand-in, each in a process of its own: they read their settings at import.

`Shell` runs many commands for the price of one start: it loads the command line once, in a process
with the stand-in's address, and forks a process for each command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        "USE_TORCH": "0",  # else `datasets` loads it to stream, a few seconds each time
        "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
    }  # fmt: skip


class Done(subprocess.CompletedProcess[str]):
    """A client that ended: `returncode`, `stdout`, `stderr`, and its last line."""

    @property
    def last(self) -> str:
        """The last line of stderr, where messages go."""
        return self.stderr.splitlines()[-1] if self.stderr else ""


def _checked(code: int, out: str, err: str) -> Done:
    assert "Secret" not in out + err
    assert "Traceback" not in err, err
    return Done([], code, out, err)


def sftdiv(
    cwd: Path, endpoint: str, *arguments: str | Path, token: str | None = OWNER.token
) -> Done:
    """Run the command line in a process that loads it anew."""
    done = subprocess.run(
        [sys.executable, "-m", "sft_diversity", *map(str, arguments)],
        cwd=cwd, env=environment(cwd / "hf-home", endpoint, token), text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    return _checked(done.returncode, done.stdout, done.stderr)


def python(cwd: Path, hub: Hub, code: str, *arguments: str, token: str | None = OWNER.token) -> str:
    """Run Python code that must not fail and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, text=True, capture_output=True,
        env=environment(cwd / "hf-home", hub.endpoint, token), timeout=300,
    )  # fmt: skip
    assert "Secret" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


_SERVE = """
import gc, json, os, sys, traceback
import aiohttp, datasets, huggingface_hub, huggingface_hub.hf_api, rich.table, scipy.io
from sft_diversity import cli
from sft_diversity.verbs import VERBS
from sft_diversity.verbs.options import command

for verb in VERBS.values():
    command(verb, lambda *_: None)

gc.collect()
gc.freeze()  # what is here is not looked through, and so not copied, in each child
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        if asked["wait"]:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(asked["environment"])
    for number, name in enumerate(("in", "out", "err")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(os.devnull if number == 0 else asked[name], flags, 0o600), number)
    code = 0
    try:
        if "code" in asked:
            exec(asked["code"], {"__name__": "__main__"})
        else:
            sys.argv = ["sftdiv", *asked["arguments"]]
            cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


class Shell:
    """Runs the command line against a stand-in, each command in a process of its own."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub, self.cwd = hub, home
        self.child = 0  # the process that runs, or ran last
        self._home, self._said = home, home.with_name(f"{home.name}-said")
        self._said.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=environment(home / "hf-home", hub.endpoint, None),
        )  # fmt: skip
        assert self._line() == "ready"

    @contextmanager
    def at(self, cwd: Path) -> Iterator[Shell]:
        """Work in `cwd` against a Hub that is empty; no file there may hold a token then."""
        cwd.mkdir(parents=True, exist_ok=True)
        self.hub.faults.clear()
        self.hub.requests.clear()
        self.hub.store.repositories.clear()
        self.cwd = cwd
        try:
            yield self
        finally:
            no_token_in(cwd)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, wait: bool, token: str | None, **what: object) -> None:
        assert self._process.stdin is not None
        asked = {
            "cwd": str(self.cwd), "out": str(self._said / "out"), "err": str(self._said / "err"),
            "environment": {} if token is None else {"HF_TOKEN": token}, "wait": wait, **what,
        }  # fmt: skip
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        self.child = int(self._line())

    def _done(self, code: int) -> Done:
        out, err = ((self._said / name).read_text() for name in ("out", "err"))
        return _checked(code, out, err)

    def run(self, *arguments: str | Path, token: str | None = OWNER.token) -> Done:
        """Run one command to its end."""
        self._ask(True, token, arguments=[str(one) for one in arguments])
        return self._done(int(self._line()))

    def python(self, code: str, token: str | None = OWNER.token) -> str:
        """Run Python code that must not fail and return what it printed."""
        self._ask(True, token, code=code)
        code_of_end = int(self._line())
        done = Done([], code_of_end, *((self._said / name).read_text() for name in ("out", "err")))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def killed(
        self, *arguments: str | Path, when: Callable[[], bool], number: int = signal.SIGKILL
    ) -> Done:
        """Start a command and send it a signal as soon as `when` holds."""
        self._ask(False, OWNER.token, arguments=[str(one) for one in arguments])
        end = time.monotonic() + 300
        while not when():
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(self.child, number)
        while Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < end
            time.sleep(0.01)
        return self._done(-number)

    def close(self) -> None:
        """End the process; no file that it or its commands wrote may hold a token."""
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        no_token_in(self._home)


def no_token_in(folder: Path) -> None:
    """Look for a token in every file under a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"Secret" not in path.read_bytes(), path
