"""What this machine has: cores, GPUs, products in bfloat16. `auto` is answered from here.

Tests and trials say what is to be seen, whatever is there, by the variable `SFTDIV_DETECT`: any of
`bf16=0,cores=1,gpus=0`. It turns decisions, not hardware: bfloat16 where nothing multiplies it is
slow, and a GPU that is not there fails at its first use.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sft_diversity.core.errors import UsageError
from sft_diversity.core.folder import versions

# names and values of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
#: Variables that say how many threads a process may use; results depend on them slightly.
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
#: The variable that says what is seen here.
DETECT = "SFTDIV_DETECT"
# flags of processors that multiply bfloat16: two of x86, one of ARM
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}

# what options take
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


def cores() -> int:
    """Return the number of cores this process may use."""
    told = _told("cores")
    if told is not None:
        return told
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Have PyTorch compute with so many threads in here."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def gpus(count: Callable[[], int] | None = None) -> int:
    """Return the number of CUDA GPUs that `count` sees; by default PyTorch, loaded for it."""
    told = _told("gpus")
    return told if told is not None else (count or _gpus_of_torch)()


def cards() -> list[str]:
    """Return the names of the GPUs that this process sees, as `CUDA_VISIBLE_DEVICES` takes them.

    They are counted through NVML: CUDA is not touched, so that a process may be forked after.
    """
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    there = gpus(_gpus_by_nvml)
    return named[:there] if any(named) else [str(number) for number in range(there)]


def has_bf16(device: str = "cpu") -> bool:
    """Whether `device` multiplies bfloat16 in hardware; without it float32 is faster."""
    told = _told("bf16")
    if told is not None:
        return bool(told)
    if device == "cpu":
        return bool(flags_of(_cpuinfo()) & _BF16)
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def device_for(stage: str, wanted: Device = "auto") -> Literal["cpu", "cuda"]:
    """Return the device that is meant: `auto` is CUDA where there is a GPU.

    Raises
    ------
    UsageError
        If CUDA is asked for and not there; `stage` is named in the message.
    """
    if wanted == "cpu" or not gpus():
        if wanted == "cuda":
            raise UsageError(f"{stage}: device is `cuda` but PyTorch sees no GPU; use --device cpu")
        return "cpu"
    return "cuda"


def precision_for(wanted: Precision, device: str) -> Literal["float32", "bfloat16"]:
    """Return the precision that is meant: `auto` is bfloat16 where `device` multiplies it."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_bf16(device) else "float32"


def flags_of(cpuinfo: str) -> frozenset[str]:
    """Return the processor's feature flags, from Linux's description of it ("" elsewhere)."""
    lines = [line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0].partition(":")[2].split()) if lines else frozenset()


def cpu_flags() -> frozenset[str]:
    """Return the feature flags of the processor that is here, whatever is to be seen."""
    return flags_of(_cpuinfo())


@functools.cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return ""


def _gpus_of_torch() -> int:
    if importlib.util.find_spec("torch") is None or not _may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _may_have_gpu() -> bool:
    """Whether a driver is there; where none is, PyTorch need not be loaded, which takes seconds."""
    if "torch" in sys.modules or not sys.platform.startswith("linux") or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _gpus_by_nvml() -> int:
    asked = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.get(asked)
    os.environ[asked] = "1"
    try:
        return _gpus_of_torch()
    finally:
        if before is None:
            del os.environ[asked]
        else:
            os.environ[asked] = before


def _told(name: str) -> int | None:
    """Return what `SFTDIV_DETECT` says of one of its three, or None where it says nothing."""
    found: dict[str, int] = {}
    for item in filter(None, map(str.strip, os.environ.get(DETECT, "").split(","))):
        key, _, value = item.partition("=")
        number = int(value) if value.isascii() and value.isdigit() else -1
        if not {"bf16": 0 <= number <= 1, "cores": number >= 1, "gpus": number >= 0}.get(key):
            raise UsageError(
                f"machine: {DETECT} holds `{item}`; it takes bf16=0 or 1, cores=1 or more, "
                "gpus=0 or more, between commas; or unset it"
            )
        found[key] = number
    return found.get(name)


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


def memory_bytes() -> float:
    """Return the machine's memory; without end where it is not told."""
    if not hasattr(os, "sysconf"):
        return float("inf")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def measured_on() -> dict[str, object]:
    """Return what a benchmark's figures depend on: date, processor, cores, memory, versions."""
    lines = _cpuinfo().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": names[0] if names else platform.processor(),
        "cores": cores(),
        "bf16": has_bf16(),
        "memory_gb": round(memory_bytes() / 1e9),
        "versions": versions(),
    }
