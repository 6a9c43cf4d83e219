"""How much memory a run will need, before it starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sft_diversity.core import machine

if TYPE_CHECKING:
    from sft_diversity.core.models import ModelFolder
    from sft_diversity.training.config import FinetuneConfig

# Bytes of optimizer state a trained weight: moments in 32 or 8 bits.
_STATE = {"adamw": 8, "lion": 4, "sgd": 4, "adamw-8bit": 2, "lion-8bit": 1}
# Bytes of a frozen weight; 4 bits with the scales of their blocks.
_FROZEN = {"4bit": 0.55, "8bit": 1.1, "float32": 4.0, "bfloat16": 2.0}
# What a layer keeps of each token for the backward pass, in bytes: so many a hidden unit (norms and
# residuals in float32 whatever the products are in) and so many values a unit of its inner layer.
# Counted from the tensors that a Llama layer saves.
_KEPT_HIDDEN, _KEPT_INNER = 32, 4
# Libraries, buffers and what allocators hold back; measured with models that are small beside it.
_BESIDES = 1.2e9
# Without a micro-batch size: tokens of a forward pass on a CPU, which longer ones do not speed up,
# and the share of a GPU's memory that is planned with.
_CPU_TOKENS, _SAFE = 8192, 0.8

#: The variable that says how many runs share a GPU; a study sets it for its runs.
SHARED = "SFTDIV_RUNS_A_GPU"


def needed_bytes(base: ModelFolder, config: FinetuneConfig, dtype: str, tokens: int) -> float:
    """Return about how many bytes a run takes: weights, gradients, optimizer, activations.

    Parameters
    ----------
    dtype : str
        Precision of products.
    tokens : int
        Of the largest forward pass.
    """
    whole = base.parameters()
    if config.lora:
        rank = config.lora_rank
        trained = rank * sum(m + n for m, n in base.matrices())
        frozen = whole * _FROZEN[config.quantization or dtype]
    else:
        trained, frozen = whole, 0.0
    copies = 4 if config.optimizer == "lion" and machine.gpus() else 0  # while it takes a step
    held = frozen + trained * (4 + 4 + _STATE[config.optimizer] + copies)
    return held + _activations(base.config, config, dtype, tokens) + _BESIDES


def tokens_at_once(base: ModelFolder, config: FinetuneConfig, dtype: str) -> int:
    """Return how many tokens a forward pass may have, where `micro_batch_size` is left open."""
    if not machine.gpus():
        return _CPU_TOKENS
    held, more = (needed_bytes(base, config, dtype, tokens) for tokens in (0, 1))
    free = _SAFE * available_bytes() - held
    return max(int(free / max(more - held, 1.0)), 1)


def largest_pass(base: ModelFolder, config: FinetuneConfig, dtype: str, longest: int) -> int:
    """Return how many tokens the largest forward pass has, given the longest sample's."""
    if config.micro_batch_size is not None:
        return min(config.micro_batch_size, config.batch_size) * longest
    most = min(tokens_at_once(base, config, dtype), config.batch_size * longest)
    return max(most, longest)


def _activations(shape: Any, config: FinetuneConfig, dtype: str, tokens: int) -> float:
    size = 2 if dtype == "bfloat16" else 4
    try:
        hidden, layers, words = (
            int(getattr(shape, name)) for name in ("hidden_size", "num_hidden_layers", "vocab_size")
        )
    except (AttributeError, TypeError, ValueError):  # nothing known: loading it says what is wrong
        return 0.0
    inner = getattr(shape, "intermediate_size", None) or 4 * hidden
    kept = tokens * (_KEPT_HIDDEN * hidden + _KEPT_INNER * size * int(inner))
    layers_kept = tokens * hidden * size * layers if config.gradient_checkpointing else 0
    body = layers_kept + kept if config.gradient_checkpointing else kept * layers
    # Logits and their gradient. On a GPU they are made in tiles of one size.
    return body if machine.gpus() else body + 2 * 4 * tokens * words


def available_bytes() -> float:
    """Return the memory of the device that trains: the machine's, or a run's share of a GPU's."""
    if machine.gpus():
        import torch

        if torch.cuda.is_available():
            whole = float(torch.cuda.get_device_properties(0).total_memory)
            return whole / int(os.environ.get(SHARED, "1"))
    return machine.memory_bytes()


@contextlib.contextmanager
def shared(runs: int) -> Iterator[None]:
    """Plan with the share that each of several runs on a GPU has."""
    before = os.environ.get(SHARED)
    os.environ[SHARED] = str(runs)
    try:
        yield
    finally:
        if before is None:
            del os.environ[SHARED]
        else:
            os.environ[SHARED] = before


def warning(needed: float) -> str | None:
    """Return a line about memory that will not do, and what takes less; None where it will."""
    there = available_bytes()
    if needed <= there:
        return None
    return (
        f"finetune: this run takes about {needed / 1e9:,.1f} GB of memory, and {there / 1e9:,.1f} "
        "are there; less do lora, quantization, gradient_checkpointing, a lower micro_batch_size"
    )
