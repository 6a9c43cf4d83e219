"""What the convergence papers speak of, measured at every step of a real run.

For a gradient with d entries: ‖g‖₁, ‖g‖₂ and ‖g‖₁/(√d·‖g‖₂), which is at most 1 and √(2/π) ≈ 0.798
for a Gaussian gradient. LION with decoupled decay λ solves min f(x) subject to |x| ≤ 1/λ; its KKT
gap ‖∇f‖₁ + λ⟨x, ∇f⟩ is at least 0 inside that box, and 0 at a KKT point alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

# Single-precision sums over one long run lose digits on a CPU: torch's 1-norm of 5e7 values is 15 %
# low. Pieces that stay in a core's cache are summed in float32, their sums in float64.
_CPU_PIECE, _GPU_PIECE = 1 << 16, 1 << 24


@dataclass(frozen=True)
class GradientFigures:
    """Figures of one gradient; the last two are None where they were not asked for.

    Attributes
    ----------
    ratio : float
        ‖g‖₁/(√d·‖g‖₂); not a number where the gradient is 0.
    kkt_gap : float or None
        ‖g‖₁ + λ⟨x, g⟩; a weight without decay has no box and adds its |g|.
    box_share : float or None
        Share of the decayed weights with |x| ≤ 1/λ; 1 where none is decayed.
    """

    grad_l1: float
    grad_l2: float
    grad_ratio: float
    kkt_gap: float | None = None
    box_share: float | None = None

    def scaled(self, by: float) -> GradientFigures:
        """Return the figures of the gradient times `by`, at least 0; shares stay."""
        gap = None if self.kkt_gap is None else by * self.kkt_gap
        return replace(self, grad_l1=by * self.grad_l1, grad_l2=by * self.grad_l2, kkt_gap=gap)

    def as_log(self) -> dict[str, float]:
        """Return the figures that there are, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


def gradient_figures(
    groups: Iterable[dict[str, Any]],
    box: bool,
    scale: float = 1.0,
    shards: bool = False,
    process_group: Any = None,
) -> GradientFigures:
    """Measure the gradients that the parameters of an optimizer hold.

    Call it on the accumulated gradient, before it is clipped.

    Parameters
    ----------
    groups : list of dict
        The optimizer's `param_groups`: trainable parameters alone, each group with its decay λ.
    box : bool
        Whether to measure the KKT gap and the share of weights in the box: for LION.
    scale : float
        What a gradient scaler has multiplied the gradients by.
    shards : bool
        Whether plain tensors are a process's own shards (FSDP 1). Tensors that say so themselves
        (FSDP 2) need no flag; plain tensors are otherwise the same on all processes (DDP).
    process_group : torch process group
        The processes that share the parameters; default: all.

    Notes
    -----
    Reads gradients once, and weights once if `box`. Allocates no copy of either. With shards, one
    all-reduce of six numbers.
    """
    parts = [
        _sums(p, float(g.get("weight_decay", 0.0)), box, shards)
        for g in groups
        for p in g["params"]
    ]
    sums = torch.stack(parts).sum(0)
    if shards or any(isinstance(p, DTensor) for g in groups for p in g["params"]):
        torch.distributed.all_reduce(sums, group=process_group)
    size, l1, squares, inner, inside, decayed = sums.tolist()
    l1, l2, inner = l1 / scale, math.sqrt(squares) / scale, inner / scale
    return GradientFigures(
        grad_l1=l1,
        grad_l2=l2,
        grad_ratio=l1 / (math.sqrt(size) * l2) if l2 else math.nan,
        kkt_gap=l1 + inner if box else None,
        box_share=(inside / decayed if decayed else 1.0) if box else None,
    )


@torch.no_grad()
def _sums(parameter: Tensor, decay: float, box: bool, shards: bool) -> Tensor:
    """Return d, ‖g‖₁, ‖g‖₂², λ⟨x, g⟩, weights in the box and decayed weights of a parameter.

    Where several processes hold the same part, each counts its share of it.
    """
    gradient, copies = parameter.grad, 1 if shards else _copies(parameter)
    weights = _flat(parameter)
    sums = weights.new_zeros(6, dtype=torch.float64)
    sums[0] = weights.numel()
    box = box and decay > 0
    if box:
        sums[5] = weights.numel()
    piece = _CPU_PIECE if weights.device.type == "cpu" else _GPU_PIECE
    for x in torch.split(weights, piece) if box and gradient is None else ():
        sums[4] += _inside(x, 1.0 / decay)
    if gradient is not None:
        values = _flat(gradient)
        for g, x in zip(torch.split(values, piece), torch.split(weights, piece), strict=True):
            g = g.float()
            sums[1] += g.abs().sum()
            sums[2] += torch.dot(g, g)
            if box:  # in the same pass, while the piece is in the cache
                sums[3] += torch.dot(x.float(), g) * decay
                sums[4] += _inside(x, 1.0 / decay)
    return sums / copies


def _inside(weights: Tensor, bound: float) -> Tensor | int:
    """Count |x| ≤ bound. On a CPU the extremes, which are cheap, mostly settle it."""
    if weights.numel() and weights.device.type == "cpu":
        low, high = weights.aminmax()
        if max(-float(low), float(high)) <= bound:
            return weights.numel()
    return torch.count_nonzero(weights.abs() <= bound)


def _flat(tensor: Tensor) -> Tensor:
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.detach().reshape(-1)


def _copies(parameter: Tensor) -> int:
    """Return how many processes hold this process's part of a parameter."""
    if not isinstance(parameter, DTensor):
        return 1
    mesh, placements = parameter.device_mesh, parameter.placements
    return math.prod(mesh.size(i) for i, at in enumerate(placements) if at.is_replicate())
