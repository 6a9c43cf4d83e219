"""The driver of a quarter of an hour with a card: limits, kills, what is left out, merging.

Its steps here are small, and real processes all the same. The slow test runs the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
STEPS = """
import os, subprocess, sys, time
from pathlib import Path
from gpu_steps import LeftOut

def quick(asked, figures):
    figures(tflops=asked.options.get("tflops", 1.0), on_cpu=asked.on_cpu)

def card(asked, figures):
    figures(card="NVIDIA H100 80GB", product_tflops=800.0)

def broken(asked, figures):
    figures(before=1)
    raise ValueError("this step is broken")

def lacking(asked, figures):
    asked.file("a/pool.parquet")

def partly(asked, figures):
    figures(first=1)
    figures.failed("the second part is broken")

def killed(asked, figures):
    os.kill(os.getpid(), 9)

def endless(asked, figures):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    figures(pids=[os.getpid(), child.pid])
    time.sleep(600)
"""
RUN = """
import sys
sys.path[:0] = sys.argv.pop(1).split(":")
import gpu_quarter_hour as driver
from gpu_quarter_hour import Step
exec(sys.argv.pop(1))
driver.main()
"""


@pytest.fixture
def command(tmp_path):
    """Return a function that makes the command of a call whose steps are those of the code."""
    (tmp_path / "small_steps.py").write_text(STEPS, "utf-8")

    def make(steps: str, *arguments: str) -> list[str]:
        code = f"driver.CALLS['b'] = {steps}\n"
        out = ["--out", str(tmp_path / "out"), "--carried", str(tmp_path / "carried")]
        return [sys.executable, "-c", RUN, str(BENCHMARKS), code, "b", *out, *arguments]

    return make


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "out" / "results.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(moment, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not moment():
        assert time.monotonic() < end, f"it did not come in {timeout_s} s"
        time.sleep(0.02)


def test_every_way_a_step_ends_costs_that_step_alone(command, tmp_path):
    steps = """[
        Step("machine", "small_steps:card", 1, small_seconds=1, always=True),
        Step("broken", "small_steps:broken", 1, small_seconds=1),
        Step("lacking", "small_steps:lacking", 1, small_seconds=1),
        Step("partly", "small_steps:partly", 1, small_seconds=1),
        Step("killed", "small_steps:killed", 1, small_seconds=1),
        Step("no such", "small_steps:nothing", 1, small_seconds=1),
        Step("too long", "small_steps:quick", 1, small_seconds=5_000),
        Step("quick", "small_steps:quick", 1, {"tflops": 400.0}, small_seconds=1),
    ]"""
    done = start(command(steps, "--on-cpu", "--seconds", "120"), tmp_path)
    said, _ = done.communicate()
    assert done.returncode == 0, said
    found = {line["step"]: line for line in lines(tmp_path)}
    states = {name: line["state"] for name, line in found.items()}
    assert states == {
        "machine": "ok", "broken": "failed", "lacking": "left out", "partly": "failed",
        "killed": "failed", "no such": "failed", "too long": "left out", "quick": "ok",
    }  # fmt: skip
    assert "ValueError: this step is broken" in found["broken"]["reason"]
    assert found["broken"]["figures"] == {"before": 1}
    assert "pool.parquet was not carried" in found["lacking"]["reason"]
    assert found["partly"]["reason"] == "the second part is broken"
    assert found["partly"]["figures"] == {"first": 1}
    assert "takes about 5000 s" in found["too long"]["reason"]
    # 400 of the 989 that the maker states, of the 800 that were measured
    assert found["quick"]["figures"]["share_of_peak"] == pytest.approx(400 / 989, abs=1e-4)
    assert found["quick"]["figures"]["share_of_measured_peak"] == 0.5
    assert {line["card"] for line in lines(tmp_path)} == {"NVIDIA H100 80GB"}
    table = (tmp_path / "out" / "table.txt").read_text("utf-8")
    assert said.rstrip().endswith(table.rstrip())
    assert len(table.splitlines()) == 8


def test_a_step_over_its_limit_ends_with_what_it_has_started(command, tmp_path):
    steps = """[
        Step("endless", "small_steps:endless", 0.1, small_seconds=0.1),
        Step("quick", "small_steps:quick", 1, small_seconds=1),
    ]"""
    steps = f"(setattr(driver, '_SHORTEST_S', 4.0), {steps})[1]"
    done = start(command(steps, "--on-cpu", "--seconds", "120"), tmp_path)
    said, _ = done.communicate()
    endless, quick = lines(tmp_path)
    assert endless["state"] == "failed", said
    assert endless["reason"] == "over its limit of 4 s"
    assert not any(alive(pid) for pid in endless["figures"]["pids"])
    assert quick["state"] == "ok"


def test_the_call_ends_within_its_seconds(command, tmp_path):
    steps = """[
        Step("endless", "small_steps:endless", 0.1, small_seconds=0.1),
        Step("quick", "small_steps:quick", 1, small_seconds=1),
    ]"""
    start(command(steps, "--on-cpu", "--seconds", "9"), tmp_path).communicate()
    endless, quick = lines(tmp_path)
    assert endless["limit_s"] <= 3.0
    assert quick["state"] == "left out"
    assert "0 s were left" in quick["reason"]


THREE = """[
    Step("first", "small_steps:quick", 1, small_seconds=1),
    Step("second", "small_steps:{second}", 1, small_seconds=1),
    Step("third", "small_steps:quick", 1, small_seconds=1),
]"""


def in_the_second(folder: Path) -> list[int]:
    """Return the processes of the step under way, once it has started all of them."""
    found: list[int] = []

    def there() -> bool:
        for path in folder.glob("gpu-*/*/figures.json"):
            found[:] = json.loads(path.read_text("utf-8")).get("pids", [])
        return bool(found)

    wait_for(there)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_call_keeps_its_lines_and_a_later_one_does_the_rest(
    command, benchmarks, tmp_path, monkeypatch, number
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    call = start(command(THREE.format(second="endless"), "--on-cpu", "--seconds", "300"), tmp_path)
    pids = in_the_second(scratch)
    call.send_signal(number)
    call.communicate()
    wait_for(lambda: not alive(pids[0]))
    states = {line["step"]: line["state"] for line in lines(tmp_path)}
    if number == signal.SIGKILL:
        os.kill(pids[1], signal.SIGKILL)  # a process that did not tie itself to the step
        assert states == {"first": "ok"}
        with (tmp_path / "out" / "results.jsonl").open("a") as file:
            file.write('{"call": "b", "step": "sec')  # what a torn write leaves
    else:
        assert call.returncode == 75
        assert states == {"first": "ok", "second": "failed"}
        assert lines(tmp_path)[-1]["reason"] == "stopped by a signal"
        assert not alive(pids[1])
    before = tmp_path / "before.jsonl"
    (tmp_path / "out" / "results.jsonl").rename(before)
    steps = THREE.format(second="quick")
    again = start(command(steps, "--on-cpu", "--after", str(before)), tmp_path)
    said, _ = again.communicate()
    assert "first: done before" in said
    assert [line["step"] for line in lines(tmp_path)] == ["second", "third"]
    import gpu_quarter_hour as driver

    three = [driver.Step(name, "", 1) for name in ("first", "second", "third")]
    monkeypatch.setitem(driver.CALLS, "b", three)
    driver.merge([before, tmp_path / "out" / "results.jsonl"], tmp_path)
    merged = json.loads((tmp_path / "gpu_rehearsal.json").read_text("utf-8"))["calls"]
    assert merged["b"]["state"] == "run"
    assert sorted(merged["b"]["steps"]) == ["first", "second", "third"]
    assert merged["a"]["state"] == "not run"


def test_a_file_whose_last_line_was_cut_off_is_gone_on_with(command, tmp_path):
    (tmp_path / "out").mkdir()
    whole = {"call": "b", "step": "first", "state": "ok", "on_cpu": True, "figures": {}}
    text = json.dumps(whole | {"reason": None, "seconds": 1.0}) + '\n{"call": "b", "step'
    (tmp_path / "out" / "results.jsonl").write_text(text, "utf-8")
    start(command(THREE.format(second="quick"), "--on-cpu"), tmp_path).communicate()
    kept = (tmp_path / "out" / "results.jsonl").read_text("utf-8").splitlines()
    assert kept[1] == '{"call": "b", "step'
    assert [json.loads(line)["step"] for line in (kept[0], *kept[2:])] == [
        "first",
        "second",
        "third",
    ]


def line(call: str, step: str, state: str = "ok", **more) -> dict[str, Any]:
    told = {"call": call, "step": step, "state": state, "on_cpu": False, "card": "NVIDIA H200"}
    return told | {"reason": None if state == "ok" else "why", "seconds": 1.0, "figures": {}} | more


def test_merging_says_what_was_run_and_names_what_is_missing(benchmarks, tmp_path):
    import gpu_quarter_hour as driver

    trained = {"tokens_per_s": 100, "losses": [2.0, 1.0]}
    ours = trained | {"tokens_per_s": 150, "losses": [2.0, 1.25]}
    name = "1B all weights, adamw"
    first = [
        *(line("a", step.name) for step in driver.CALLS["a"]),
        line("b", f"{name}: TRL", figures=trained),
        line("b", f"{name}: ours", "failed"),
        line("b", "1B LoRA, lion", "left out"),
        line("c", "study", "ok", on_cpu=True),
    ]
    second = [line("b", f"{name}: ours", figures=ours), line("b", f"{name}: TRL", "failed")]
    for number, part in enumerate([first, second]):
        text = "".join(json.dumps(one) + "\n" for one in part)
        (tmp_path / f"{number}.jsonl").write_text(text, "utf-8")
    driver.merge([tmp_path / "0.jsonl", tmp_path / "1.jsonl"], tmp_path)
    made = {p.stem: json.loads(p.read_text("utf-8")) for p in tmp_path.glob("gpu_*.json")}
    states = {name: told["state"] for name, told in made.items() if "state" in told}
    assert states == {"gpu_embed": "run", "gpu_finetune": "partly run", "gpu_study": "not run"}
    told = made["gpu_finetune"]
    # a later failure does not undo what was measured
    assert told["pairs"][name] == {"ratio": 1.5, "greatest_loss_difference": 0.25}
    assert told["missing"]["1B LoRA, lion"] == "why"
    assert told["missing"]["8B QLoRA, adamw: ours"] == "not reached"
    assert f"{name}: ours" not in told["missing"]
    assert told["cards"] == ["NVIDIA H200"]
    assert made["gpu_rehearsal"]["calls"]["c"]["state"] == "partly run"


def test_operations_of_a_step_are_those_that_torch_counts(benchmarks):
    import numpy as np
    import torch
    from gpu_finetune import operations
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"layers": 2, "hidden": 64, "heads": 4, "keys": 2, "inner": 96, "vocabulary": 300}
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=96, vocab_size=300, attn_implementation="eager",
        )
    )  # fmt: skip
    ids = torch.randint(0, 300, (3, 40))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    lengths = np.full(3, 40)
    # plain attention multiplies both halves of its square, of which the model needs one
    other_half = 6 * 2 * 64 * float((lengths**2).sum())
    expected = operations(shape, lengths, labelled=120, adapter=0) + other_half
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.005)


def test_what_travels_is_counted_and_of_a_package_only_used_libraries_stay(benchmarks, tmp_path):
    import zipfile

    import gpu_carry

    wheel = tmp_path / "wheels" / "bitsandbytes-1-py3-none-any.whl"
    wheel.parent.mkdir()
    names = ["bitsandbytes/__init__.py", "bitsandbytes/libbitsandbytes_cpu.so"]
    with zipfile.ZipFile(wheel, "w") as package:
        for name in (*names, "bitsandbytes/libbitsandbytes_cuda118.so"):
            package.writestr(name, b"x" * 1000)
    gpu_carry._strip(wheel)
    with zipfile.ZipFile(wheel) as package:
        assert package.namelist() == names
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pool.parquet").write_bytes(b"x" * 500)
    told = gpu_carry.sizes(ROOT, tmp_path, tmp_path / "wheels")["calls"]
    weights = (ROOT / gpu_carry.WEIGHTS).stat().st_size
    tree = told["b"]["tree"]
    assert told["a"]["all"] == tree + 500 + wheel.stat().st_size + weights
    assert told["b"]["all"] == tree < gpu_carry.MOST


def benchmark(*words) -> None:
    """Run a script of benchmarks/ on one thread; nothing but the checkout is on the path."""
    command = [sys.executable, BENCHMARKS / words[0], *map(str, words[1:])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_all_three_calls_run_without_a_card(tmp_path, monkeypatch):
    """The real steps, each kind once, on what the real preparation makes of a small study."""
    from sft_diversity.studies.stage import study
    from tests import tiny
    from tests.studies import making
    from tests.test_gguf import write

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "made").mkdir()
    config = making.write(tmp_path / "made", regimes=["B"])
    study(config, out=tmp_path / "study", prepare_only=True)
    words = tiny.tokenizer()
    write(tmp_path / "tiny.gguf", tiny.model(len(words)), words)
    carried = tmp_path / "carried"
    benchmark(
        "gpu_carry.py", "--corpus", tmp_path / "study" / "corpus", "--study", tmp_path / "study",
        "--config", config, "--model", tmp_path / "tiny.gguf", "--to", carried,
    )  # fmt: skip
    only = {
        "a": ["path", "MiniLM"],
        "b": ["1B all weights, adamw", "real lengths: ours"],
        "c": ["model", "study"],
    }
    for call, words in only.items():
        benchmark(
            "gpu_quarter_hour.py", call, "--on-cpu", "--seconds", 280, "--carried", carried,
            "--out", tmp_path / "out", "--only", *words,
        )  # fmt: skip
    found = {line["step"]: line for line in lines(tmp_path) if "step" in line}
    wrong = {name: one["reason"] for name, one in found.items() if one["state"] != "ok"}
    assert not wrong
    assert found["path: score, embed"]["figures"]["cosine"] > 0.999
    assert found["embed, MiniLM's shape"]["figures"]["ours"]["tokens_per_s"] > 0
    losses = [
        found[f"1B all weights, adamw: {side}"]["figures"]["losses"] for side in ("ours", "TRL")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert 0 < found["real lengths: ours, default"]["figures"]["computed_share"] <= 1
    assert next(one["run"] for one in lines(tmp_path) if "run" in one) == "base"
    assert found["study"]["figures"]["done"] == 3
