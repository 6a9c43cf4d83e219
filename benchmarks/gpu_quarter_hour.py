"""A quarter of an hour with one card: what is run, in which order, so that any end leaves figures.

    python benchmarks/gpu_quarter_hour.py a --seconds 205 --carried DIR --out DIR
    python benchmarks/gpu_quarter_hour.py b --seconds 235 …          fine-tuning
    python benchmarks/gpu_quarter_hour.py c --seconds 375 --jobs 4 … a small study
    python benchmarks/gpu_quarter_hour.py merge FILES… [--to DIR]

A call runs its steps one after the other, what matters most first, each in a process with a limit
of its own. As each ends, a line of `OUT/results.jsonl` says how: `ok`, `failed` or `left out`, why,
seconds, figures. A step that the seconds left do not allow is left out. Steps that are `ok` in the
lines of OUT, or of files given with --after, are not run again. The table comes last. `merge` joins
the lines of several calls into a file a call, gpu_embed.json, gpu_finetune.json, gpu_study.json,
whose state is `run`, `partly run` (with what is missing) or `not run`.

--on-cpu tries all of it with small numbers; its lines are merged into gpu_rehearsal.json alone.
`gpu_carry.py` makes what --carried names; where it lacks something, steps are left out.
The package is found beside this file, installed or not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
FILES = {"a": "gpu_embed", "b": "gpu_finetune", "c": "gpu_study"}
REHEARSAL = "gpu_rehearsal"
LEFT_OUT = 3  # exit code of a step that says why it cannot be
_GRACE_S, _LOOK_EVERY_S = 6.0, 0.2
_LIMIT, _SHORTEST_S = 3.0, 60.0  # a step's limit over its expected time; the least
# Dense bfloat16 FLOP/s as the makers state them.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}

Line = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One process: a function of a module beside this one, `module:function`, and its options.

    Attributes
    ----------
    seconds, small_seconds : float
        Expected on a card; with --on-cpu.
    options, small : mapping
        Options on a card; what is otherwise with --on-cpu.
    shown : tuple of str
        Figures of the table, as paths: `ours.rows_per_s`.
    always : bool
        Whether every call runs it: what other figures are compared with.
    """

    name: str
    function: str
    seconds: float
    options: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    small_seconds: float = 20.0
    shown: tuple[str, ...] = ()
    always: bool = False

    def asked(self, on_cpu: bool) -> tuple[dict[str, Any], float]:
        """Return the options and the expected seconds."""
        small = self.small if on_cpu else {}
        return {**self.options, **small}, self.small_seconds if on_cpu else self.seconds


def _machine(imports: bool) -> Step:
    options = {"imports": imports, "n": 8192}
    return Step(
        "machine", "gpu_steps:look_at_machine", 22 if imports else 14, options, {"n": 512}, 25,
        ("card", "product_tflops", "copy_gb_per_s"), always=True,
    )  # fmt: skip


def _embed(name: str, seconds: float, **options: Any) -> Step:
    sizes = {"rounds": 2, "peer_dtype": "float16", "peer_batch": [32, 256, 1024]}
    few = {"rows": 40, "layers": 2} if options["shape"] == "minilm" else {"rows": 10, "layers": 1}
    small = {"rounds": 1, "peer_dtype": "float32", "peer_batch": [32], **few}
    shown = (
        "ratio", "ours.rows_per_s", "ours.tokens_per_s", "ours.computed_share",
        "ours.share_of_measured_peak", "peer_rows_per_s",
    )  # fmt: skip
    return Step(name, "gpu_embed:against_peer", seconds, {**sizes, **options}, small, 45, shown)


_SHAPE_1B = {"layers": 16, "hidden": 2048, "heads": 32, "keys": 8, "inner": 8192, "tied": True}
_SHAPE_8B = {"layers": 32, "hidden": 4096, "heads": 32, "keys": 8, "inner": 14336, "tied": False}
_SMALL = {"layers": 2, "hidden": 64, "heads": 4, "keys": 2, "inner": 128}
_TRAINED = (
    "tokens_per_s", "share_of_peak", "share_of_measured_peak", "computed_share", "memory_gb",
    "last_loss",
)  # fmt: skip


