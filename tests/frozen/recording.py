"""What must stay as it is: help, JSON keys, exit codes, and the content of every stage's output.

    python -m tests.frozen.recording     writes `records.json` anew; say in the commit why

Content is ids in pick order, concatenated columns and arrays, accounts and figures: no manifests,
keys, or cuts into shards. Nothing here is computed by a neural network: its last digits differ from
processor to processor. Figures are rounded to nine digits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests import command

ROOT = Path(__file__).resolve().parents[2]
RECORDS = Path(__file__).with_name("records.json")
STRATEGIES = ("micro-instruction", "micro-response", "meso-instruction", "meso-response")
#: YAML of the options that leave out what an encoder would decide.
PLAIN = "index: {meso: {merge: none}}\n"
_NOISE = lambda level, seed: (7 * level + 13 * seed) % 11 / 60  # noqa: E731
RESULTS = (
    "strategy,size,diversity,seed,score\n"
    + "".join(
        f"{strategy},500,{level},{seed},{0.2 + slope * level + _NOISE(level, seed):.5f}\n"
        for strategy, slope in (("micro-response", 0.002), ("meso-instruction", -0.0005))
        for level in (0, 33, 67, 100)
        for seed in (0, 1, 2)
    )
    + "".join(f"random,500,,{seed},{0.25 + seed / 100}\n" for seed in range(3))
)
SCORES = "strategy,size,seed,score\n" + "".join(
    f"{strategy},{size},{seed},{start + rise * step + _NOISE(step, seed):.4f}\n"
    for strategy, start, rise in (("random", 40, 0.2), ("micro-response", 38, 3.0))
    for step, size in enumerate((250, 500, 1000))
    for seed in (0, 1)
)


def run(*arguments: Any) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, stdout and stderr."""
    plain = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    done = command.sftdiv(*arguments, env=plain)
    told, complaint = (
        re.sub(r"(Usage: |Try ')[\w .-]*?\bsftdiv", r"\1sftdiv", said)
        for said in (done.stdout, done.stderr)
    )
    return done.returncode, told, complaint


def figures(*arguments: Any) -> dict[str, Any]:
    """Return what a command prints with `--json`."""
    code, said, complaint = run(*arguments, "--json")
    assert code == 0, complaint
    return dict(json.loads(said))


def digest(*parts: bytes) -> str:
    """Return 16 hex digits of bytes."""
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)
    return made.hexdigest()[:16]


def of_json(value: Any) -> str:
    return digest(json.dumps(rounded(value), sort_keys=True).encode())


def rounded(value: Any) -> Any:
    """Return a JSON value with floats to nine significant digits."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def of_tables(folder: Path, pattern: str) -> str:
    """Return a digest of Parquet files read as one table: names and values of its columns."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob(pattern))])
    return of_json({name: table[name].to_pylist() for name in table.column_names})


def of_arrays(folder: Path) -> dict[str, str]:
    """Return a digest of each array and table of an incidence, in its widest type."""
    found = {p.stem: np.load(p) for p in sorted(folder.glob("*.npy"))}
    arrays = {name: digest(array.astype(np.int64).tobytes()) for name, array in found.items()}
    return arrays | {p.stem: of_tables(folder, p.name) for p in sorted(folder.glob("*.parquet"))}


def account(said: dict[str, Any]) -> dict[str, Any]:
    """Return figures without what differs from run to run."""
    return {n: rounded(v) for n, v in said.items() if n not in ("seconds", "out", "corpus")}


def keys_of(value: Any, depth: int = 2) -> Any:
    """Return the keys of a JSON object, and of the objects in it."""
    if isinstance(value, dict) and depth:
        return {name: keys_of(one, depth - 1) for name, one in sorted(value.items())}
    return type(value).__name__


# ---- what is recorded -----------------------------------------------------------------------


