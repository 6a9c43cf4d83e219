"""Products in eight bits: of linear layers, whose weights and inputs are rounded to integers.

For processors that do not multiply bfloat16. Every token and every weight row has a scale of its
own, found when it is needed: nothing is calibrated on other texts, and a text's vector does not
depend on those beside it. PyTorch's own quantization of linear layers, and ONNX Runtime's, has one
scale for a whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import UsageError
from sft_diversity.core.kernels import compiled

if TYPE_CHECKING:
    import torch

#: Weights go to ±63: without VNNI instructions, two products are added up in 16 bits, which
#: 2 · 255 · 64 just fits. So integer products are exact, and equal, on every processor.
_WEIGHT_LEVELS = 63
_INPUT_LEVELS = 127


def quantize(model: Any, name: str) -> None:
    """Replace the linear layers of a PyTorch model, in place.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU, in float32, for inference.
    name : str
        Of the encoder, for the message.

    Raises
    ------
    UsageError
        If it has none.
    """
    import torch

    layers = [
        (parent, place, child)
        for parent in model.modules()
        for place, child in parent.named_children()
        if type(child) is torch.nn.Linear  # others may do more than multiply
    ]
    if not layers:
        raise UsageError(
            f"embed: encoder {name} has no linear layers that int8 would speed up; "
            "use --precision float32"
        )
    for parent, place, child in layers:
        setattr(parent, place, _layer(child))


def _layer(layer: torch.nn.Linear) -> Any:
    """Return a module that computes x · W' + b as `layer` does, the product in integers."""
    import torch

    class IntegerLinear(torch.nn.Module):
        """The scale of a weight row takes its largest value to `_WEIGHT_LEVELS`."""

        weight: torch.Tensor  # integers, shape (outputs, inputs)

        def __init__(self) -> None:
            super().__init__()
            weight = layer.weight.detach()
            scale = weight.abs().amax(dim=1).clamp(min=1e-30) / _WEIGHT_LEVELS
            whole = (weight / scale[:, None]).round().to(torch.int8)
            self.register_buffer("weight", whole)
            bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()
            self._rest = scale.numpy(), (scale * whole.sum(dim=1)).numpy(), bias.numpy()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = x.reshape(-1, x.shape[-1]).contiguous().numpy()
            whole, of_rows = np.empty(flat.shape, np.int8), np.empty((len(flat), 2), np.float32)
            _round_rows(flat, whole, of_rows)
            product = torch._int_mm(torch.from_numpy(whole), self.weight.t()).numpy()
            out = np.empty(product.shape, np.float32)
            _scale_back(product, of_rows, *self._rest, out)
            return torch.from_numpy(out).reshape(*x.shape[:-1], -1)

    return IntegerLinear()


@compiled
def _in_order(bits: np.int32) -> np.int32:
    """Return the bits of a float32 so that integers are in its order, or the other way round."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@compiled
def _round_rows(
    x: npt.NDArray[np.float32], out: npt.NDArray[np.int8], of_rows: npt.NDArray[np.float32]
) -> None:
    """Write each row of x as integers q of -127 to 127, and (step, middle): x ≈ step · q + middle.

    Least and greatest are found among integers, many at a time; among floats the compiler would
    take one by one, for those that are no numbers. Here such a float comes out as one of both.
    """
    bits = x.view(np.int32)
    ends = of_rows.view(np.int32)
    for row in range(x.shape[0]):
        low = high = _in_order(bits[row, 0])
        for column in range(x.shape[1]):
            value = _in_order(bits[row, column])
            low, high = min(low, value), max(high, value)
        ends[row, 0], ends[row, 1] = _in_order(low), _in_order(high)
    for row in range(x.shape[0]):
        least, most = of_rows[row, 0], of_rows[row, 1]
        middle = np.float32(0.5) * (least + most)
        step = (most - middle) / np.float32(_INPUT_LEVELS)
        to = np.float32(1) / step if step > 0 else np.float32(0)
        for column in range(x.shape[1]):
            out[row, column] = np.int8(np.rint((x[row, column] - middle) * to))
        of_rows[row, 0], of_rows[row, 1] = step, middle


@compiled
def _scale_back(
    product: npt.NDArray[np.int32],
    of_rows: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Write x · W' + b: the step of x times that of W times the product, and x's middle times W."""
    for row in range(product.shape[0]):
        step, middle = of_rows[row, 0], of_rows[row, 1]
        for column in range(product.shape[1]):
            value = np.float32(product[row, column]) * (step * scale[column])
            out[row, column] = value + (middle * sums[column] + bias[column])
