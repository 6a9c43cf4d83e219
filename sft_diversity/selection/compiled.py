"""Compiling kernels and preparing arrays for them, in one place so that each compiles once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

NO_CAP = 1 << 62  # a cap no count reaches
NO_ROWS: Rows = np.zeros(0, np.int64)


def compiled(function: Kernel) -> Kernel:
    """Compile `function` on its first call and keep the machine code between processes.

    Kernels take randomness as arrays or as a generator argument, never from numba's own global
    state, and use one thread: the same input gives the same output on any number of cores.
    """
    return cast(Kernel, numba.njit(cache=True, nogil=True)(function))


def frozen(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return `array` as a read-only plain array of `dtype`, copied only when it must be.

    Memory maps and ordinary arrays become one type, so that a kernel compiles once for both.
    """
    view = np.ascontiguousarray(np.asarray(array), dtype=dtype).view(np.ndarray)
    if view.flags.writeable:
        view = view[:]
        view.flags.writeable = False
    return view
