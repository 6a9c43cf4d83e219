"""Packages that not every install has, and the extra that brings each."""

from __future__ import annotations

import importlib.util

from sft_diversity.core.errors import UsageError

#: Module: its package, and the extra that brings it.
EXTRAS = {
    "faiss": ("FAISS", "cpu"),
    "umap": ("umap-learn", "hdbscan"),
    "fast_hdbscan": ("fast-hdbscan", "hdbscan"),
    "openvino": ("openvino", "openvino"),
    "bitsandbytes": ("bitsandbytes", "8bit"),
    "gguf": ("gguf", "gguf"),
    "tensorboard": ("tensorboard", "reporters"),
    "trackio": ("trackio", "reporters"),
    "wandb": ("wandb", "reporters"),
    "lm_eval": ("lm-eval", "harness"),
    "openai": ("openai", "llm"),
    "mcp": ("mcp", "mcp"),
}


def has(module: str) -> bool:
    """Whether the module can be imported; it is looked for, not imported."""
    return importlib.util.find_spec(module) is not None


def require(module: str, use: str, otherwise: str = "") -> None:
    """Refuse a use whose package is not installed, before any work is done.

    Parameters
    ----------
    module : str
        A key of `EXTRAS`.
    use : str
        Stage and what needs the module: `embed: backend openvino`.
    otherwise : str
        The other way out: `use backend torch`.

    Raises
    ------
    UsageError
        Naming the extra that brings it.
    """
    if not has(module):
        package, extra = EXTRAS[module]
        other = f", or {otherwise}" if otherwise else ""
        raise UsageError(
            f"{use} needs {package}, which is not installed; "
            f"pip install 'sft-diversity[{extra}]'{other}"
        )
