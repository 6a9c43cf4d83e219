"""The command line as a user runs it, on a small real-shaped pool."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sft_diversity import cli
from sft_diversity.core import stopping
from sft_diversity.core.folder import verify
from tests import command, tiny
from tests.processes import Child

WORDS = [
    "red",
    "blue",
    "green",
    "fish",
    "bird",
    "stone",
    "river",
    "cloud",
    "bread",
    "music",
    "paper",
    "glass",
    "tower",
    "lemon",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a raw pool of 120 rows and a tokenizer; the work folder is shared."""
    root = tmp_path_factory.mktemp("cli")
    with (root / "pool.jsonl").open("w") as handle:
        for i in range(120):
            a, b, c = (WORDS[(i * k) % len(WORDS)] for k in (1, 3, 5))
            row = {"instruction": f"Say {a} {i}.", "output": f"The {b} {c} is number {i} of {a}."}
            handle.write(json.dumps(row) + "\n")
    tiny.tokenizer().save_pretrained(root / "tokenizer")
    (root / "micro.yaml").write_text('index: {micro: {band: "2:60"}}\n')
    return root


def sftdiv(place: Path, *arguments: str, env: dict[str, str] | None = None):
    """Run the command in `place`."""
    return command.sftdiv(*arguments, cwd=place, env=env)


def select(place, out, *more):
    common = ("--config", "micro.yaml", "--tokenizer", "tokenizer", "--size", "20")
    strategy = ("--strategy", "micro-response")
    return sftdiv(place, "select", "pool.jsonl", "--out", out, *strategy, *common, *more)


CONTRACT = {
    "rows", "strategy", "objective", "fill", "diversity", "seed", "kinds_total", "k_min", "k_max",
    "kinds_target", "kinds_covered", "coverage_bound", "share_of_optimum", "random_kinds",
    "random_percent", "free_picks", "pool", "evenness", "entropy_bits",
    "instruction_tokens", "response_tokens", "seconds", "out",
}  # fmt: skip


def test_select_from_a_raw_file_prints_the_contract_and_reuses_what_it_made(place):
    first = select(place, "a", "--json")
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout)
    assert set(said) >= CONTRACT
    assert said["rows"] == 20
    subset = pq.read_table(place / "a/samples/00000.parquet")
    assert len(set(subset["id"].to_pylist())) == 20
    assert subset["pick"].to_pylist() == list(range(20))
    again = select(place, "a", "--json")
    assert "up to date" in again.stderr
    assert {**json.loads(again.stdout), "seconds": 0} == {**said, "seconds": 0}
    assert verify(place / "a")["faults"] == []


def test_same_seed_same_bytes_and_another_seed_another_set(place):
    for out, seed in (("s1", "1"), ("s1-again", "1"), ("s2", "2")):
        assert select(place, out, "--seed", seed, "--diversity", "50").returncode == 0
    files = {n: (place / n / "samples/00000.parquet").read_bytes() for n in ("s1", "s1-again")}
    assert files["s1"] == files["s1-again"]
    bodies = [json.loads((place / n / "manifest.json").read_text()) for n in ("s1", "s1-again")]
    assert [b.pop("run") is not None for b in bodies] == [True, True]
    assert bodies[0] == bodies[1]
    ids = [
        set(pq.read_table(place / n / "samples/00000.parquet")["id"].to_pylist())
        for n in ("s1", "s2")
    ]
    assert ids[0] != ids[1]


