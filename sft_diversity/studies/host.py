"""The process that a study's runs are forked from; see `processes`, which starts it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from sft_diversity.core import children, stopping
from sft_diversity.core.errors import SftdivError
from sft_diversity.studies import runs
from sft_diversity.training.models import BASES

_POLL_S = 0.1
_ASKS_THE_GPU = "bitsandbytes"


def main(place: str) -> None:
    """Load what runs need, then fork one for each order on stdin, until it ends."""
    stopping.leave_to_parent()  # the study decides, and passes signals on
    _load(Path(place))
    running: dict[int, str] = {}
    heard = b""
    while True:
        if select.select([0], [], [], _POLL_S)[0]:
            said = os.read(0, 1 << 16)
            if not said:
                break
            *lines, heard = (heard + said).split(b"\n")
            for line in lines:
                _obey(Path(place), json.loads(line), running)
        _report(running)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    while running:
        del running[os.wait()[0]]


def _load(place: Path) -> None:
    """Import what a run would, and hash the base's files, once for all runs.

    No thread is started and no device touched. bitsandbytes asks the GPU what it can as it is
    imported, which PEFT does where it finds it: it is not to be found here. PEFT needs it where
    weights are quantized: then each run imports all by itself.
    """
    options = runs.thaw(place)["finetune"]
    if options.get("quantization") is None:
        sys.modules.setdefault(_ASKS_THE_GPU, None)  # type: ignore[arg-type]
        import transformers

        from sft_diversity.scoring import heldout as _heldout
        from sft_diversity.training import trainer as _trainer

        _ = transformers.AutoModelForCausalLM, transformers.AutoTokenizer, _trainer, _heldout
        if sys.modules[_ASKS_THE_GPU] is None:
            del sys.modules[_ASKS_THE_GPU]  # an optimizer of it may be a run's
    with contextlib.suppress(SftdivError):  # each run will say it
        _ = BASES.find(options.get("model"), options.get("revision")).key


def _obey(place: Path, order: dict[str, Any], running: dict[int, str]) -> None:
    for pid in running if "signal" in order else ():
        os.kill(pid, order["signal"])  # none is reaped yet, so the numbers are theirs
    if "start" in order and _cuda_is_initialized():
        name = order["start"]
        runs.note_failure(
            place, name, "start", "CUDA was initialised before the run's process was forked, which "
            f"could not use it then; do it alone: --run {name}"
        )  # fmt: skip
        _ended(name, 1)
    elif "start" in order:
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = _child(place, order["start"], parent, order.get("card"))
            finally:
                os._exit(code)
        running[pid] = order["start"]


def _cuda_is_initialized() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _child(place: Path, name: str, parent: int, card: str | None) -> int:
    """Do one run, which sees one GPU at most where `card` names it; return the exit code."""
    children.end_with(parent)
    if card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = card
    log = os.open(
        place / "logs" / f"{runs.file_name(name)}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    stopping.install()
    try:
        runs.one(place, name)
    except SftdivError as fault:
        print(f"error: {fault}", file=sys.stderr, flush=True)
        return fault.exit_code
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


def _report(running: dict[int, str]) -> None:
    """Say which runs have ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        _ended(running.pop(pid), os.waitstatus_to_exitcode(status))


def _ended(name: str, code: int) -> None:
    os.write(1, json.dumps({"ended": name, "code": code}).encode() + b"\n")
