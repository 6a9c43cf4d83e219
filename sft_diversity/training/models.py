"""The model to be trained: what training asks of one, and how it is loaded for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sft_diversity.core import models
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import Finder, ModelFolder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ADAPTER_WEIGHTS = "adapter_model.safetensors"


def _is_trainable(base: ModelFolder) -> None:
    if base.base_name is not None:
        if not (base.path / _ADAPTER_WEIGHTS).is_file():
            raise UsageError(
                f"{base.use} {base.path} has no {_ADAPTER_WEIGHTS}, and pickled weights are not "
                "loaded; name another --model"
            )
        return
    if not (base.path / "config.json").is_file():
        raise UsageError(
            f"{base.use} {base.path} has no config.json; name a folder of a whole model"
        )
    if not any(base.path.glob("*.safetensors")):
        raise UsageError(
            f"{base.use} {base.path} has no weights as safetensors, and pickled ones are not "
            "loaded; convert them, or name another --model"
        )
    if not models.has_tokenizer(base.path):
        raise UsageError(f"{base.use} {base.path} has no tokenizer; put the model's own there")


#: Models with a config, safetensors and a tokenizer, and adapters on such.
BASES = Finder("finetune: model", _is_trainable)


def at_hand(name: str | None, revision: str | None) -> ModelFolder | None:
    """Return a model that is here, whole; None where it, or what it sits on, is to be fetched."""
    found = BASES.at_hand(name, revision)
    if found is None or found.base_name is None:
        return found
    return None if BASES.at_hand(found.base_name) is None else found


def adapter_options(base: ModelFolder) -> dict[str, Any]:
    """Return how an adapter was made, as options of a run that goes on from it.

    Raises
    ------
    UsageError
        If it is no LoRA.
    """
    made = json.loads((base.path / models.ADAPTER).read_text("utf-8"))
    if made.get("peft_type") != "LORA":
        raise UsageError(
            f"{base.use} {base.name} is an adapter of type {made.get('peft_type')}; only LoRA is "
            "trained further"
        )
    ours = {"lora_rank": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}
    return {name: made[theirs] for name, theirs in ours.items() if theirs in made}


def home_of_tokenizer(base: ModelFolder) -> ModelFolder:
    """Return the folder that the tokenizer is read from: an adapter without one has its base's."""
    whole = None if models.has_tokenizer(base.path) else base.base
    return whole or base


def load_right_padding_tokenizer(base: ModelFolder) -> PreTrainedTokenizerBase:
    """Load the tokenizer; padding is on the right, as training needs it."""
    tokenizer = models.tokenizer_of(home_of_tokenizer(base))
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding never has a label
    return tokenizer


def load_base(
    base: ModelFolder,
    seed: int,
    dtype: str = "float32",
    train_adapter: bool = False,
    **options: Any,
) -> Any:
    """Load the weights that are trained, or that an adapter sits on.

    Parameters
    ----------
    dtype : str
        What is trained is held in float32, since the optimizer's small updates would be lost in
        bfloat16; what is frozen may be in either.
    train_adapter : bool
        Whether an adapter stays one, to be trained further; else it is merged.
    options
        Of `from_pretrained`.
    """
    from transformers import set_seed

    set_seed(seed)
    if base.base is None:
        return models.load_causal_lm(base, dtype, **options)
    from peft import PeftModel

    model = models.load_causal_lm(base.base, dtype, **options)
    with models.loading(base):
        loaded = PeftModel.from_pretrained(model, base.path, is_trainable=train_adapter)
    if train_adapter:
        return loaded
    return loaded.merge_and_unload().requires_grad_(True)


def quantized(kind: str, dtype: str) -> Any:
    """Return how bitsandbytes is to hold frozen weights: NF4 with double quantization, or int8."""
    import torch
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig  # its parameters have no annotations
    if kind == "8bit":
        return config(load_in_8bit=True)
    return config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
