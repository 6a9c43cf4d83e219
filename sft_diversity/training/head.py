"""The loss computed at labelled positions only.

Logits are the dearest part of a small model's step: vocabulary × tokens. Prompts and padding have
no loss, so their logits are never made.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from sft_diversity.core.chat import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits that a model changes on their way to the loss: such models keep TRL's own head.
_SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


def is_plain(model: PreTrainedModel) -> bool:
    """Whether the model's logits are its output layer applied to its last hidden state."""
    config = model.config.get_text_config()
    scaled = any(getattr(config, name, None) is not None for name in _SCALED)
    return not scaled and not getattr(config, "output_router_logits", False)


def add_labelled_head(model: PreTrainedModel) -> None:
    """Let `model(input_ids, labels, labelled_head=True)` return the summed loss of labelled tokens.

    Without the flag the forward pass is the model's own, so generation is unchanged. Batches are
    padded on the right: causal attention never looks there, so no mask is needed.
    """
    from torch.nn import functional
    from transformers.modeling_outputs import CausalLMOutput

    own = type(model).forward

    def forward(self: Any, *args: Any, labelled_head: bool = False, **kwargs: Any) -> Any:
        if not labelled_head:
            return own(self, *args, **kwargs)
        labels = kwargs.pop("labels")[:, 1:]
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state[:, :-1]
        labelled = labels != IGNORED
        logits = self.get_output_embeddings()(hidden[labelled])
        loss = functional.cross_entropy(logits.float(), labels[labelled], reduction="sum")
        return CausalLMOutput(loss=loss)

    forward.__signature__ = _signature(own)  # type: ignore[attr-defined]
    model.forward = types.MethodType(forward, model)


def _signature(function: Any) -> Any:
    """The original's signature: `generate` and PEFT check keyword arguments against it."""
    import inspect

    return inspect.signature(function)
