"""Optimizers by name, with the settings that make them comparable.

LION is `pytorch_optimizer`'s: maintained, tested upstream, equal to the paper's algorithm step by
step. Transformers' own `lion_*` would take its betas from `adam_beta1/2`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Name = Literal["adamw", "lion"]

# AdamW's published fine-tuning rate for 7B models (hidden size 4,096); the best rate falls about
# as 1/width (Yang et al. 2022, arXiv:2203.03466), LoRA's is about ten times that of full tuning.
_REFERENCE_RATE, _REFERENCE_WIDTH, _LORA = 2e-5, 4096, 10.0
_LION = 5.0  # LION: rate 3-10 times lower, decay as much higher (Chen et al. 2023), so λη is kept


@dataclass(frozen=True)
class Settings:
    """Peak learning rate and decoupled weight decay of a run, resolved."""

    lr: float
    weight_decay: float


def resolve(
    name: Name, width: int, lora: bool, lr: float | None, weight_decay: float | None
) -> Settings:
    """Fill in what the user left open.

    Parameters
    ----------
    width : int
        The model's hidden size.
    """
    rate = _REFERENCE_RATE * _REFERENCE_WIDTH / width * (_LORA if lora else 1.0)
    decay = 0.01
    if name == "lion":
        rate, decay = rate / _LION, decay * _LION
    return Settings(
        lr=float(f"{rate:.3g}") if lr is None else lr,
        weight_decay=decay if weight_decay is None else weight_decay,
    )


def optimizer_class(name: Name, lr: float) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the class and its keyword arguments; decay comes with the parameter groups."""
    import torch

    if name == "adamw":
        from torch.optim import AdamW

        return AdamW, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8, "fused": True}
    from pytorch_optimizer import Lion

    # One tensor at a time on a CPU: batches of tensors allocate anew and fall out of its caches.
    foreach = None if torch.cuda.is_available() else False
    return Lion, {"lr": lr, "betas": (0.9, 0.99), "foreach": foreach}
