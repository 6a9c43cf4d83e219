"""Which encoders are taken: the packaged one, a folder or a Hub id, with safetensors alone."""

from __future__ import annotations

import json
from pathlib import Path

from sft_diversity.core import models, resources
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import ModelFolder

PACKAGED = "packaged"
_PACKAGED_NAME = "all-MiniLM-L6-v2"
_USE = "embed: encoder"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def find_encoder(encoder: str, revision: str | None = None) -> ModelFolder:
    """Return an encoder's folder, fetched from the Hub if it is not here.

    Parameters
    ----------
    encoder : str
        `packaged`, a folder, or a Hub id.
    revision : str or None
        Branch, tag or commit on the Hub; None: its main branch.

    Raises
    ------
    UsageError
        If it is none of these, no sentence-transformers model, or has weights only pickled.
    DataError
        If the Hub does not give it.
    """
    return _packaged(encoder) or _sound(models.find(encoder, _USE, revision))


def look_for_encoder(encoder: str, revision: str | None = None) -> ModelFolder | None:
    """Return as `find_encoder` what is here, None for what the Hub has; fetch nothing."""
    found = _packaged(encoder) or models.at_hand(encoder, _USE, revision)
    return None if found is None else _sound(found)


def _packaged(encoder: str) -> ModelFolder | None:
    if encoder != PACKAGED:
        return None
    return ModelFolder(resources.packaged_encoder(), _PACKAGED_NAME, _USE)


def _sound(encoder: ModelFolder) -> ModelFolder:
    at = encoder.path
    if not (at / "modules.json").is_file():
        raise UsageError(f"{_USE} {at}: no modules.json; it must be a sentence-transformers model")
    if not any(file.suffix == ".safetensors" for file in encoder.files()):
        raise UsageError(f"{_USE} {at}: no safetensors; pickled weights are not loaded")
    for part in _module_folders(at):
        pickled = part.is_dir() and any(path.suffix in _PICKLES for path in part.iterdir())
        if pickled and not any(part.glob("*.safetensors")):
            raise UsageError(f"{_USE} {at}: {part.name} has only pickled weights; convert them")
    return encoder


def _module_folders(at: Path) -> list[Path]:
    """Return the folders that modules.json names; a path that leaves the model is refused."""
    try:
        modules = json.loads((at / "modules.json").read_text("utf-8"))
        parts = [at / str(module["path"]) for module in modules]
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{_USE} {at}: modules.json is not readable") from None
    root = at.absolute()
    if any(not part.absolute().is_relative_to(root) or ".." in part.parts for part in parts):
        raise UsageError(f"{_USE} {at}: modules.json names a path outside it")
    return parts
