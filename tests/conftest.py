"""Settings every test needs: no network, no GPU, few threads, quiet libraries."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # whatever the shell says: sums depend on it slightly
if "gpus=" not in os.environ.get("SFTDIV_DETECT", ""):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests are about CPUs, unless the shell speaks of GPUs
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # no test is about its own speed
settings.load_profile("shared machine")
