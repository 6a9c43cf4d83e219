"""Time all metrics of one subset of 10,000, and self-BLEU beside sacrebleu's.

    python benchmarks/measure_subset.py CORPUS --work WORK

CORPUS and WORK are those of `sftdiv ingest` and `sftdiv index` (all six strategies). The subset is
response-micro at 67 %. Figures go to `benchmarks/results/measure_subset.json`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sft_diversity.core import machine
from sft_diversity.core.corpus import COMPONENTS
from sft_diversity.core.folder import dump_json, read_manifest
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.metrics import spread, stage, texts
from sft_diversity.metrics.table import ComponentData, MeasureConfig
from sft_diversity.stages import store
from sft_diversity.verbs import selecting
from sft_diversity.verbs.measuring import MeasureOptions, describe

RESULTS = Path(__file__).parent / "results" / "measure_subset.json"


def main() -> None:
    """Select, measure, time, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--bleu-texts", type=int, default=300, help="texts sacrebleu compares")
    asked = parser.parse_args()
    found: dict[str, Any] = machine.measured_on() | {"load": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as scratch:
        subset = Path(scratch) / "subset"
        selecting.select(
            asked.corpus, out=subset, work=asked.work, strategy="micro-response",
            size=asked.size, diversity=67,
        )  # fmt: skip
        kept = store(asked.work)
        described = describe(kept, MeasureOptions(), [subset])
        wall, processor = time.perf_counter(), time.process_time()
        out = Path(scratch) / "measured"
        kept.get("measure", stage.Measurement(datasets=described), out=out)
        found["seconds"] = round(time.perf_counter() - wall, 2)
        found["processor_seconds"] = round(time.process_time() - processor, 2)
        found["datasets"] = read_manifest(out)["result"]["datasets"]
        found["parts"] = {
            component: _parts(stage.component_data(described[0], component, MeasureConfig()))
            for component in COMPONENTS
        }
        part = stage.component_data(described[0], "response", MeasureConfig())
        found["self_bleu"] = _beside_sacrebleu(part, asked.bleu_texts)
    RESULTS.write_text(dump_json(found), "utf-8")
    print(dump_json({k: found[k] for k in ("load", "seconds", "processor_seconds", "parts")}))
    print(dump_json(found["self_bleu"]))


def _parts(part: ComponentData) -> dict[str, float]:
    """Return the seconds of each metric alone."""
    seconds: dict[str, float] = {}
    made = texts.numbered(part.texts)
    few = made.take(rows_drawn(len(part.texts), 1_000, 0, "measure", "self-bleu"))
    vectors, reference = part.vectors, part.reference
    assert vectors is not None, "the benchmark needs the extra embed"
    assert reference is not None
    factors = spread.density_factors(vectors, reference)
    timed: dict[str, Callable[[], object]] = {
        "words": lambda: texts.numbered(part.texts),
        "n-grams": lambda: [np.unique(grams) for grams, _ in texts.ngrams(made, 4)],
        "compression": lambda: texts.compression_ratio(part.texts),
        "self-BLEU of 1,000": lambda: texts.self_bleu(few),
        "self-BLEU of all": lambda: texts.self_bleu(made),
        "embedding distance": lambda: spread.mean_pairwise_distance(vectors),
        "Vendi score": lambda: spread.vendi_score(vectors),
        "density factors": lambda: spread.density_factors(vectors, reference),
        "NovelSum": lambda: spread.novelsum(vectors, factors),
    }
    for name, run in timed.items():
        start = time.perf_counter()
        run()
        seconds[name] = round(time.perf_counter() - start, 3)
    return seconds


def _beside_sacrebleu(part: ComponentData, count: int) -> dict[str, float]:
    """Return seconds and values of both on the same texts."""
    from sacrebleu.metrics.bleu import BLEU

    rows = rows_drawn(len(part.texts), count, 0, "measure", "self-bleu")
    few = [part.texts[i] for i in rows]
    start = time.perf_counter()
    ours = texts.self_bleu(texts.numbered(few))
    between = time.perf_counter()
    peer = BLEU(effective_order=True)
    theirs = [
        peer.sentence_score(text, few[:i] + few[i + 1 :]).score / 100 for i, text in enumerate(few)
    ]
    end = time.perf_counter()
    return {
        "texts": len(few),
        "seconds": round(between - start, 4),
        "sacrebleu_seconds": round(end - between, 2),
        "ratio": round((end - between) / (between - start), 1),
        "largest_difference": float(np.abs(ours - np.array(theirs)).max()),
    }


if __name__ == "__main__":
    main()
