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
# low. Pieces that stay in a core's cache are summed in float32, their sums in float64. A GPU sums
# in a tree; its dot product takes fewer than 2³¹ values.
_CPU_PIECE, _GPU_PIECE = 1 << 16, 1 << 30


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
    Reads gradients once on a CPU, twice on a GPU, and weights once if `box`. Allocates no copy of
    either. A GPU is waited for once. With shards, one all-reduce of six numbers.
    """
    held = [(p, float(g.get("weight_decay", 0.0))) for g in groups for p in g["params"]]
    if held[0][0].device.type == "cpu":
        sums = torch.stack([_sums(p, decay, box, shards) for p, decay in held]).sum(0)
    else:
        sums = _sums_of_lists(held, box, shards)
    if shards or any(isinstance(p, DTensor) for p, _ in held):
        sums = sums.to(held[0][0].device)
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
    for x in torch.split(weights, _CPU_PIECE) if box and gradient is None else ():
        sums[4] += _inside(x, 1.0 / decay)
    if gradient is not None:
        values = _flat(gradient)
        for g, x in zip(
            torch.split(values, _CPU_PIECE), torch.split(weights, _CPU_PIECE), strict=True
        ):
            g = g.float()
            sums[1] += g.abs().sum()
            sums[2] += torch.dot(g, g)
            if box:  # in the same pass, while the piece is in the cache
                sums[3] += torch.dot(x.float(), g) * decay
                sums[4] += _inside(x, 1.0 / decay)
    return sums / copies


@torch.no_grad()
def _sums_of_lists(held: list[tuple[Tensor, float]], box: bool, shards: bool) -> Tensor:
    """Return the sums over all parameters of what `_sums` returns of each, on the CPU.

    For GPUs: norms of lists of tensors, since a launch for each tensor takes longer than its sums.
    """
    parts = [
        (_flat(p), None if p.grad is None else _flat(p.grad), decay, 1 if shards else _copies(p))
        for p, decay in held
    ]
    parts = [part for part in parts if part[0].numel()]
    with_gradient = [part for part in parts if part[1] is not None]
    boxed = [part for part in parts if box and part[2] > 0]
    gradients = [g for _, g, _, _ in parts if g is not None]
    measured = [
        _norms(gradients, 1),
        _norms(gradients, 2),
        [_dot(x, g) for x, g, _, _ in boxed if g is not None],
        _norms([x for x, _, _, _ in boxed], math.inf),
    ]
    flat = [one for row in measured for one in row]
    numbers = iter(torch.stack(flat).tolist() if flat else ())  # the one wait
    l1, l2, dots, highest = ([next(numbers) for _ in row] for row in measured)
    size = l1_sum = squares = inner = inside = decayed = 0.0
    for x, _, _, copies in parts:
        size += x.numel() / copies
    for one, two, (_, _, _, copies) in zip(l1, l2, with_gradient, strict=True):
        l1_sum += one / copies
        squares += two**2 / copies
    products = iter(dots)
    for high, (x, g, decay, copies) in zip(highest, boxed, strict=True):
        inner += 0.0 if g is None else next(products) * decay / copies
        inside += (x.numel() if high <= 1 / decay else int(_inside(x, 1 / decay))) / copies
        decayed += x.numel() / copies
    return torch.tensor([size, l1_sum, squares, inner, inside, decayed], dtype=torch.float64)


def _norms(tensors: list[Tensor], order: float) -> list[Tensor]:
    if not tensors:
        return []
    return list(torch._foreach_norm(tensors, order, dtype=torch.float32))


def _dot(x: Tensor, g: Tensor) -> Tensor:
    pieces = zip(torch.split(x, _GPU_PIECE), torch.split(g, _GPU_PIECE), strict=True)
    return torch.stack([torch.dot(a.float(), b.float()) for a, b in pieces]).sum()


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