def test_dry_run_plans_and_touches_nothing(place):
    before = sorted(str(p) for p in place.rglob("*"))
    run = select(place, "never", "--dry-run", "--work", "other")
    assert run.returncode == 0, run.stderr
    assert "nothing was written" in run.stdout
    assert "ingest" in run.stdout
    assert sorted(str(p) for p in place.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--strategy", "micro-respons"), 2, "'micro-respons' is not one of 'macro-"),
        (("--size", "500"), 1, "size is 500 but the "),
        (("--diversity", "130"), 2, "less than or equal to 100"),
        (("--objective", "entropy", "--max-per-kind", "2"), 2, "max_per_kind works with"),
        (("--match-length", "nosuch"), 2, "select: match-length: nosuch is not there"),
        (("--quota", "source"), 2, "must be COLUMN=corpus, COLUMN=eligible or"),
        (("--token-budget", "9"), 1, "the fewest tokens are"),
        (("--band", "9:3"), 2, "`micro.band` is '9:3': LOW must be at least 1 and not above HIGH"),
        (("--band", "121:999"), 1, "no token type is held by 121 to 999 of 120 samples; widen"),
        (("--strategy", "random", "--band", "9:30"), 2, "band works with objective kinds of a"),
    ],
)
def test_wrong_use_is_one_line_with_its_exit_code(place, arguments, code, reason):
    run = select(place, "wrong", *arguments)
    assert run.returncode == code
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert reason in lines[0]
    assert not (place / "wrong").exists()


def test_a_dry_run_says_which_subsets_are_there(place):
    grid = ("--grid", "strategy=random,micro-response seed=0", "--size", "10", "--out", "planned")
    common = ("--config", "micro.yaml", "--tokenizer", "tokenizer", "--json")

    def states(*more):
        run = sftdiv(place, "select", "pool.jsonl", *grid, *common, *more)
        assert run.returncode == 0, run.stderr
        said = json.loads(run.stdout)
        steps = [step for step in said.get("plan", ()) if step["stage"] == "select"]
        return [step["state"] for step in steps]

    assert states("--dry-run") == ["to do"] * 2
    states()
    assert states("--dry-run") == ["cached"] * 2
    shutil.rmtree(place / "planned" / "random-s0")
    assert sorted(states("--dry-run")) == ["cached", "to do"]


def test_an_unknown_config_key_names_the_nearest(place):
    (place / "typo.yaml").write_text("sizes: 3\n")
    run = sftdiv(place, "select", "pool.jsonl", "--config", "typo.yaml", "--out", "x")
    assert run.returncode == 2
    assert "config typo.yaml: unknown key `sizes`; did you mean `size`?" in run.stderr


def test_an_unknown_recipe_names_the_known(place):
    run = sftdiv(place, "run", "nothing")
    assert run.returncode == 2
    assert "known: curate, reference, tiny_base" in run.stderr


def test_verify_finds_a_changed_byte(place):
    assert select(place, "v").returncode == 0
    path = place / "v/samples/00000.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    run = sftdiv(place, "verify", "v")
    assert run.returncode == 1
    assert "contents differ" in run.stdout


def test_doctor_answers(place):
    run = sftdiv(place, "doctor", "--json")
    assert {c["name"] for c in json.loads(run.stdout)["checks"]} >= {"machine", "faiss", "disk"}


def test_doctor_says_what_it_was_told_to_see(place):
    told = {"SFTDIV_DETECT": "bf16=1,cores=5,gpus=0"}
    found = {
        check["name"]: check["found"]
        for check in json.loads(sftdiv(place, "doctor", "--json", env=told).stdout)["checks"]
    }
    assert found["machine"].startswith("5 cores (with bf16)")
    assert found["GPU"].startswith("none")
    assert found["detection"] == "SFTDIV_DETECT says bf16=1,cores=5,gpus=0"
    run = sftdiv(place, "doctor", env={"SFTDIV_DETECT": "bf16=0"})
    assert "no bf16: float32 is used" in run.stdout
    run = sftdiv(place, "doctor", env={"SFTDIV_DETECT": "bf16=maybe"})
    assert run.returncode == 2
    assert run.stderr.startswith("error: machine: SFTDIV_DETECT holds `bf16=maybe`; it takes bf16")
    assert run.stderr.count("\n") == 1


def test_select_killed_before_it_ends_gives_the_same_bytes_when_run_again(place):
    assert select(place, "whole", "--seed", "3").returncode == 0
    code = (
        "import os, signal\n"
        "from sft_diversity.core import drafts\n"
        "drafts._swap = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from sft_diversity.verbs.selecting import select\n"
        "select('pool.jsonl', out='killed', strategy='micro-response', size=20, seed=3,"
        " tokenizer='tokenizer', config='micro.yaml')\n"
    )
    assert Child(code, cwd=place).wait() == -signal.SIGKILL
    assert not (place / "killed").exists()
    assert select(place, "killed", "--seed", "3").returncode == 0
    name = "samples/00000.parquet"
    assert (place / "killed" / name).read_bytes() == (place / "whole" / name).read_bytes()


