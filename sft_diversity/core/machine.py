"""What the processor can do: decides the precision of encoders and trainers on a CPU."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import time
from pathlib import Path

from sft_diversity.core.folder import versions

# names and values of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
#: Variables that say how many threads a process may use; results depend on them slightly.
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip


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


def facts() -> dict[str, object]:
    """Return what a benchmark's figures depend on: date, processor, cores, memory, versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": names[0] if names else platform.processor(),
        "cores": cores(),
        "bf16": cpu_has_bf16(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "versions": versions(),
    }
