"""What a study will take before it starts: runs, tokens, hours, disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from sft_diversity.core import corpus as corpora
from sft_diversity.core import machine
from sft_diversity.core.cells import Run
from sft_diversity.scoring import stage as scoring
from sft_diversity.scoring.generate import stage as generation
from sft_diversity.studies import cells as grid
from sft_diversity.studies.config import StudyConfig
from sft_diversity.studies.costs import Cost
from sft_diversity.training import estimates, memory
from sft_diversity.training.models import BASES

# For estimates alone.
_TOKENISED_PER_S, _MEASURED_PER_S, _SUBSET_BYTES_PER_ROW = 1_500.0, 600.0, 800


@dataclass(frozen=True)
class Estimate:
    """What is left to do; `hours` are of the clock, with the jobs at a time that are asked for.

    `memory` is in bytes, of the runs that share a GPU, or the machine where there is none.
    """

    subsets: int
    runs: int
    runs_left: int
    tokens: float
    hours: float
    gigabytes: float
    jobs: int
    threads: int
    memory: float


def jobs_of(study: StudyConfig) -> int:
    """Return how many runs go at a time: as asked; else one a GPU, or as the cores allow."""
    return study.jobs or len(machine.cards()) or max(machine.cores() // study.threads, 1)


def memory_of(study: StudyConfig) -> float:
    """Return about how many bytes the runs take that share a GPU, or the machine where none is.

    Each is counted with a batch of samples as long as they may be.
    """
    runs = -(-jobs_of(study) // max(len(machine.cards()), 1))
    with memory.shared(runs):
        return runs * estimates.predicted_bytes(study.finetuning)


def memory_warning(study: StudyConfig) -> str | None:
    """Return a line about memory that will not do; None where it will."""
    needed, there = memory_of(study), memory.available_bytes()
    if needed <= there:
        return None
    where = "share a GPU" if machine.cards() else "go at a time"
    return (
        f"study: the runs that {where} take about {needed / 1e9:,.1f} GB of memory, and "
        f"{there / 1e9:,.1f} are there; less do fewer --jobs, and in the block finetune lora, "
        "quantization, gradient_checkpointing, a lower micro_batch_size"
    )


def estimate_study(
    study: StudyConfig,
    runs: Sequence[Run],
    left: Sequence[Run],
    costs: Mapping[str, Cost],
    unmeasured: int,
) -> Estimate:
    """Estimate what the runs that are `left` take.

    Parameters
    ----------
    costs : mapping
        Of cells by name; or of "" for every cell, where none is known yet.
    unmeasured : int
        Subsets whose metrics are to be made.
    """
    training = study.finetuning
    base = BASES.find(training.model, training.revision)
    seconds = sum(run_seconds(study, left, costs).values())
    tokens = sum(
        (costs.get(run.cell.name) or costs[""]).total_tokens for run in left if run.cell is not None
    )
    sizes = study.grid["size"]
    seconds += unmeasured * (5 + float(np.mean(sizes)) / _MEASURED_PER_S)
    subsets = grid.cells(study)
    disk = sum(cell.size for cell in subsets) * _SUBSET_BYTES_PER_ROW
    weights = 4 * base.parameters()
    jobs = jobs_of(study)
    # a run in progress holds its weights and two checkpoints with the optimizer's state
    disk += weights * (len(runs) if study.keep_models else 0) + jobs * weights * 7
    return Estimate(
        subsets=len(subsets),
        runs=len(runs),
        runs_left=len(left),
        tokens=tokens,
        hours=seconds / jobs / 3600,
        gigabytes=disk / 1e9,
        jobs=jobs,
        threads=study.threads,
        memory=memory_of(study),
    )


def run_seconds(
    study: StudyConfig, runs: Sequence[Run], costs: Mapping[str, Cost]
) -> dict[str, float]:
    """Return about how long each run takes; `costs` as in `estimate_study`."""
    training = study.finetuning
    base = BASES.find(training.model, training.revision)
    scored = scoring.estimate_heldout(study.scoring)["seconds"] * 2 / study.threads
    if study.generating is not None:
        scored += generation.expected_s(study.generating, base.parameters()) * 2 / study.threads
    found = {}
    for run in runs:
        found[run.name] = estimates.START_S + scored
        if run.cell is not None:
            read = (costs.get(run.cell.name) or costs[""]).total_tokens
            found[run.name] += run.cell.size / _TOKENISED_PER_S
            found[run.name] += estimates.training_seconds(base, read, study.threads)
    return found


def guess(study: StudyConfig) -> Cost:
    """Return what a run on an average cell reads, from the corpus's characters, unread subsets.

    Where the corpus is not made yet, 160 tokens a sample are taken for granted.
    """
    training, size = study.finetuning, int(np.mean(study.grid["size"]))
    tokens = labels = 100.0
    if study.corpus is not None and corpora.is_corpus(Path(study.corpus)):
        shard = next(corpora.batches(Path(study.corpus), ["instruction", "response"]))
        said = [pc.mean(pc.utf8_length(shard[name])).as_py() / 4 for name in shard.column_names]
        labels, tokens = min(said[1], training.max_length), min(sum(said), training.max_length)
    samples = training.samples_read(size, labels)
    return Cost(
        steps=-(-round(samples) // training.batch_size),
        epochs=samples / size,
        response_tokens=samples * labels,
        total_tokens=samples * tokens,
        truncated_share=0.0,
        lost_share=0.0,
    )
