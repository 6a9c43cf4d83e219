"""Compiling a kernel for the first time may take seconds: no deadline per example here."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("kernels", deadline=None, max_examples=100)
settings.load_profile("kernels")
