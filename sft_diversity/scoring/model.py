"""The model to score: where it lies, what identifies it, how it is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sft_diversity.core import machine
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.loading import LOADING
from sft_diversity.core.models import check_on_hub, looks_local
from sft_diversity.endpoint.config import completions_url, is_url

#: Options that suites share.
Device = Annotated[machine.Device, Field(description="auto: CUDA where there is one")]
Precision = Annotated[
    machine.Precision,
    Field(description="auto: float32 on CPU, bfloat16 on a GPU that multiplies it"),
]
ModelName = Annotated[
    str | None, Field(description="the model's name where MODEL is an endpoint's URL")
]
KeyEnv = Annotated[
    str | None,
    Field(exclude=True, description="environment variable that holds its key; none sends no key"),
]

_PARTS = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
_ADAPTER = "adapter_config.json"
_BESIDES = {"manifest.json", "work.json", "trainer_state.json"}


@dataclass(frozen=True)
class Source:
    """A model on disk; `key` identifies its weights, tokenizer and template."""

    path: Path
    key: str
    name: str


def find(model: Path | str) -> Source:
    """Return where a model lies: a folder, the output of `finetune`, or a Hub id (`name@revision`).

    Raises
    ------
    UsageError
        If there is no such folder and it is no Hub id, or the folder holds no model.
    DataError
        If the Hub does not give it.
    """
    check(model)
    path = Path(model)
    if not path.is_dir():
        return _from_hub(str(model))
    key = _folder_key(path)
    base = _adapted(path)
    if base is not None:
        key = content_key([key, find(base).key])
    return Source(path, key, path.resolve().name)


def key_of(model: Path | str, dry: bool = False) -> str | None:
    """Return the key of a model; None where it is still to be fetched and nothing is (`dry`)."""
    check(model)
    return None if dry and not Path(model).is_dir() else find(model).key


def check(model: Path | str) -> None:
    """Refuse a name that is no model here, nor in the Hub's cache or on the Hub; fetch nothing.

    Raises
    ------
    UsageError
        Saying what it is instead.
    """
    path, text = Path(model), str(model)
    if is_url(model):
        raise UsageError(
            f"score: {text} is an endpoint, which gives no likelihoods of texts; name a model "
            "folder or a Hub id, or score its answers with --suite pairwise or harness"
        )
    if path.is_dir():
        if not any((path / name).is_file() for name in ("config.json", _ADAPTER)):
            raise UsageError(f"score: {path} holds no model (no config.json); name a model folder")
        base = _adapted(path)
        if base is not None:
            check(base)
    elif looks_local(text):
        raise UsageError(f"score: {text} is no folder; name a model folder or a Hub id")
    else:
        repository, _, revision = text.partition("@")
        check_on_hub(repository, revision or None, "score: model")


def check_answering(name: str, model_name: str | None, option: str = "--model-name") -> None:
    """Refuse what can answer no prompt: neither a model, as `check` does, nor an endpoint's URL.

    Parameters
    ----------
    model_name : str, optional
        The model's name at an endpoint, which must have one; `option` gives it.
    """
    if is_url(name):
        completions_url(name, "score")
        if model_name is None:
            raise UsageError(f"score: {name} is an endpoint; name its model with {option}")
    elif model_name is not None:
        raise UsageError(f"score: {option} is for an endpoint; {name} is no URL")
    else:
        check(name)


def _adapted(path: Path) -> str | None:
    """Return the base model that a folder's adapter sits on, or None for a whole model."""
    if (path / "config.json").is_file():
        return None
    try:
        base = json.loads((path / _ADAPTER).read_text("utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"score: {path / _ADAPTER} names no base model; mend or merge it") from None
    return str(base)


def load(source: Source, device: str, dtype: str, trust_remote_code: bool) -> tuple[Any, Any]:
    """Return (model in eval mode, tokenizer with a chat template)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sft_diversity.core.chat import ensure_template

    talk: Any = import_module("transformers.utils.logging")  # untyped
    shown = talk.is_progress_bar_enabled()
    talk.disable_progress_bar()  # ours is enough
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, trust_remote_code=trust_remote_code)
        with LOADING:
            model: Any = AutoModelForCausalLM.from_pretrained(
                source.path,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
            )
    except (OSError, ValueError, ImportError) as fault:
        raise DataError(
            f"score: {source.name} does not load: {' '.join(str(fault).split())[:300]}"
        ) from None
    finally:
        if shown:
            talk.enable_progress_bar()
    ensure_template(tokenizer)
    return model.to(device).eval(), tokenizer


def resolve(device: machine.Device, dtype: machine.Precision) -> tuple[str, str]:
    """Return the device and precision that are meant on this machine.

    On a CPU `auto` is float32 whatever it multiplies, so that scores of two machines compare.
    """
    there = machine.device_for("score", device)
    if there == "cpu" and dtype == "auto":
        return there, "float32"
    return there, machine.precision_for(dtype, there)


def context(path: Path) -> int | None:
    """Return how many tokens the model's positions hold, as its config says."""
    from transformers import AutoConfig

    base = _adapted(path)
    if base is not None:
        path = find(base).path
    config = AutoConfig.from_pretrained(path).get_text_config()
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _folder_key(folder: Path) -> str:
    files = sorted({path for pattern in _PARTS for path in folder.glob(pattern)})
    return content_key([[path.name, file_key(path)] for path in files if path.name not in _BESIDES])


def _from_hub(name: str) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        folder = Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=list(_PARTS))
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as fault:
        raise DataError(
            f"score: {repository} is no folder here and the Hub did not give it "
            f"({type(fault).__name__}); check the name, the login and the network"
        ) from None
    return Source(folder, content_key([repository, folder.name]), name)