def _train(name: str, seconds: float, **options: Any) -> Step:
    sizes = {"steps": 12, "batch": 32, "micro": 8, "length": 1024, "vocabulary": 128_256}
    small = {**_SMALL, "steps": 5, "batch": 8, "micro": 2, "length": 64}
    small |= {"vocabulary": 49_152 if "real" in options else 2_048}  # SmolLM2's, for real texts
    small |= {"micro": options["micro"]} if options.get("micro", 8) is None else {}
    shape = options.pop("shape", _SHAPE_1B)
    options = {**sizes, **shape, **options}
    return Step(name, "gpu_finetune:train", seconds, options, small, 18, _TRAINED)


_LORA_8B = {"lora": True, "shape": _SHAPE_8B, "batch": 8, "micro": 4, "steps": 8}
CALLS: dict[str, list[Step]] = {
    "a": [
        _machine(True),
        Step(
            "path: train", "gpu_path:train", 40, {"steps": 6, "ways": None},
            {"steps": 2, "ways": ["float32 adamw", "float32 lion"]}, 30, ("worst",),
        ),
        Step("path: score, embed", "gpu_path:score_and_embed", 20, {}, {}, 40, ("worst", "cosine")),
        _embed("embed, MiniLM's shape", 45, shape="minilm", rows=20_000),
        _embed("embed, BERT-large's shape", 25, shape="bert-large", rows=3_000),
        Step(
            "k-means", "gpu_embed:cluster", 15, {"n": 100_000, "k": [316, 4_096]},
            {"n": 2_000, "k": [45]}, 20,
            tuple(
                f"k{k}, {on}.seconds"
                for k in (316, 4096, 45)
                for on in ("faiss on cuda", "torch on cuda", "faiss on cpu", "torch on cpu")
            ),
        ),
    ],
    "b": [
        _machine(False),
        _train("1B all weights, adamw: TRL", 17, side="trl", optimizer="adamw"),
        _train("1B all weights, adamw: ours", 17, side="ours", optimizer="adamw"),
        _train("real lengths: TRL, drawn order", 15, side="trl", real="drawn", length=512),
        _train("real lengths: ours, default", 15, side="ours", length=512, real="ours", micro=None),
        _train("1B all weights, lion", 14, side="ours", optimizer="lion"),
        _train("1B all weights, lion-8bit", 14, side="ours", optimizer="lion-8bit"),
        _train("1B LoRA, adamw", 13, side="ours", optimizer="adamw", lora=True),
        _train("8B LoRA, adamw: ours", 26, side="ours", optimizer="adamw", **_LORA_8B),
        _train("8B LoRA, adamw: TRL", 26, side="trl", optimizer="adamw", **_LORA_8B),
        _train("real lengths: TRL, our batches", 15, side="trl", real="ours", length=512),
        _train("8B QLoRA, adamw: ours", 30, side="ours", quantization="4bit", **_LORA_8B),
        _train("real lengths: ours, micro 8", 15, side="ours", real="ours", length=512),
        _train("1B lion, checkpointing", 16, side="ours", optimizer="lion", checkpointing=True),
        _train("1B LoRA, lion", 13, side="ours", optimizer="lion", lora=True),
    ],
    "c": [
        _machine(False),
        Step("model", "gpu_study:join_model", 20, {}, {}, 60, ("bytes", "parameters")),
        Step(
            "study", "gpu_study:run", 60, {"rows": None, "runs": None, "options": {}},
            {
                "rows": 64, "runs": 3, "records": 8,
                "options": {"batch_size": 8, "micro_batch_size": 4, "max_length": 128},
            },
            50, ("base", "done", "left", "seconds_a_run"),
        ),
    ],
}  # fmt: skip


def lines_of(files: Iterable[Path]) -> Iterator[Line]:
    """Yield the whole lines of result files; one that a kill cut off is none."""
    for file in files:
        for text in file.read_text("utf-8").splitlines() if file.is_file() else ():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line


