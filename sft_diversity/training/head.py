"""The loss computed at labelled positions only.

Logits are the dearest part of a small model's step: vocabulary × tokens. Prompts and padding have
no loss, so their logits are never made.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from sft_diversity.core.chat import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TILE = 1 << 15  # words of the vocabulary that a tile of logits spans
# Logits that a model changes on their way to the loss: such models keep TRL's own head.
_SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


def is_plain(model: PreTrainedModel) -> bool:
    """Whether the model's logits are its output layer applied to its last hidden state."""
    config = model.config.get_text_config()
    scaled = any(getattr(config, name, None) is not None for name in _SCALED)
    return not scaled and not getattr(config, "output_router_logits", False)


def positions_of(labels: torch.Tensor) -> torch.Tensor:
    """Return the positions, in a flattened micro-batch, whose next token has a label.

    Found where the labels still lie on the CPU: a GPU that had to say how many there are would be
    waited for.
    """
    labelled = labels != IGNORED
    labelled[..., 0] = False  # no position comes before the first
    return labelled.flatten().nonzero().flatten() - 1


def add_labelled_head(model: PreTrainedModel) -> None:
    """Let `model(input_ids, labels, positions=positions_of(labels))` return the summed loss.

    Without `positions` the forward pass is the model's own, so generation is unchanged. Batches are
    padded on the right: causal attention never looks there, so no mask is needed.
    """
    from transformers.modeling_outputs import CausalLMOutput

    own = type(model).forward

    def forward(self: Any, *args: Any, positions: Any = None, **kwargs: Any) -> Any:
        if positions is None:
            return own(self, *args, **kwargs)
        labels = kwargs.pop("labels").flatten()
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state.flatten(0, 1)
        positions, labels = positions.to(hidden.device), labels.to(hidden.device)
        loss = _in_tiles if hidden.device.type == "cuda" else _at_once
        summed = loss(
            self.get_output_embeddings(),
            hidden.index_select(0, positions),
            labels.index_select(0, positions + 1),
        )
        return CausalLMOutput(loss=summed)

    forward.__signature__ = _signature(own)  # type: ignore[attr-defined]
    model.forward = types.MethodType(forward, model)


def _at_once(head: Any, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    return functional.cross_entropy(head(hidden).float(), labels, reduction="sum")


def _in_tiles(head: Any, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the summed loss by TRL's kernel: logits live a tile at a time, and are made twice."""
    from torch.distributed.tensor import DTensor
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import maybe_gather_lm_head_ctx

    weight, bias = (
        part.full_tensor() if isinstance(part, DTensor) else part
        for part in (head.weight, getattr(head, "bias", None))
    )
    with maybe_gather_lm_head_ctx(weight, bias):
        kernel: Any = ChunkedLogProbFunction.apply
        log_probs: torch.Tensor = kernel(hidden, weight, bias, labels, 1.0, _TILE, None, 1.0, ())[0]
        return -log_probs.sum()


def _signature(function: Any) -> Any:
    """The original's signature: `generate` and PEFT check keyword arguments against it."""
    import inspect

    return inspect.signature(function)
