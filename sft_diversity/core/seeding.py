"""Random streams derived from one seed, independent of one another."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def derive(seed: int, *names: str | int) -> int:
    """Return a 64-bit seed for the purpose `names`, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a PCG64 generator for the purpose `names`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))


def rows_drawn(n: int, size: int, seed: int, *names: str | int) -> npt.NDArray[np.int64]:
    """Return at most `size` of n rows, ascending, drawn without repeats for the purpose `names`."""
    if n <= size:
        return np.arange(n)
    return np.sort(generator(seed, *names).choice(n, size, replace=False)).astype(np.int64)