def best(lines: Iterable[Line]) -> dict[tuple[str, str], Line]:
    """Return the line that counts of each step, by (call, step): the last `ok`, else the last."""
    found: dict[tuple[str, str], Line] = {}
    for line in lines:
        if "state" in line:
            place = line["call"], line["step"]
            if line["state"] == "ok" or found.get(place, {}).get("state") != "ok":
                found[place] = line
    return found


class Lines:
    """The file of results: a line is on the disk before the next step begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
            self._append(b"\n")  # a kill cut the last line off

    def write(self, line: Line) -> None:
        """Append a line, flushed and synced."""
        self._append(json.dumps(line).encode() + b"\n")

    def _append(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


class Call:
    """One call: its steps, the time left, the process under way."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.end = time.monotonic() + asked.seconds - _GRACE_S
        self.out = asked.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.results = self.out / "results.jsonl"
        self.lines = Lines(self.results)
        self.before = list(lines_of([*asked.after, self.results]))
        self.machine: Line = {}
        self.child: subprocess.Popen[bytes] | None = None
        self.stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: Any) -> None:
        self.stopped = True

    def _wait(self, limit: float) -> int | None:
        """Return the exit code of the step under way; None after its limit, or at a signal."""
        assert self.child is not None
        until = time.monotonic() + limit
        while not self.stopped and time.monotonic() < until:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.child.wait(_LOOK_EVERY_S)
        return None

    def run(self, steps: Sequence[Step], scratch: Path) -> None:
        """Do what is not done, in order."""
        done = {
            step
            for (call, step), line in best(self.before).items()
            if call == self.asked.call
            and line["state"] == "ok"
            and line["on_cpu"] == self.asked.on_cpu
        }
        for step in steps:
            if self.stopped:
                return
            if step.name in done and not step.always:
                print(f"{step.name}: done before", flush=True)
                continue
            self._do(step, scratch)

    def _do(self, step: Step, scratch: Path) -> None:
        options, expected = step.asked(self.asked.on_cpu)
        left = self.end - time.monotonic()
        line: Line = {
            "call": self.asked.call, "step": step.name, "on_cpu": self.asked.on_cpu,
            "card": self.machine.get("card"), "options": options, "expected_s": expected,
        }  # fmt: skip
        limit = min(max(_LIMIT * expected, _SHORTEST_S), left)
        if step.name == "study":
            limit = left  # as many runs as there is time for
        if left < expected:
            why = f"takes about {expected:.0f} s, and {max(left, 0):.0f} s were left"
            line |= {"state": "left out", "reason": why, "seconds": 0.0, "figures": {}}
        else:
            line |= {"limit_s": round(limit, 1)} | self._process(step, options, limit, scratch)
        if step.name == "machine":
            self.machine = line["figures"]
            line["card"] = self.machine.get("card")
        add_shares(line["figures"], self.machine)
        line |= {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "smi": _smi()}
        self.lines.write(line)
        print(said(step, line), flush=True)

    def _process(
        self, step: Step, options: Mapping[str, Any], limit: float, scratch: Path
    ) -> dict[str, Any]:
        """Run a step; return its state, the reason, seconds and whatever it has measured."""
        place = scratch / f"{len(list(scratch.iterdir())):03d}"
        place.mkdir()
        request, figures, log = (place / name for name in ("request.json", "figures.json", "log"))
        runs = {
            line["run"]: line["base"]
            for line in self.before
            if "run" in line and line["on_cpu"] == self.asked.on_cpu
        }
        known = {
            "function": step.function, "figures": str(figures), "place": str(place),
            "carried": str(self.asked.carried), "work": str(self.asked.work),
            "on_cpu": self.asked.on_cpu, "limit_s": limit, "options": dict(options),
            "jobs": self.asked.jobs, "results": str(self.results), "call": self.asked.call,
            "encoder": self.asked.encoder, "done": runs,
        }  # fmt: skip
        request.write_text(json.dumps(known), "utf-8")
        paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        started = time.monotonic()
        with log.open("wb") as told:
            self.child = subprocess.Popen(
                [sys.executable, str(HERE / "gpu_steps.py"), str(request)],
                stdout=told,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"},
                start_new_session=True,
            )
        code = self._wait(limit)
        over, code = code is None and not self.stopped, end(self.child) if code is None else code
        measured = json.loads(figures.read_text("utf-8")) if figures.is_file() else {}
        reason = measured.pop("reason", None)
        tail = log.read_text("utf-8", "replace").strip()[-500:]
        if self.stopped:
            state, reason = "failed", "stopped by a signal"
        elif over:
            state, reason = "failed", f"over its limit of {limit:.0f} s"
        elif code == LEFT_OUT:
            state = "left out"
        elif code:
            state, reason = "failed", reason or tail or f"exit code {code}"
        else:
            state = "ok" if reason is None else "failed"
        seconds = round(time.monotonic() - started, 1)
        shutil.rmtree(place / "scratch", ignore_errors=True)
        return {"state": state, "reason": reason, "seconds": seconds, "figures": measured}