def helps() -> dict[str, str]:
    """Return the help of the command line and of every verb."""
    code, text, _ = run("--help")
    assert code == 0
    verbs = re.findall(r"^  ([a-z]+) {2,}\S", text[text.index("Data:") :], re.MULTILINE)
    return {"": text} | {verb: run(verb, "--help")[1] for verb in verbs}


def corpus(home: Path) -> Path:
    """Make the corpus of the sample, once."""
    place = home / "corpus"
    if not place.exists():
        figures("ingest", "--config", ROOT / "configs/ingest/sample.yaml", "--out", place)
    return place


def ingested(home: Path) -> dict[str, Any]:
    place = corpus(home)
    said = figures("ingest", "--config", ROOT / "configs/ingest/sample.yaml", "--out", place)
    return {"samples": of_tables(place, "samples/*.parquet"), "account": account(said)}


def cleaned(home: Path) -> dict[str, Any]:
    place = home / "clean"
    said = figures("clean", corpus(home), "--out", place, "--work", home / "work")
    return {"samples": of_tables(place, "samples/*.parquet"), "account": account(said)}


def indexed(home: Path) -> dict[str, Any]:
    config = home / "index.yaml"
    config.write_text("meso: {merge: none}\n")
    found = {}
    for strategy in STRATEGIES:
        out = home / strategy
        said = figures(
            "index", corpus(home), "--strategy", strategy, "--config", config, "--out", out,
            "--work", home / "work",
        )  # fmt: skip
        found[strategy] = {"arrays": of_arrays(out), "account": account(said)}
    return found


WAYS: dict[str, tuple[str, ...]] = {
    "draws": (),
    "balance": ("--fill", "balance", "--diversity", "67"),
    "uniform": ("--fill", "uniform", "--diversity", "50"),
    "seed": ("--seed", "3", "--diversity", "33"),
    "capped": ("--max-per-kind", "60", "--diversity", "50"),
    "quota": ("--quota", "source=corpus", "--diversity", "80"),
    "length": ("--match-length", "corpus", "--diversity", "60"),
    "tokens": ("--token-budget", "25000", "--diversity", "40"),
    "no-kind": ("--no-kind", "fill", "--diversity", "50"),
    "entropy": ("--objective", "entropy", "--diversity", "70"),
    "random": ("--strategy", "random"),
    "longest": ("--strategy", "longest"),
}


