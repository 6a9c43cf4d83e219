"""How loops are compiled, and the arrays they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Hashes: TypeAlias = npt.NDArray[np.uint64]
Bounds: TypeAlias = npt.NDArray[np.int64]
Ints: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float64]


def compiled(function: Kernel) -> Kernel:
    """Compile `function` on its first call and keep the machine code between processes."""
    return cast(Kernel, numba.njit(cache=True, nogil=True)(function))
