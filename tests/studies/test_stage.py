"""The whole verb on a tiny model: tables, failures, resume, and death by `kill -9`."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import psutil
import pytest
import yaml

from sft_diversity.core import folder, locks, machine
from sft_diversity.core.errors import SftdivError, UsageError
from sft_diversity.studies import host, processes, runs
from sft_diversity.studies.stage import study
from sft_diversity.verbs import VERBS
from tests import command
from tests.processes import SFTDIV, Child, context
from tests.studies import making

TABLES = ("results.csv", "metrics.csv", "failures.jsonl", "fit.json")


def start(config: Path, out: Path) -> Child:
    return Child(SFTDIV, "study", config, "--out", out, "--jobs", "2")


class Host:
    """Stands for the `Popen` of a study's host: forked, with nothing to load; see `processes`."""

    def __init__(self, command: list[str], env: dict[str, str], stderr: Any, **_: Any) -> None:
        asked, self._in = context.Pipe(duplex=False)
        self._out, told = context.Pipe(duplex=False)
        place = command[-1]
        process = context.Process(target=_host, args=(place, env, asked, told, stderr.name))
        process.start()
        asked.close()
        told.close()
        self.stdin = os.fdopen(os.dup(self._in.fileno()), "wb", 0)
        self.stdout = os.fdopen(os.dup(self._out.fileno()), "rb", 0)
        self._in.close()
        self._out.close()
        self.pid, self.wait = process.pid, process.join


def _host(place: str, env: dict[str, str], asked: Any, told: Any, log: str) -> None:
    os.environ.update(env)
    errors = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((asked.fileno(), told.fileno(), errors)):
        os.dup2(file, number)
    host.main(place)


@contextmanager
def forking() -> Iterator[list[Host]]:
    """Have the hosts of studies forked; those of `start` are started as users' are."""
    hosts: list[Host] = []

    def begin(*given: Any, **named: Any) -> Host:
        hosts.append(Host(*given, **named))
        return hosts[-1]

    with patch.object(processes, "subprocess", SimpleNamespace(Popen=begin, PIPE=subprocess.PIPE)):
        yield hosts


@pytest.fixture(autouse=True)
def hosts() -> Iterator[list[Host]]:
    with forking() as found:
        yield found


def contents(out: Path) -> dict[str, bytes]:
    """Return all files but logs; of manifests and `study.json` what equal studies share."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name, raw = path.relative_to(out).as_posix(), path.read_bytes()
        if path.name in (folder.MANIFEST, runs.FROZEN):
            common = {k: v for k, v in json.loads(raw).items() if k not in ("run", "work")}
            raw = json.dumps(common, sort_keys=True).encode()
        if not name.startswith("logs/"):
            found[name] = raw
            assert str(out.resolve()).encode() not in raw, name
    return found


def tables(out: Path) -> dict[str, bytes]:
    found = contents(out)
    return {name: found[name] for name in (*TABLES, runs.FROZEN) if name in found}


def workers(out: Path) -> list[int]:
    """Return the processes of the study in `out`: the host and the runs forked from it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            said = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in said and any(b"studies.host" in one for one in said):
            found.append(int(place.name))
    return found


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return making.write(tmp_path_factory.mktemp("study"))


@dataclass(frozen=True)
class Whole:
    """A study left alone, but for one run whose place was taken: it failed, and is done now."""

    out: Path
    found: dict[str, Any]
    listed: str  # `failures.jsonl` of the first call
    rows: list[dict[str, Any]]
    again: dict[str, Any]


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> Whole:
    out = tmp_path_factory.mktemp("whole") / "out"
    taken = out / "models" / "A-micro-response-n24-d100-s0-t0"
    taken.mkdir(parents=True)
    (taken / "mine.txt").write_text("not yours")
    with forking():
        found = study(config, out=out, jobs=2)
        listed, rows = (out / "failures.jsonl").read_text(), read(out / "results.csv")
        (taken / "mine.txt").unlink()
        return Whole(out, found, listed, rows, study(config, out=out, jobs=2))