def test_a_grid_writes_each_subset_and_prints_their_overlap(place):
    run = sftdiv(
        place, "select", "pool.jsonl", "--grid", "strategy=random,micro-response seed=0,1",
        "--size", "20", "--out", "grid",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "samples that two seeds have in common" in run.stdout
    assert len(list((place / "grid").glob("*/manifest.json"))) == 4
    again = sftdiv(
        place, "select", "pool.jsonl", "--grid", "strategy=random seed=0", "--size", "20",
        "--out", "grid", "--json",
    )  # fmt: skip
    made = json.loads(again.stdout)
    assert list(made["subsets"]) == ["random-s0"]
    assert "grid/random-s0 is up to date" in again.stderr


def test_explain_and_diff_say_why_and_how_much(place):
    for name, level in (("low", "0"), ("high", "100")):
        run = select(place, name, "--diversity", level)
        assert run.returncode == 0, run.stderr
    low, high = (
        pq.read_table(next((place / name / "samples").glob("*.parquet")))["id"].to_pylist()
        for name in ("low", "high")
    )
    told = sftdiv(place, "explain", "high", high[0])
    assert told.returncode == 0, told.stderr
    assert "pick 0" in told.stdout
    assert "no earlier pick held" in told.stdout
    lost = next(id for id in high if id not in low)
    assert "not picked" in sftdiv(place, "explain", "low", lost).stdout
    held = select(place, "held", "--quota", "source=corpus", "--seed", "5")
    assert held.returncode == 0, held.stderr
    inside = pq.read_table(next((place / "held/samples").glob("*.parquet")))["id"].to_pylist()
    outside = next(id for id in high if id not in inside)
    assert "was constrained by: quota" in sftdiv(place, "explain", "held", outside).stdout
    assert "no sample 'nosuch'" in sftdiv(place, "explain", "low", "nosuch").stderr
    said = sftdiv(place, "diff", "low", "high").stdout
    assert f"samples: {len(set(low) & set(high))} in both" in said


@pytest.mark.parametrize("strategy", ["k-center", "facility-location", "deita"])
def test_baselines_on_embeddings_are_strategies_too(place, strategy):
    run = sftdiv(
        place, "select", "pool.jsonl", "--strategy", strategy, "--size", "10", "--threshold", "1",
        "--out", f"by-{strategy}", "--json",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["rows"] == 10


def test_schedule_prints_draws_and_refuses(place):
    printed = sftdiv(place, "schedule", "--phi", "5", "--steps", "500", "--png", "s.png")
    assert printed.returncode == 0, printed.stderr
    assert "UBA, φ = 5" in printed.stdout
    assert (place / "s.png").stat().st_size > 10_000
    said = sftdiv(place, "schedule", "--phases", "0.6 phi=1, 0.4 peak=0.3", "--json")
    assert [phase["length"] for phase in json.loads(said.stdout)["phases"]] == [0.6, 0.4]
    refused = sftdiv(place, "schedule", "--phi", "0")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: schedule: phi is 0.0, but must be above 0")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RuntimeError("I/O error: gone (os error 28) at path x"), "error: No space left on device"),
        (RuntimeError("can't start new thread"), "error: memory ran out"),
        (ImportError("a.so: failed to map segment from shared object"), "error: memory ran out"),
        (RuntimeError("Failed to launch worker thread: again"), "error: memory ran out"),
        (MemoryError(), "error: memory ran out"),
    ],
)
def test_what_libraries_say_of_the_machine_is_one_line(fault, told, monkeypatch, capfd):
    def failing(standalone_mode):
        raise fault

    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.setattr(sys, "argv", ["sftdiv"])
    monkeypatch.setattr(cli, "_leave", sys.exit)
    monkeypatch.setattr(stopping, "install", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capfd.readouterr().err.startswith(told)


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch):
    def failing(standalone_mode):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.setattr(sys, "argv", ["sftdiv"])
    monkeypatch.setattr(stopping, "install", lambda: None)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()
