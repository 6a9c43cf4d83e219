"""Which encoders are taken: sentence-transformers models with safetensors alone."""

from __future__ import annotations

import json
from pathlib import Path

from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import Finder, ModelFolder

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def _is_encoder(encoder: ModelFolder) -> None:
    at, said = encoder.path, f"{encoder.use} {encoder.path}"
    if not (at / "modules.json").is_file():
        raise UsageError(f"{said}: no modules.json; it must be a sentence-transformers model")
    if not any(file.suffix == ".safetensors" for file in encoder.files()):
        raise UsageError(f"{said}: no safetensors; pickled weights are not loaded")
    for part in _module_folders(at, said):
        pickled = part.is_dir() and any(path.suffix in _PICKLES for path in part.iterdir())
        if pickled and not any(part.glob("*.safetensors")):
            raise UsageError(f"{said}: {part.name} has only pickled weights; convert them")


ENCODERS = Finder("embed: encoder", _is_encoder)


def _module_folders(at: Path, said: str) -> list[Path]:
    """Return the folders that modules.json names; a path that leaves the model is refused."""
    try:
        modules = json.loads((at / "modules.json").read_text("utf-8"))
        parts = [at / str(module["path"]) for module in modules]
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{said}: modules.json is not readable") from None
    root = at.absolute()
    if any(not part.absolute().is_relative_to(root) or ".." in part.parts for part in parts):
        raise UsageError(f"{said}: modules.json names a path outside it")
    return parts