def test_every_run_is_a_row_and_a_failed_one_is_listed_and_tried_again(whole):
    (failed,) = whole.found["failures"]
    assert failed["run"] == "A-micro-response-n24-d100-s0-t0"
    assert failed["stage"] == "finetune"
    assert "exists and is no output" in failed["error"]
    assert json.loads(whole.listed) == failed
    assert [row["strategy"] for row in whole.rows] == ["base", "micro-response"]

    out, again = whole.out, whole.again
    assert again["failures"] == []
    assert (out / "failures.jsonl").read_text() == ""
    base, *rows = read(out / "results.csv")
    assert (base["regime"], base["size"], base["diversity"], base["seed"]) == ("", "", "", "")
    for row, diversity in zip(rows, (0, 100), strict=True):
        assert float(row["diversity"]) == diversity
        scores = folder.read_manifest(out / "scores" / f"A-micro-response-n24-d{diversity}-s0-t0")
        headline = scores["result"]["headline"]["transfer_first64"]["nll_per_token"]
        assert float(row["score"]) == -headline
        cell = again["cells"][f"A-micro-response-n24-d{diversity}"]
        for name in ("steps", "epochs", "response_tokens", "total_tokens"):
            assert float(row[name]) == cell[name]  # what was said before is what was read
        model = out / "models" / f"A-micro-response-n24-d{diversity}-s0-t0"
        assert not list(model.glob("*.safetensors"))
        assert (model / "training.jsonl").is_file()
        assert folder.verify(model)["faults"] == []


def test_a_study_goes_on_from_the_records_of_runs_alone(config, whole, tmp_path):
    """As committed beside a page of results, say: weights and logs are elsewhere."""
    out = tmp_path / "out"
    shutil.copytree(whole.out / "runs", out / "runs")
    assert study(config, out=out, jobs=2)["failures"] == []
    assert tables(out) == tables(whole.out)
    assert not (out / "models").exists()