def subset(home: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Make the subset of a way; return its folder and figures."""
    out, options = home / "subsets" / name, WAYS[name]
    strategy = () if "--strategy" in options else ("--strategy", "micro-response")
    chosen = ("--size", "200", "--out", out, *strategy, *options)
    return out, figures("select", corpus(home), *common(home), *chosen)


def common(home: Path) -> tuple[Any, ...]:
    """Return the options that all selections share."""
    config = home / "select.yaml"
    config.write_text(PLAIN)
    return ("--config", config, "--work", home / "work")


def selected(home: Path) -> dict[str, Any]:
    """Return picks and figures of a subset by each way, and of a grid over the dial."""
    found: dict[str, Any] = {}
    for name in WAYS:
        out, said = subset(home, name)
        found[name] = {"ids": of_tables(out, "samples/*.parquet"), "account": account(said)}
    axes = f"strategy={','.join(STRATEGIES)} diversity=0,17,33,50,67,83,100 size=300"
    said = figures("select", corpus(home), "--grid", axes, *common(home), "--out", home / "grid")
    found["grid"] = {
        name: of_tables(home / "grid" / name, "samples/*.parquet") for name in said["subsets"]
    } | {"account": {n: account(one) for n, one in said["subsets"].items()}}
    found["overlap"] = {"account": account(said["overlap"])}
    return found


def described(home: Path) -> dict[str, Any]:
    """Return what is said about a subset once it is there: explain, diff, export, verify."""
    one, other = subset(home, "draws")[0], subset(home, "balance")[0]
    first = pq.read_table(one / "samples/00000.parquet")["id"][0].as_py()
    work = ("--work", home / "work", "--corpus", corpus(home))
    exported = home / "export"
    said = figures("export", one, "--to", exported)
    return {
        "explain": account(figures("explain", one, first, *work)),
        "diff": account(figures("diff", one, other, *work)),
        "export": {
            "rows": of_tables(exported, "**/*.parquet"),
            "files": sorted(p.relative_to(exported).as_posix() for p in exported.rglob("*.*")),
            "account": account(said),
        },
        "verify": keys_of(figures("verify", one)),
    }


def fitted(home: Path) -> dict[str, Any]:
    table = home / "results.csv"
    table.write_text(RESULTS)
    said = figures("fit", table)
    return {"account": of_json(account(said)), "keys": keys_of(said)}


def advised(home: Path) -> dict[str, Any]:
    """Return keys and decisions: figures come of LAPACK, whose last digits are the machine's."""
    table = home / "scores.csv"
    table.write_text(SCORES)
    said = figures("advise", table, "--at", "4000")
    return {"keys": keys_of(said), "next": [row["next_size"] for row in said["advice"]]}


def scheduled(home: Path) -> dict[str, Any]:
    said = figures("schedule", "--phi", "0.5", "--warmup", "0.1")
    return {"account": of_json(account(said)), "keys": keys_of(said, 1)}


WRONG: dict[str, tuple[str, ...]] = {
    "no such verb": ("selekt",),
    "no such option": ("select", "CORPUS", "--sise", "3"),
    "no out": ("select", "CORPUS", "--strategy", "micro-response", "--size", "3"),
    "wrong strategy": ("select", "CORPUS", "--strategy", "mikro", "--size", "3", "--out", "OUT"),
    "size above": ("select", "CORPUS", "--strategy", "random", "--size", "99999", "--out", "OUT"),
    "no such file": ("ingest", "nosuch.jsonl", "--out", "OUT"),
    "no manifest": ("verify", "."),
    "no corpus": ("index", "nosuch", "--strategy", "micro-response"),
    "bad rows": ("ingest", "bad.jsonl", "--out", "OUT"),
    "foreign out": ("ingest", "bad.jsonl", "--out", "foreign"),
    "unknown job": ("status", "nosuch", "--work", "empty"),
    "unknown recipe": ("run", "nosuch"),
    "unknown id": ("explain", "SUBSET", "nosuch", "--corpus", "CORPUS", "--work", "work"),
}


def wrong_use(home: Path) -> dict[str, Any]:
    """Return exit code and last line of wrong uses."""
    (home / "bad.jsonl").write_text("{not json\n" * 20)
    (home / "foreign").mkdir(exist_ok=True)
    (home / "foreign/file").write_text("mine")
    chosen = str(subset(home, "draws")[0])
    names = {"CORPUS": str(corpus(home)), "SUBSET": chosen, "OUT": "wrong"}
    found = {}
    with contextlib.chdir(home):
        for name, words in WRONG.items():
            code, _, said = run(*(names.get(word, word) for word in words))
            line = (said.strip().splitlines() or [""])[-1].replace(str(home), "HOME")
            found[name] = [code, line if line.startswith("error: ") else ""]
            assert "Traceback" not in said, said
    assert not (home / "wrong").exists()
    return found


PARTS: dict[str, Callable[[Path], Any]] = {
    "help": lambda home: helps(),
    "ingest": ingested,
    "clean": cleaned,
    "index": indexed,
    "select": selected,
    "described": described,
    "fit": fitted,
    "advise": advised,
    "schedule": scheduled,
    "wrong": wrong_use,
}


def record(home: Path) -> Iterator[tuple[str, Any]]:
    """Yield each part of the records, made in the empty folder `home`."""
    for name, make in PARTS.items():
        yield name, json.loads(json.dumps(make(home)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = dict(record(Path(scratch)))
    RECORDS.write_text(json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
