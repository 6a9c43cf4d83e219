"""What the theory in the log costs: time to measure a gradient, as a share of the whole step.

    python benchmarks/finetune_diagnostics.py SUBSET [--model DIR] [--steps 10] [--batch-size 32]

Trains with AdamW, LION and LION on LoRA, and times `theory.gradient_figures` within each step. Both
times are taken in the same steps and both as wall and as processor time, of which the latter hardly
depends on what else the machine does. The first two steps are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sft_diversity.core import folder
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.stage import finetune

RESULTS = Path(__file__).parent / "results" / "finetune_diagnostics.json"
WARM = 2
Times = list[tuple[float, float]]


def clocks() -> tuple[float, float]:
    """Return wall and processor seconds."""
    return time.perf_counter(), time.process_time()


def run(subset: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train in a temporary folder, return medians over the steps."""
    from sft_diversity.training import theory, trainer

    spent: Times = []
    ends: Times = []
    measure, count = theory.gradient_figures, trainer.Watch.on_step_end

    def timed(*args: Any, **kwargs: Any) -> Any:
        before = clocks()
        got = measure(*args, **kwargs)
        after = clocks()
        spent.append((after[0] - before[0], after[1] - before[1]))
        return got

    def ended(self: Any, *args: Any, **kwargs: Any) -> None:
        ends.append(clocks())
        count(self, *args, **kwargs)

    setattr(theory, "gradient_figures", timed)  # noqa: B010 - a method to the type checker
    setattr(trainer.Watch, "on_step_end", ended)  # noqa: B010
    try:
        with tempfile.TemporaryDirectory() as scratch:
            manifest = finetune(subset, Path(scratch) / "out", FinetuneConfig(**options))
    finally:
        setattr(theory, "gradient_figures", measure)  # noqa: B010
        setattr(trainer.Watch, "on_step_end", count)  # noqa: B010
    steps = [
        tuple(b - a for a, b in zip(one, two, strict=True))
        for one, two in zip(ends[WARM - 1 :], ends[WARM:], strict=False)
    ]
    result: dict[str, Any] = {"final_loss": manifest["result"]["final_loss"]}
    for i, clock in enumerate(("wall", "cpu")):
        step = statistics.median(t[i] for t in steps)
        theirs = statistics.median(t[i] for t in spent[WARM:])
        result |= {
            f"step_{clock}_s": round(step, 4),
            f"diagnostics_{clock}_s": round(theirs, 5),
            f"share_{clock}": round(theirs / step, 5),
        }
    return result


def main() -> None:
    """Time the three kinds of run and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subset", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    asked = parser.parse_args()
    common = {
        "model": asked.model,
        "steps": asked.steps,
        "batch_size": asked.batch_size,
        "on_truncation": "trim",
        "checkpoint_steps": 10_000,
    }
    load = os.getloadavg()[0]
    runs = {
        "adamw": run(asked.subset, common | {"optimizer": "adamw"}),
        "lion": run(asked.subset, common | {"optimizer": "lion"}),
        "lion, LoRA": run(asked.subset, common | {"optimizer": "lion", "lora": True}),
    }
    import torch

    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "steps_timed": asked.steps - WARM,
        "batch_size": asked.batch_size,
        "model": asked.model or "tiny-base",
        "versions": {k: v for k, v in folder.versions().items() if k in ("torch", "transformers")},
        "runs": runs,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
