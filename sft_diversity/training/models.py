"""The model to be trained: found, keyed by its contents, loaded from safetensors alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft_diversity.core import folder, resources
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.loading import LOADING
from sft_diversity.core.models import has_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True)
class Base:
    """A model folder: `name` for people, `key` for its contents, sizes from its config."""

    path: Path
    name: str
    key: str
    width: int
    context: int

    def parameters(self) -> int:
        """Count the weights from the headers of the safetensors files."""
        from safetensors import safe_open

        total = 0
        for file in sorted(self.path.glob("*.safetensors")):
            with safe_open(file, framework="np") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
            total += sum(math.prod(shape) for shape in shapes)
        return total


def find_base(model: str | None, revision: str | None = None) -> Base:
    """Find a model folder or fetch a Hub model; None is the offline base model.

    Raises
    ------
    UsageError
        If it is neither a folder with a config nor a Hub id that can be fetched.
    """
    path = resources.tiny_base() if model is None else Path(model)
    if path.is_dir():
        name, key = path.resolve().name, _folder_key(path)
    else:
        path = _fetch(str(model), revision)
        name, key = str(model), f"hub:{model}@{path.name}"
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise UsageError(f"finetune: {path} has no readable config.json: {fault}") from None
    if not any(path.glob("*.safetensors")):
        raise UsageError(
            f"finetune: {path} has no weights as safetensors, and pickled ones are not loaded; "
            "convert them, or name another --model"
        )
    if not has_tokenizer(path):
        raise UsageError(f"finetune: {path} has no tokenizer; put the model's own there")
    text = config.get("text_config", config)
    return Base(
        path=path,
        name=name,
        key=key,
        width=int(text.get("hidden_size", text.get("n_embd", 4096))),
        context=int(text.get("max_position_embeddings", text.get("n_positions", 1 << 30))),
    )


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """Load the tokenizer; padding is on the right, as training needs it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path, trust_remote_code=False)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding never has a label
    return tokenizer


def load_base(base: Base, seed: int) -> PreTrainedModel:
    """Load the weights in float32: the optimizer's small updates would be lost in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    try:
        with LOADING:
            model = AutoModelForCausalLM.from_pretrained(
                base.path, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
    except (OSError, ValueError) as fault:
        reason = " ".join(str(fault).split())[:300]
        raise DataError(f"finetune: cannot load {base.name}: {reason}") from None
    return model


def _folder_key(path: Path) -> str:
    manifest = folder.stage_of(path)
    if manifest == "finetune":
        return folder.contents_key(folder.read_manifest(path))
    names = sorted({file for pattern in _FILES for file in path.glob(pattern)})
    kept = [file for file in names if file.name != folder.MANIFEST]
    return content_key([[file.name, file_key(file)] for file in kept])


def _fetch(model: str, revision: str | None) -> Path:
    """Download a Hub model (or find it in the cache); the folder is named by its commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as fault:
        reason = " ".join(str(fault).split())[:200]
        raise UsageError(
            f"finetune: {model} is no folder and cannot be fetched from the Hub: {reason}"
        ) from None