def test_a_run_on_the_samples_of_a_finished_one_takes_its_figures(config, whole, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(whole.out, out)
    frozen = runs.thaw(out)
    first, second = [name for name, run in frozen["runs"].items() if run["subset"]][:2]
    frozen["runs"][second]["key"] = frozen["runs"][first]["key"]
    (out / runs.FROZEN).write_text(json.dumps(frozen))
    before = runs.read(out / "runs" / f"{second}.json")
    shutil.rmtree(out / "models", ignore_errors=True)
    made = runs.one(out, second)
    assert made["scores"] == runs.read(out / "runs" / f"{first}.json")["scores"]
    assert made["scores"] != before["scores"]
    assert made == runs.read(out / "runs" / f"{second}.json")
    assert made["run"] == second
    assert not (out / "models").exists()


def test_killed_it_leaves_no_child_and_ends_with_the_same_bytes_elsewhere(config, whole, tmp_path):
    out = tmp_path / "out"
    process = start(config, out)
    process.until(lambda: len(workers(out)) >= 3)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    until = time.monotonic() + 10
    while workers(out) and time.monotonic() < until:
        time.sleep(0.05)
    assert workers(out) == []
    study(config, out=out, jobs=2)
    assert contents(out) == contents(whole.out)


@pytest.mark.slow
def test_killed_five_times_at_random_moments_it_ends_with_the_same_numbers(tmp_path):
    options = {
        "regimes": ["A", "B"],
        "allow_unequal": {"A": ["tokens", "steps"], "B": ["tokens", "steps"]},
        "baselines": {"random": 1, "random_common": 1, "longest": True},
    }
    config = making.write(tmp_path / "given", **options)
    began = time.monotonic()
    assert start(config, tmp_path / "whole").wait() == 0
    took = time.monotonic() - began
    dice = random.Random(0)
    out, kills = tmp_path / "out", 0
    for _ in range(5):
        process = start(config, out)
        time.sleep(dice.uniform(0.05, 0.2) * took)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.5)
        assert workers(out) == []
    assert kills == 5
    assert start(config, out).wait() == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_signal_stops_the_runs_at_a_safe_point_with_code_75(config, tmp_path):
    out = tmp_path / "out"
    process = start(config, out)
    process.until(lambda: len(workers(out)) >= 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert workers(out) == []


def test_a_race_keeps_its_hours_and_the_grid_afterwards_takes_up_its_runs(tmp_path):
    grid = {"strategy": ["micro-response"], "size": [24], "diversity": [0, 100], "seed": [0, 1, 2]}
    config = making.write(
        tmp_path, grid=grid, baselines={"random": 2, "random_common": 0, "longest": False}
    )
    out = tmp_path / "out"
    shown = VERBS["study"].shown(study(config, out=out, budget=1.0, dry_run=True))
    assert "race: random and base first (3 runs, " in shown
    found = study(config, out=out, jobs=2, budget=1e-6)
    raced = found["race"]
    assert [len(one["runs"]) for one in raced["rounds"]] == [3]
    assert raced["stopped"] == "hours"
    assert folder.read_json(out / "race.json") == raced
    [line] = (out / "logs/race.jsonl").read_text().splitlines()
    assert json.loads(line) == raced["rounds"][0]
    shown = VERBS["study"].shown(found)
    assert "not tried: micro-response at 0 %" in shown.replace("at 100 %, micro-response ", "")
    assert "The race took 3 of the grid's 9 runs" in shown

    first = {path.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}
    whole = study(config, out=out, jobs=2, budget=1.0)
    assert whole["race"]["rounds"][0]["runs"] == raced["rounds"][0]["runs"]
    assert whole["race"]["stopped"] == "answered"
    assert whole["fit"]["confidence"] == 0.975
    assert study(config, out=out, collect_only=True)["race"] == whole["race"]

    grid_after = study(config, out=out, jobs=2)
    assert grid_after["missing"] == []
    assert grid_after["race"] is None
    assert grid_after["fit"]["confidence"] == 0.95
    assert not (out / "race.json").exists()
    kept = {name: (out / "runs" / name).stat().st_mtime_ns for name in first}
    assert kept == first


def test_one_run_alone_then_collect(config, tmp_path):
    """As batch jobs on a cluster do it."""
    out = tmp_path / "out"
    prepared = study(config, out=out, prepare_only=True)
    assert prepared["runs"] == [
        "base", "A-micro-response-n24-d0-s0-t0", "A-micro-response-n24-d100-s0-t0",
    ]  # fmt: skip
    assert not (out / "scores").exists()
    made = study(config, out=out, run="base")
    found = study(config, out=out, collect_only=True)
    assert found["missing"] == prepared["runs"][1:]
    assert found["results"][0]["score"] == made["scores"]["score"]
    with pytest.raises(UsageError, match="no run 'other'"):
        study(config, out=out, run="other")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_alone_has_the_threads_of_the_study(tmp_path, threads):
    import torch

    config, out, seen = making.write(tmp_path, threads=threads), tmp_path / "out", []
    study(config, out=out, prepare_only=True)
    ran = patch.object(runs, "one", lambda *_: seen.append(torch.get_num_threads()) or {})
    outside = torch.get_num_threads()
    with machine.torch_threads(3), ran:
        study(config, out=out, run="base")
        assert torch.get_num_threads() == 3
    assert seen == [threads]
    assert torch.get_num_threads() == outside


def test_runs_are_scored_by_what_their_models_answer_where_that_is_asked_for(tmp_path):
    rules = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    prompts = "".join(json.dumps({"prompt": f"Name {i}", **rules}) + "\n" for i in range(5))
    ruled = {"name": "ruled", "file": "ruled.jsonl", "prompt": "prompt", "check": "constraints"}
    options = {"eval_dir": str(tmp_path / "eval"), "max_new_tokens": 4, "sets": [ruled]}
    config = making.write(tmp_path, generate=options)
    (tmp_path / "eval/ruled.jsonl").write_text(prompts, "utf-8")
    out = tmp_path / "out"
    study(config, out=out, prepare_only=True)
    made = study(config, out=out, run="base")["scores"]
    kept = folder.read_json(out / "generated/base/scores.json")["headline"]["instruction_strict"]
    assert made["score"] == made["instruction_strict"] == kept["value"]
    study(config, out=out, collect_only=True)
    [row] = csv.DictReader((out / "results.csv").read_text("utf-8").splitlines())
    assert float(row["score"]) == float(row["instruction_strict"]) == kept["value"]
    assert float(row["transfer_first64"]) > 0
    before = folder.read_json(out / "study.json")["runs"]["base"]["key"]
    (tmp_path / "eval/ruled.jsonl").write_text(prompts + prompts[:10], "utf-8")
    with pytest.raises(SftdivError, match=r"ruled\.jsonl"):
        study(config, out=out, prepare_only=True)
    (tmp_path / "eval/ruled.jsonl").write_text(prompts * 2, "utf-8")
    study(config, out=out, prepare_only=True)
    assert folder.read_json(out / "study.json")["runs"]["base"]["key"] != before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grid": {"strategy": ["micro-response"], "size": [24, 500], "diversity": [0]}},
         "size is 500 but the sources have 120 rows at most"),
        ({"select": {"tokenizer": "./nope"}}, "no tokenizer './nope'"),
        ({"metrics": True, "measure": {"encoder": "./nope"}}, "encoder `./nope`"),
        ({"finetune": {"model": "./nope"}}, "finetune: model `./nope`: no such folder"),
        ({"score": {"eval_dir": "./nope"}}, "nope"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_made_is_refused_before_a_sample_is_read(tmp_path, changes, reason):
    path, out = making.write(tmp_path, **changes), tmp_path / "out"
    for dry_run in (True, False):
        with pytest.raises(SftdivError, match=reason):
            study(path, out=out, dry_run=dry_run)
    assert not out.exists()


def test_a_study_keeps_off_a_folder_of_something_else(config, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is no output of `study`"):
        study(config, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_dry_run_tells_the_runs_and_the_cost_and_touches_nothing(config, tmp_path):
    found = study(config, out=tmp_path / "out", dry_run=True)
    assert len(found["runs"]) == found["plan"]["runs"] == 3
    assert found["plan"]["subsets"] == 2
    assert found["plan"]["hours"] > 0
    assert VERBS["study"].shown(found).endswith("nothing was written (--dry-run)")
    assert list(tmp_path.iterdir()) == []


def test_runs_on_equal_samples_are_planned_once(config, tmp_path):
    out = tmp_path / "out"
    prepared = study(config, out=out, prepare_only=True)["plan"]
    frozen = runs.thaw(out)
    first, second = [name for name, run in frozen["runs"].items() if run["subset"]]
    frozen["runs"][second]["key"] = frozen["runs"][first]["key"]
    (out / runs.FROZEN).write_text(json.dumps(frozen))
    planned = study(config, out=out, dry_run=True)["plan"]
    assert (prepared["runs"], prepared["runs_left"]) == (3, 3)
    assert (planned["runs"], planned["runs_left"]) == (3, 2)
    assert planned["hours"] < prepared["hours"]
    (out / runs.FROZEN).unlink()  # as a kill right before it leaves the folder
    assert study(config, out=out, dry_run=True)["plan"]["runs_left"] == 3


def test_an_option_is_set_on_top_of_the_file_that_its_block_names(tmp_path):
    named = {"model": str(tmp_path / "base"), "epochs": 1, "batch_size": 3, "max_length": 256}
    asked = making.write(tmp_path, finetune={"config": "training.yaml", "batch_size": 4})
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(named), "utf-8")
    given = [("--set", setting) for setting in ("finetune.lr=0.5", "finetune.epochs=2")]
    words = [word for pair in given for word in pair]
    done = command.sftdiv("study", asked, "--out", tmp_path / "out", "--prepare", *words)
    assert done.returncode == 0, done.stderr
    frozen = folder.read_json(tmp_path / "out/study.json")["finetune"]
    assert {**named, "batch_size": 4, "lr": 0.5, "epochs": 2}.items() <= frozen.items()


@pytest.mark.parametrize(
    ("seen", "jobs"),
    [("cores=1", 1), ("cores=7", 3), ("cores=7,gpus=1", 1), ("cores=2,gpus=4", 4)],
)
def test_runs_go_at_a_time_as_the_cores_allow_and_one_a_gpu(tmp_path, monkeypatch, seen, jobs):
    monkeypatch.setenv(machine.DETECT, f"gpus=0,{seen}")
    asked = making.write(tmp_path, threads=2)
    assert study(asked, out=tmp_path / "out", dry_run=True)["plan"]["jobs"] == jobs
    asked = making.write(tmp_path, threads=2, jobs=5)
    assert study(asked, out=tmp_path / "out", dry_run=True)["plan"]["jobs"] == 5


def test_a_run_that_dies_without_a_word_is_explained(config, hosts, tmp_path):
    out = tmp_path / "out"
    study(config, out=out, prepare_only=True)
    ended: list[tuple[str, bool]] = []

    def kill_soon() -> None:
        while not (hosts and (found := psutil.Process(hosts[0].pid).children())):
            time.sleep(0.02)
        found[0].kill()  # the run

    killer = threading.Thread(target=kill_soon)
    killer.start()
    processes.run_all(out, ["base"], 1, 1, lambda name, _, well: ended.append((name, well)))
    killer.join()
    assert ended == [("base", False)]
    assert "killed by SIGKILL" in runs.failure(out, "base")["error"]


def test_what_a_run_under_other_options_left_half_done_is_begun_anew(config, tmp_path):
    """`finetune` alone would refuse to remove another run's checkpoints; a study owns its own."""
    out = tmp_path / "out"
    study(config, out=out, prepare_only=True)
    name = "A-micro-response-n24-d0-s0-t0"
    other = {"stage": "finetune", "version": 0, "inputs": {}, "config": {}}
    left = out / "models" / f".{name}.partial"
    (left / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (left / "checkpoints" / "checkpoint-3" / "complete.json").write_text("{}")
    (left / "work.json").write_text(json.dumps(other))
    assert study(config, out=out, run=name)["training"]["steps"] == 6


def test_a_second_call_waits_for_the_first_and_finds_its_runs(config, whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole.out / "runs", out / "runs")
    lock = locks.acquire(out, "study")
    assert lock is not None
    second = start(config, out)
    second.until(lambda: "waiting for process" in second.stderr)
    assert second.poll() is None, second.stderr
    assert not (out / "study.json").exists()
    lock.release()
    assert second.wait() == 0
    assert tables(out) == tables(whole.out)
    assert not list(out.rglob(".*"))
