"""Steps of `gpu_quarter_hour.py` that train and score the runs of a small study.

The subsets were chosen before, where there was time (`gpu_carry.py`); they travel as ids of the
carried pool. Runs go through the study's own processes, draw by draw, so that every level has
equally many whenever it is stopped. Each leaves a line of its own as it ends.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from gpu_quarter_hour import Lines
from gpu_steps import Figures, LeftOut, Request, device, messages

from sft_diversity.core import config as configs
from sft_diversity.core import drafts, folder, machine, resources, schema, stopping
from sft_diversity.core.cells import Cell
from sft_diversity.core.cells import Run as StudyRun
from sft_diversity.core.errors import Interrupted
from sft_diversity.core.hashing import file_key
from sft_diversity.studies import processes, runs
from sft_diversity.studies.config import StudyConfig, load_study
from sft_diversity.training.models import BASES

CONFIG = "configs/study/quarter-hour.yaml"
_END_S = 20.0  # before its limit the study is asked to stop


def join_model(asked: Request, figures: Figures) -> None:
    """Join the parts of the carried model, check their sum, unpack it; tiny-base stands in."""
    told = json.loads(asked.file("a/model.json").read_text("utf-8"))
    file = asked.work / str(told["file"])
    parts = [asked.file(f"m{number}") / told["file"] for number in range(told["parts"])]
    missing = [str(one) for one in parts if not one.is_file()]
    if missing:
        raise LeftOut(f"{', '.join(missing)} was not carried; the study takes tiny-base")
    with file.open("wb") as whole:
        for one in parts:
            whole.write(one.read_bytes())
    if file_key(file) != told["sha256"]:
        file.unlink()
        figures.failed(f"{file.name}: the check sum is wrong; the study takes tiny-base")
        return
    base = BASES.find(file)
    figures(bytes=file.stat().st_size, parameters=base.parameters(), name=base.name)


def the_model(asked: Request) -> str | None:
    """Return the joined model, or None, which is the offline base model."""
    found = sorted(asked.work.glob("*.gguf"))
    return str(found[0]) if found else None


def subsets(asked: Request, place: Path, rows: int | None) -> list[Cell]:
    """Write the carried subsets as `select` would, the first picks of each; return their cells."""
    pool = pq.read_table(asked.file("a/pool.parquet"))
    picked = pq.read_table(asked.file("a/subsets.parquet"))
    cells = []
    for row in json.loads(asked.file("a/cells.json").read_text("utf-8")):
        cell = Cell.of(row)
        ids = picked.filter(pc.equal(picked["cell"], cell.name)).sort_by("pick")["id"]
        ids = ids.slice(0, rows).combine_chunks()
        table = pool.take(pc.index_in(ids, value_set=pool["id"].combine_chunks()))
        columns = {name: table[name] for name in table.column_names}
        columns |= {"messages": messages(table), "pick": pa.array(range(len(ids)), pa.int32())}
        for field in schema.SUBSET:
            columns.setdefault(field.name, pa.nulls(table.num_rows, field.type))
        ordered = pa.table({field.name: columns[field.name] for field in schema.SUBSET})
        work = drafts.Work("select", 0, {}, {"cell": cell.name, "rows": rows})
        draft = drafts.open_draft(place / "subsets" / cell.name, work)
        if not draft.reused:
            draft.write_table("samples/all.parquet", ordered)
            draft.commit(rows=folder.rows_account(len(ids), len(ids), {}))
        cells.append(cell)
    return cells


def configured(asked: Request) -> StudyConfig:
    """Return the study's config, its model and whatever is smaller in a trial put in."""
    file = Path(resources.from_here_or_checkout(CONFIG))
    training: dict[str, Any] = {"model": the_model(asked), **asked.options["options"]}
    if asked.on_cpu:
        training |= {"steps": 3, "epochs": None, "model": None}
    study = load_study(file, {})
    changed: dict[str, Any] = {"finetune": {**study.finetune, **training}}
    if asked.on_cpu:
        few = [one | {"limit": asked.options["records"]} for one in study.score["sets"]]
        changed["score"] = {**study.score, "sets": few}
    return configs.build(
        StudyConfig, study.model_dump(exclude_unset=True) | changed, f"config {file}"
    )


def run(asked: Request, figures: Figures) -> None:
    """Do the runs that no earlier call has done, the base first, until the time is up."""
    place = asked.work / "study"
    study = configured(asked)
    cells = subsets(asked, place, asked.options["rows"])
    every = [StudyRun(None), *(StudyRun(cell) for cell in sorted(cells, key=lambda c: c.seed))]
    every = every[: asked.options["runs"]]
    runs.freeze(study, every, asked.work / "study-work", place)
    base = BASES.find(study.finetuning.model)
    names = [one.name for one in every if asked.done.get(one.name) != base.name]
    figures(base=base.name, runs=len(every), jobs=asked.jobs, done=len(every) - len(names))
    _start_the_clock(asked.limit_s)
    lines, started = Lines(asked.results), time.monotonic()
    took: list[float] = []

    def ended(name: str, seconds: float, well: bool) -> None:
        took.append(seconds)
        lines.write(_line(asked, place, name, seconds, well, base.name))
        done = figures.values["done"] + int(well)
        spent = time.monotonic() - started
        figures(done=done, left=len(every) - done, seconds_a_run=round(spent / len(took), 2))
        if not well:
            figures.failed(f"{name}: {(runs.failure(place, name) or {}).get('error')}")

    try:
        threads, cards = _threads(asked.jobs), machine.cards()
        processes.run_all(place, names, asked.jobs, threads, ended, cards)
    except Interrupted:
        figures.failed(f"the time was up: {figures.values['done']} of {len(every)} runs are done")


def _threads(jobs: int) -> int:
    """Return the threads of a run: on a card they only tokenise and launch."""
    return max(len(os.sched_getaffinity(0)) // jobs, 1) if device() == "cuda" else 1


def _start_the_clock(limit_s: float) -> None:
    """Ask this process to stop, as a signal would, before it is stopped."""
    stopping.install()
    wait = max(limit_s - _END_S, limit_s / 2)
    clock = threading.Timer(wait, os.kill, (os.getpid(), signal.SIGTERM))
    clock.daemon = True
    clock.start()


def _line(
    asked: Request, place: Path, name: str, seconds: float, well: bool, base: str
) -> dict[str, Any]:
    """Return what is kept of a run: its record, and the loss of every tenth step."""
    told: dict[str, Any] = {
        "call": asked.call, "run": name, "on_cpu": asked.on_cpu, "base": base,
        "seconds": round(seconds, 1),
    }  # fmt: skip
    if not well:
        return {**told, "run": f"{name} (failed)", "reason": runs.failure(place, name)}
    record = json.loads((place / "runs" / f"{name}.json").read_text("utf-8"))
    log = place / "models" / name / "training.jsonl"
    losses = _losses(log.read_text("utf-8").splitlines()) if log.is_file() else []
    stages = runs.seconds(place, name)
    return told | {"stages": stages, "record": record, "losses_every_tenth": losses}


def _losses(log: Sequence[str]) -> list[float]:
    return [round(json.loads(line)["loss"], 4) for line in log[::10]]
