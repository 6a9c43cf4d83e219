"""What the processor can do: decides the precision of encoders and trainers on a CPU."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

# names and values of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags (Linux; elsewhere empty)."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return frozenset()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0].partition(":")[2].split()) if lines else frozenset()


def cpu_has_bf16() -> bool:
    """Whether bfloat16 products run in hardware; without it they are slower than float32."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for reuse instead of handing each back to the kernel.

    Tensor programs on a CPU free and ask for the same tens of megabytes at every step; by default
    each round trip is paid in page faults (on virtual machines a third of the time of a training
    step). No effect, and no harm, where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 << 20)
