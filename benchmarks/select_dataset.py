"""From a `datasets.Dataset` in memory to a micro subset: seconds from nothing, and the second time.

    python benchmarks/select_dataset.py CORPUS [--size 10000] [--work FOLDER]

The rows are a corpus's exchanges, as instruction and output. Each time is a process of its own, its
imports counted; a line says wall and processor seconds and the key of the ids. Writes
results/select_dataset.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sft_diversity.core import machine

RESULT = Path(__file__).with_name("results") / "select_dataset.json"
_CHILD = "import sys; from select_dataset import once; once(*sys.argv[1:])"


def once(corpus: str, size: str, work: str) -> None:
    """Select from the corpus's rows in memory and print what it took."""
    import datasets

    from sft_diversity.core import corpus as corpora

    rows = corpora.read(Path(corpus), ["instruction", "response"])
    rows = rows.rename_columns(["instruction", "output"])
    dataset = datasets.Dataset(datasets.table.InMemoryTable(rows))
    wall, processor = time.perf_counter(), time.process_time()
    import sft_diversity as sd

    picked = sd.select(dataset, size=int(size), strategy="micro-response", work=work)
    took = {
        "wall": round(time.perf_counter() - wall, 2),
        "processor": round(time.process_time() - processor, 2),
    }
    print(json.dumps({**took, "rows": len(rows), "ids_key": picked.figures["ids_key"]}))


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--size", default="10000")
    parser.add_argument("--work", help="default: a folder that is empty and goes again")
    parser.add_argument("--busy", action="store_true", help="others use this machine: upper bounds")
    asked = parser.parse_args()
    found: dict[str, Any] = {"busy": asked.busy, "size": int(asked.size)}
    with tempfile.TemporaryDirectory() as empty:
        for name in ("from nothing", "again"):
            call = [sys.executable, "-c", _CHILD, asked.corpus, asked.size, asked.work or empty]
            done = subprocess.run(
                call, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
            )
            found[name] = json.loads(done.stdout)
            print(f"{name}: {done.stdout.strip()}")
    found["machine"] = machine.measured_on()
    RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
