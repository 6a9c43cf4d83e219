"""What a step of `gpu_quarter_hour.py` is given and leaves: its request, its figures, its data.

A step is a function of (request, figures). It runs in a process of its own, which this file starts.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEFT_OUT = 3
IMPORTS = (
    "numpy", "torch", "transformers", "sentence_transformers", "pyarrow", "pydantic", "orjson",
    "datasets", "trl", "peft", "accelerate", "pytorch_optimizer", "bitsandbytes", "gguf", "numba",
    "scipy", "typer", "faiss", "polars", "sft_diversity", "sft_diversity.stages",
    "sft_diversity.training.trainer", "sft_diversity.scoring.heldout", "sft_diversity.studies.host",
)  # fmt: skip


class LeftOut(Exception):
    """Something that the step needs is not here; says what."""


@dataclass(frozen=True)
class Request:
    """What a step is asked for.

    Attributes
    ----------
    options : dict
        Of the step, see `gpu_quarter_hour.CALLS`.
    carried : Path
        Folder that `gpu_carry.py` made.
    work, place : Path
        Folder that the steps of a call share; one of this step, removed afterwards.
    results : Path
        The lines of the call, for what has an end of its own before the step has.
    limit_s : float
        When the step is stopped.
    jobs, encoder, done
        Of the command line; runs of the study that earlier calls have made, with their base.
    """

    function: str
    figures: str
    call: str
    options: dict[str, Any]
    carried: Path
    work: Path
    place: Path
    results: Path
    on_cpu: bool
    limit_s: float
    jobs: int
    encoder: str | None
    done: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Request:
        """Return what the driver has written."""
        told = json.loads(path.read_text("utf-8"))
        for name in ("carried", "work", "place", "results"):
            told[name] = Path(told[name])
        told["place"] /= "scratch"
        told["place"].mkdir()
        return cls(**told)

    def file(self, name: str) -> Path:
        """Return a carried file or folder, or leave the step out."""
        found = self.carried / name
        if not found.exists():
            raise LeftOut(f"{found} was not carried; gpu_carry.py makes it")
        return found


class Figures:
    """What a step has measured so far, on the disk at once: it may be stopped at any time."""

    def __init__(self, path: Path) -> None:
        self._path, self.values = path, dict[str, Any]()

    def __call__(self, **values: Any) -> None:
        self.values |= values
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps(self.values), "utf-8")
        draft.replace(self._path)

    def failed(self, reason: str) -> None:
        """Say that a part went wrong; the step goes on."""
        self(reason=f"{self.values['reason']}; {reason}" if "reason" in self.values else reason)


def part(figures: Figures, name: str, do: Callable[[], dict[str, Any]]) -> None:
    """Note what a part of a step gives; one that fails costs itself alone."""
    try:
        figures(**{name: do()})
    except Exception as fault:
        figures.failed(f"{name}: {type(fault).__name__}: {str(fault)[-200:]}")


def synced() -> float:
    """Return the time once the device has done all that it was told."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def device() -> str:
    """Return `cuda` where there is a card."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def peak_memory_gb() -> float | None:
    """Return the most that torch has held on the card since this was asked, or the start."""
    import torch

    if not torch.cuda.is_available():
        return None
    most = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return round(most, 2)


def look_at_machine(asked: Request, figures: Figures) -> None:
    """Note the card, the versions, whether each module loads, and what the card reaches at best."""
    import torch

    from sft_diversity.core import folder, machine

    here = device()
    figures(
        card=torch.cuda.get_device_name(0) if here == "cuda" else f"none ({platform.machine()})",
        torch=torch.__version__,
        cuda=torch.version.cuda,
        python=platform.python_version(),
        cores=machine.cores(),
        bf16=machine.has_bf16(here),
        commit=_commit(),
        versions=folder.versions(),
    )
    figures(**ceilings(asked.options["n"], here))
    if here == "cuda":
        figures(memory_gb=round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1))
    if asked.options["imports"]:
        figures(imports={name: _import(name) for name in IMPORTS})


def ceilings(n: int, here: str) -> dict[str, float]:
    """Return what a product of n³ in bfloat16 and a copy reach, the best of ten each.

    `product_tflops` on random values; `copy_gb_per_s` counts bytes read and written.
    """
    import torch

    a, b = (torch.randn(n, n, device=here, dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty((1 << 32) if here == "cuda" else (1 << 26), dtype=torch.uint8, device=here)
    target = torch.empty_like(source)

    def best_of(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(13):  # the first three warm up
            start = synced()
            work()
            times.append(synced() - start)
        return min(times[3:])

    product, copy = best_of(lambda: a @ b), best_of(lambda: target.copy_(source))
    return {
        "product_tflops": round(2 * n**3 / product / 1e12, 4),
        "copy_gb_per_s": round(2 * source.numel() / copy / 1e9, 1),
    }


def _import(name: str) -> float | str:
    """Return the seconds that loading a module takes, or why it does not load."""
    start = time.perf_counter()
    try:
        importlib.import_module(name)
    except BaseException as fault:  # whatever a foreign module raises
        return f"{type(fault).__name__}: {str(fault)[:160]}"
    return round(time.perf_counter() - start, 2)


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


def pool_corpus(asked: Request, rows: int) -> Path:
    """Return a corpus of the first rows by id of the carried pool, a random sample of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sft_diversity.core import drafts, folder, schema

    out = asked.work / f"corpus-{rows}"
    draft = drafts.open_draft(out, drafts.Work("ingest", 0, {}, {"rows": rows}))
    if draft.reused:
        return out
    table = pq.read_table(asked.file("a/pool.parquet")).slice(0, rows)
    columns = {name: table[name] for name in table.column_names}
    columns["messages"] = messages(table)
    for field in schema.SAMPLES:
        columns.setdefault(field.name, pa.nulls(table.num_rows, field.type))
    ordered = pa.table({field.name: columns[field.name] for field in schema.SAMPLES})
    draft.write_table("samples/all.parquet", ordered)
    draft.commit(rows=folder.rows_account(table.num_rows, table.num_rows, {}))
    return out


def messages(table: Any) -> Any:
    """Return the dialogues of rows that hold an instruction and a response: one turn each."""
    import pyarrow as pa

    from sft_diversity.core import schema

    said = zip(table["instruction"].to_pylist(), table["response"].to_pylist(), strict=True)
    turns = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        for asked, answer in said
    ]
    return pa.array(turns, schema.MESSAGES)


def main(request: Path) -> int:
    """Do one step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    from sft_diversity.core import children

    children.end_with(os.getppid())
    asked = Request.read(request)
    figures = Figures(Path(asked.figures))
    module, _, function = asked.function.partition(":")
    try:
        getattr(importlib.import_module(module), function)(asked, figures)
    except LeftOut as why:
        figures(reason=str(why))
        return LEFT_OUT
    return 0


if __name__ == "__main__":
    from gpu_steps import main as do_step  # under the name by which steps know it

    sys.exit(do_step(Path(sys.argv[1])))
