"""Optimizers by name, with the settings that make them comparable.

LION and SGD are `pytorch_optimizer`'s: maintained, tested upstream, LION equal to the paper's
algorithm step by step, weight decay decoupled in both (torch's SGD adds it to the gradient).
Transformers' own `lion_*` would take its betas from `adam_beta1/2`.

Weight decay is decoupled everywhere, x ← x − ηλx, and falls on matrices: embeddings too, but no
norms and no biases. The trainer makes these groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sft_diversity.core import extras, machine
from sft_diversity.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

Name = Literal["adamw", "lion", "sgd", "adamw-8bit", "lion-8bit"]

_8BIT = "-8bit"

# AdamW's published fine-tuning rate for 7B models (hidden size 4,096); the best rate falls about
# as 1/width (Yang et al. 2022, arXiv:2203.03466), LoRA's is about ten times that of full tuning.
_REFERENCE_RATE, REFERENCE_WIDTH, _LORA = 2e-5, 4096, 10.0
_LION = 5.0  # LION: rate 3-10 times lower, decay as much higher (Chen et al. 2023), so λη is kept

_LION_BETAS, _ADAMW_BETAS = (0.9, 0.99), (0.9, 0.999)


@dataclass(frozen=True)
class Settings:
    """Peak learning rate and decoupled weight decay of a run, resolved."""

    lr: float
    weight_decay: float


def check_optimizer(name: Name) -> None:
    """Refuse an optimizer that this machine has not, before any work is done.

    Raises
    ------
    DataError
        If an 8-bit optimizer finds no CUDA GPU.
    UsageError
        If its package is not installed.
    """
    if name in ("lion", "sgd"):
        extras.require("pytorch_optimizer", f"finetune: {name}", "use adamw")
    if not name.endswith(_8BIT):
        return
    if not machine.gpus():
        raise DataError(
            f"finetune: {name} needs a CUDA GPU, and there is none; use "
            f"{name.removesuffix(_8BIT)}, which is the same with 32-bit state"
        )
    extras.require("bitsandbytes", f"finetune: {name}", f"use {name.removesuffix(_8BIT)}")


def settings_for(
    name: Name, width: int, lora: bool, lr: float | None, weight_decay: float | None
) -> Settings:
    """Fill in what the user left open.

    Parameters
    ----------
    width : int
        The model's hidden size.

    Raises
    ------
    UsageError
        If SGD is given no learning rate.
    """
    if name == "sgd" and lr is None:
        raise UsageError("finetune: sgd has no published rate for fine-tuning; give lr")
    rate = _REFERENCE_RATE * REFERENCE_WIDTH / width * (_LORA if lora else 1.0)
    decay = 0.0 if name == "sgd" else 0.01
    if name.startswith("lion"):
        rate, decay = rate / _LION, decay * _LION
    return Settings(
        lr=float(f"{rate:.3g}") if lr is None else lr,
        weight_decay=decay if weight_decay is None else weight_decay,
    )


def optimizer_class(name: Name, lr: float) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the class and its keyword arguments; decay comes with the parameter groups."""

    if name == "adamw":
        from torch.optim import AdamW

        return AdamW, {"lr": lr, "betas": _ADAMW_BETAS, "eps": 1e-8, "fused": True}
    if name.endswith(_8BIT):
        return _8bit_class(name, lr)
    from pytorch_optimizer import SGDW, Lion

    # One tensor at a time on a CPU: batches of tensors allocate anew and fall out of its caches.
    foreach = None if machine.gpus() else False
    if name == "sgd":
        return SGDW, {"lr": lr, "momentum": 0.9, "foreach": foreach}
    return Lion, {"lr": lr, "betas": _LION_BETAS, "foreach": foreach}


def _8bit_class(name: Name, lr: float) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return a class of bitsandbytes; the trainer sees `optim_bits` and keeps embeddings' state in
    32 bits, as its authors advise (Dettmers et al. 2022, arXiv:2110.02861).
    """
    import bitsandbytes

    if name == "lion-8bit":
        return bitsandbytes.optim.Lion, {"lr": lr, "betas": _LION_BETAS, "optim_bits": 8}
    options = {"lr": lr, "betas": _ADAMW_BETAS, "eps": 1e-8, "optim_bits": 8}
    return bitsandbytes.optim.AdamW, options
