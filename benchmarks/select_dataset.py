"""From rows in memory, or from raw files, to a micro subset: seconds from nothing, and again.

    python benchmarks/select_dataset.py CORPUS [--size 10000] [--work FOLDER]
    python benchmarks/select_dataset.py CORPUS --raw ../shared/data/sources

The rows are a corpus's exchanges, as instruction and output, in a `datasets.Dataset`. With `--raw`
they are the files that the reference corpus is made of, in their native formats: read, deduplicated
and selected from in one process, for the default tokenizer and for a byte-level BPE of 32,000 with
Qwen-2's pattern, trained on a third of CORPUS beforehand. Each time is a process of its own, its
imports counted; a line says wall and processor seconds, what of them `ingest` took and the choice
itself (the dial and the draws, kernels loaded), and the key of the ids. Writes
results/select_dataset.json, or results/select_raw.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sft_diversity.core import machine

_HERE = Path(__file__).resolve()
RESULTS = _HERE.with_name("results")
_CONFIG = _HERE.parents[1] / "configs" / "ingest" / "reference-117k.yaml"
_CHILD = "import sys; from select_dataset import once, raw; {}(*sys.argv[1:])"


def once(corpus: str, size: str, work: str) -> None:
    """Select from the corpus's rows in memory and print what it took."""
    import datasets

    from sft_diversity.core import corpus as corpora

    rows = corpora.read(Path(corpus), ["instruction", "response"])
    rows = rows.rename_columns(["instruction", "output"])
    dataset = datasets.Dataset(datasets.table.InMemoryTable(rows))
    start = _seconds()
    import sft_diversity as sd

    picked = sd.select(dataset, size=int(size), strategy="micro-response", work=work)
    took = _since(start)
    print(json.dumps({**took, "rows": len(rows), "ids_key": picked.figures["ids_key"]}))


def raw(root: str, size: str, work: str, tokenizer: str) -> None:
    """Select from the files of the reference corpus and print what it took."""
    start = _seconds()
    import sft_diversity as sd

    pool = sd.ingest(config=_CONFIG, root=root, work=work)
    ingested = _since(start)
    choice = _timed_choice()
    picked = sd.select(
        pool, size=int(size), strategy="micro-response", diversity=100, work=work,
        tokenizer=tokenizer or None,
    )  # fmt: skip
    took = {**_since(start), "ingest": ingested, "choice": choice}
    print(
        json.dumps(
            {
                **took,
                "rows": pool.figures["accounting"]["kept"],
                "ids_key": picked.figures["ids_key"],
            }
        )
    )


def _timed_choice() -> dict[str, float]:
    """Let the choice of rows say what it takes; nothing where the subset is found."""
    from sft_diversity.selection import choices

    took: dict[str, float] = {}
    choose = choices.choose_rows

    def timed(*args: Any) -> Any:
        start = _seconds()
        chosen = choose(*args)
        took.update(_since(start))
        return chosen

    setattr(choices, "choose_rows", timed)  # noqa: B010
    return took


def _seconds() -> tuple[float, float]:
    used = os.times()
    return time.perf_counter(), used.user + used.system + used.children_user + used.children_system


def _since(start: tuple[float, float]) -> dict[str, float]:
    taken = (round(now - then, 2) for then, now in zip(start, _seconds(), strict=True))
    return dict(zip(("wall", "processor"), taken, strict=True))


def _both(side: str, first: str, size: str, work: str | None, *more: str) -> dict[str, Any]:
    """Run one side from nothing and again; return its figures."""
    found = {}
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as empty:
        for name in ("from nothing", "again"):
            call = [sys.executable, "-c", _CHILD.format(side), first, size, work or empty, *more]
            done = subprocess.run(
                call, cwd=_HERE.parent, env=env, check=True, stdout=subprocess.PIPE, text=True
            )
            found[name] = json.loads(done.stdout)
            print(f"{side}, {name}: {done.stdout.strip()}", flush=True)
    return found


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--size", default="10000")
    parser.add_argument("--work", help="default: a folder that is empty and goes again")
    parser.add_argument("--raw", metavar="ROOT", help="from the reference corpus's files, in ROOT")
    parser.add_argument("--busy", action="store_true", help="others use this machine: upper bounds")
    asked = parser.parse_args()
    found: dict[str, Any] = {"busy": asked.busy, "size": int(asked.size)}
    if asked.raw is None:
        found |= _both("once", asked.corpus, asked.size, asked.work)
    else:
        from tokenize_vs_hf import PATTERNS, train

        with tempfile.TemporaryDirectory() as place:
            trained = Path(place, "tokenizer.json")
            train(Path(asked.corpus), PATTERNS["qwen2"], trained)
            root = str(Path(asked.raw).absolute())
            for name, file in {"default": "", "qwen2": str(trained)}.items():
                print(f"tokenizer: {name}", flush=True)
                found[name] = _both("raw", root, asked.size, asked.work, file)
    found["machine"] = machine.measured_on()
    target = RESULTS / f"select_{'dataset' if asked.raw is None else 'raw'}.json"
    target.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
