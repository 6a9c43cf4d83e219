"""What a run of `finetune` takes, before it starts: time, tokens, memory. Nothing is trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sft_diversity.core import machine
from sft_diversity.core.models import ModelFolder
from sft_diversity.training import evaluation, memory, samples
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.inputs import Inputs
from sft_diversity.training.models import BASES

# Loading, measured with tiny-base on cores without bfloat16, and operations a second of such a core
# in float32 and of a GPU in bfloat16.
START_S, _CORE_FLOPS, _GPU_FLOPS = 12.0, 7e10, 2e14


def of_run(inputs: Inputs) -> dict[str, Any]:
    """Return about what a run takes: `rows, steps, tokens, seconds, memory` (bytes of the device).

    Nothing is tokenised: lengths are estimated, see `samples.estimate_tokens`.
    """
    config = inputs.config
    each = [samples.estimate_tokens(source, config.max_length) for source in inputs.sources]
    tokens = np.concatenate(each)
    mean = float(
        np.average([one.mean() for one in each], weights=config.weights or [*map(len, each)])
    )
    read = config.samples_read(round(len(tokens) * (1 - config.eval_share)), mean)
    steps = math.ceil(read / config.batch_size)
    measured = _measured_tokens(inputs, tokens) * evaluation.times(config, steps)
    passed = mean * read + measured / 3  # measuring has no backward pass
    seconds = START_S + training_seconds(inputs.base, passed)
    return {
        "rows": len(tokens),
        "steps": steps,
        "tokens": round(mean * read),
        "seconds": round(seconds, 1),
        "memory": round(memory_bytes(inputs, int(tokens.max()))),
    }


def _measured_tokens(inputs: Inputs, trained: Any) -> float:
    """Return about how many tokens an evaluation reads."""
    if inputs.held_out is None:
        return float(trained.sum()) * inputs.config.eval_share
    return float(samples.estimate_tokens(inputs.held_out, inputs.config.max_length).sum())


def predicted_bytes(config: FinetuneConfig) -> float:
    """Return about how much memory a run takes on samples as long as they may be.

    It is 0 where the model would be fetched first.
    """
    base = BASES.at_hand(config.model, config.revision)
    if base is None:
        return 0.0
    whole, config = base.base or base, config.within(base.context)
    dtype = machine.precision_for(config.dtype, machine.device_for("finetune"))
    tokens = memory.largest_pass(whole, config, dtype, config.max_length)
    return memory.needed_bytes(whole, config, dtype, tokens)


def memory_bytes(inputs: Inputs, longest: int) -> float:
    """Return about how much memory a run takes whose longest sample has so many tokens."""
    base, config, dtype = inputs.base, inputs.config, inputs.dtype
    tokens = memory.largest_pass(base, config, dtype, longest)
    return memory.needed_bytes(base, config, dtype, tokens)


def training_seconds(base: ModelFolder, tokens: float, cores: int | None = None) -> float:
    """Return about how long training on so many tokens takes, on a GPU or on `cores` (all)."""
    speed = _GPU_FLOPS if machine.gpus() else _CORE_FLOPS * (cores or machine.cores())
    return 6.0 * base.parameters() * tokens / speed
