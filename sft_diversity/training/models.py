"""The model to be trained: what training asks of one, and how it is loaded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sft_diversity.core import models
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import Finder, ModelFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def _is_whole(base: ModelFolder) -> None:
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


#: Models with a config, safetensors and a tokenizer.
BASES = Finder("finetune: model", _is_whole)


def load_right_padding_tokenizer(base: ModelFolder) -> PreTrainedTokenizerBase:
    """Load the tokenizer; padding is on the right, as training needs it."""
    tokenizer = models.tokenizer_of(base)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding never has a label
    return tokenizer


def load_base(
    base: ModelFolder, seed: int, dtype: str = "float32", **options: Any
) -> PreTrainedModel:
    """Load the weights that are trained, or that an adapter sits on.

    Parameters
    ----------
    dtype : str
        What is trained is held in float32, since the optimizer's small updates would be lost in
        bfloat16; what is frozen may be in either.
    options
        Of `from_pretrained`.
    """
    from transformers import set_seed

    set_seed(seed)
    return models.load_causal_lm(base, dtype, **options)


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
