"""Compiled loops: how they are compiled and kept, the arrays they take, and the exact cosine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core.caching import IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Ints: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = npt.NDArray[np.int64]
Kinds: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Points: TypeAlias = npt.NDArray[np.float32]

NO_ROWS: Rows = np.zeros(0, np.int64)


class MachineCode(IndexDataCacheFile):  # type: ignore[misc]
    """The file in which numba keeps a kernel's machine code.

    Its index names the classes of the tuples that a kernel takes: where one is no longer there, by
    that name or in that file, nothing is kept, as where the stamp is another.
    """

    def _load_index(self) -> dict[Any, str]:
        try:
            return dict(super()._load_index())
        except (ImportError, AttributeError):
            return {}


def compiled(function: Kernel) -> Kernel:
    """Compile `function` on its first call and keep the machine code between processes.

    Kernels take randomness as arrays or as a generator argument, never from numba's own global
    state, and use one thread: the same input gives the same output on any number of cores.

    Notes
    -----
    numba throws machine code away when the file of its function changes, but a kernel's code holds
    that of the kernels it calls, too. Those of other files stand in the globals of the module when
    a kernel is defined, so their stamps, which hold those of what they call, become part of its
    own. A constant or class of tuples that a kernel takes from another file is not seen: it must
    come with a kernel of that file. What is set here is numba's own, hence the upper bound in
    pyproject.toml.
    """
    kernel = numba.njit(cache=True, nogil=True)(function)
    called = {
        f"{one.py_func.__module__}.{one.py_func.__qualname__}": _kept(one)._source_stamp
        for one in function.__globals__.values()
        if isinstance(one, Dispatcher) and one.py_func.__module__ != function.__module__
    }
    stamp = (_kept(kernel)._source_stamp, sorted(called.items()))
    cache = kernel._cache
    cache._cache_file = MachineCode(cache.cache_path, cache._impl.filename_base, stamp)
    return cast(Kernel, kernel)


def _kept(kernel: Any) -> Any:
    return kernel._cache._cache_file


def frozen(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return `array` as a read-only plain array of `dtype`, copied only when it must be.

    Memory maps and ordinary arrays become one type, so that a kernel compiles once for both.
    """
    view = np.ascontiguousarray(np.asarray(array), dtype=dtype).view(np.ndarray)
    if view.flags.writeable:
        view = view[:]
        view.flags.writeable = False
    return view


@compiled
def cosine(one: Points, two: Points) -> float:
    """Return the product of two unit vectors, added up in float64 in one fixed order.

    So that it is the same on every machine, unlike a matrix product; four sums at a time, since
    one would wait for each addition.
    """
    a = b = c = d = 0.0
    whole = len(one) // 4 * 4
    for i in range(0, whole, 4):
        a += np.float64(one[i]) * np.float64(two[i])
        b += np.float64(one[i + 1]) * np.float64(two[i + 1])
        c += np.float64(one[i + 2]) * np.float64(two[i + 2])
        d += np.float64(one[i + 3]) * np.float64(two[i + 3])
    for i in range(whole, len(one)):
        a += np.float64(one[i]) * np.float64(two[i])
    return (a + b) + (c + d)


def slack(dimensions: int) -> float:
    """Return how far a float32 product of two unit vectors can be from the true one.

    d · 2⁻²⁴ bounds the error of a sum of d products in any order (Higham 2002, section 3.1); twice
    that leaves room for norms that are off by a rounding.
    """
    return 2.0 * dimensions * 2.0**-24