def end(process: subprocess.Popen[bytes]) -> int:
    """End a step and what it has started: it is asked, and after a while all of it is killed."""
    for number, wait_s in ((signal.SIGTERM, _GRACE_S - 1), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
    return process.wait()


def add_shares(figures: Any, machine: Mapping[str, Any]) -> None:
    """Beside each `tflops`, of real work a second, say its share of the card's two peaks."""
    if not isinstance(figures, dict):
        return
    for value in list(figures.values()):
        add_shares(value, machine)
    name, reached = str(machine.get("card")), figures.get("tflops")
    if reached is None:
        return
    peak = next((flops for card, flops in PEAKS.items() if card in name), None)
    if peak:
        figures["share_of_peak"] = round(reached * 1e12 / peak, 4)
    if machine.get("product_tflops"):
        figures["share_of_measured_peak"] = round(reached / machine["product_tflops"], 4)


def _smi() -> str | None:
    """Return what the driver says of the card, read only; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = "name,driver_version,memory.used,utilization.gpu,clocks.sm,temperature.gpu,power.draw"
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


def said(step: Step, line: Line) -> str:
    """Return a line for people: state, seconds, and what is worth a look."""
    values = []
    for path in step.shown:
        value: Any = line["figures"]
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            shown = (
                f"{value:,.4g}"
                if isinstance(value, float)
                else f"{value:,}"
                if isinstance(value, int)
                else value
            )
            values.append(f"{path.rpartition('.')[2]} {shown}")
    why = "" if line["state"] == "ok" else f" ({str(line['reason']).splitlines()[-1][:110]})"
    return f"{step.name:<36} {line['state']:<8} {line['seconds']:6.1f} s  {', '.join(values)}{why}"


def table(call: str, lines: Mapping[tuple[str, str], Line]) -> str:
    """Return the table of a call, a line a step."""
    rows = [said(s, lines[call, s.name]) for s in CALLS[call] if (call, s.name) in lines]
    rows += [f"{s.name:<36} not reached" for s in CALLS[call] if (call, s.name) not in lines]
    here = {step: line for (of, step), line in lines.items() if of == call}
    rows += [f"{name}: ours over TRL {told}" for name, told in pairs(here).items()]
    return "\n".join(rows)


def pairs(steps: Mapping[str, Line]) -> dict[str, dict[str, float]]:
    """Return how ours compares with TRL's trainer in steps that differ by the trainer alone."""
    found = {}
    for name, line in steps.items():
        work, _, side = name.rpartition(": ")
        other = steps.get(f"{work}: TRL")
        if side == "ours" and other and line["state"] == other["state"] == "ok":
            both = line["figures"], other["figures"]
            apart = zip(*(figures["losses"] for figures in both), strict=True)
            found[work] = {
                "ratio": round(both[0]["tokens_per_s"] / both[1]["tokens_per_s"], 3),
                "greatest_loss_difference": round(max(abs(a - b) for a, b in apart), 5),
            }
    return found


def merged(call: str, lines: Sequence[Line]) -> dict[str, Any]:
    """Return what is known of a call from the lines of all its runs."""
    found = {step: line for (of, step), line in best(lines).items() if of == call}
    names = [step.name for step in CALLS[call]]
    missing = {
        name: found[name]["reason"] if name in found else "not reached"
        for name in names
        if found.get(name, {}).get("state") != "ok"
    }
    runs = {line["run"]: line for line in lines if line.get("call") == call and "run" in line}
    measured = [n for n in names if n not in missing and n != "machine"]
    state = "run" if not missing else "partly run" if measured or runs else "not run"
    told: dict[str, Any] = {
        "benchmark": f"gpu_quarter_hour, call {call}",
        "state": state,
        "cards": sorted({str(line["card"]) for line in found.values() if line.get("card")}),
        "missing": missing,
        "pairs": pairs(found),
        "steps": {name: found[name] for name in names if name in found},
    }
    if not lines:
        told["reason"] = "no card was at hand"
    return told | ({"runs": [runs[name] for name in sorted(runs)]} if runs else {})


def merge(files: Sequence[Path], to: Path) -> list[Path]:
    """Write a file a call from result lines, those of a trial without a card into one file."""
    lines = list(lines_of(files))
    small = [line for line in lines if line.get("on_cpu")]
    on_card = [line for line in lines if not line.get("on_cpu")]
    written = {}
    if small:
        calls = {call: merged(call, [x for x in small if x["call"] == call]) for call in FILES}
        note = "a trial with small numbers and without a card: that all of it runs, and no speeds"
        written[REHEARSAL] = {
            "benchmark": "gpu_quarter_hour --on-cpu",
            "note": note,
            "calls": calls,
        }
    if on_card or not small:
        for call, name in FILES.items():
            written[name] = merged(call, [line for line in on_card if line["call"] == call])
    to.mkdir(parents=True, exist_ok=True)
    for name, told in written.items():
        text = json.dumps(told, indent=1, sort_keys=True)
        (to / f"{name}.json").write_text(text + "\n", "utf-8")
    return [to / f"{name}.json" for name in written]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("call", choices=[*CALLS, "merge"])
    parser.add_argument("files", type=Path, nargs="*", help="of merge: results.jsonl of calls")
    parser.add_argument("--seconds", type=float, default=200.0, help="the call ends before that")
    parser.add_argument("--on-cpu", action="store_true", help="small numbers, no card")
    parser.add_argument("--carried", type=Path, default=Path(".gpu"), help="made by gpu_carry.py")
    parser.add_argument("--work", type=Path, help="for what is made on the way; default: removed")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or ".bench/gpu"))
    parser.add_argument("--after", type=Path, nargs="*", default=[], help="results.jsonl of before")
    parser.add_argument("--only", nargs="*", help="steps whose name holds one of these words")
    parser.add_argument("--encoder", help="folder of an encoder, in the place of MiniLM's shape")
    parser.add_argument("--jobs", type=int, default=1, help="runs of the study at a time")
    parser.add_argument("--to", type=Path, default=RESULTS, help="of merge: where to write")
    return parser


def main() -> None:
    """Run a call, or merge what calls have left."""
    asked = _parser().parse_args()
    if asked.call == "merge":
        for path in merge(asked.files, asked.to):
            print(f"wrote {path}")
        return
    call = Call(asked)
    steps = [
        step
        for step in CALLS[asked.call]
        if asked.only is None or step.always or any(word in step.name for word in asked.only)
    ]
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as scratch:
        asked.work = asked.work or Path(scratch) / "work"
        asked.work.mkdir(parents=True, exist_ok=True)
        call.run(steps, Path(scratch))
    text = table(asked.call, best([*call.before, *lines_of([call.results])]))
    (call.out / "table.txt").write_text(text + "\n", "utf-8")
    print(text, flush=True)
    sys.exit(75 if call.stopped else 0)


if __name__ == "__main__":
    main()
