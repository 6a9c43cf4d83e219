"""The model to score: where it lies, what identifies it, how it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sft_diversity.core import extras, machine, models, templates
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import ADAPTER, Finder, ModelFolder
from sft_diversity.endpoint.config import completions_url, is_url

#: Options that suites share.
Device = Annotated[machine.Device, Field(description="auto: CUDA where there is one")]
Precision = Annotated[
    machine.Precision,
    Field(description="auto: float32; bfloat16 on a GPU, of weights that are stored in 16 bits"),
]
TrustCode = Annotated[
    bool, Field(exclude=True, description="run code that a model repository brings")
]
ModelName = Annotated[
    str | None, Field(description="the model's name where MODEL is an endpoint's URL")
]
KeyEnv = Annotated[
    str | None,
    Field(exclude=True, description="environment variable that holds its key; none sends no key"),
]


class Answering(Config):
    """How prompts are answered: all that an answer depends on besides them and the model."""

    eval_dir: Path | None = Field(
        default=None,
        exclude=True,
        description="folder of the sets' files; default: data/eval here or in the checkout",
    )
    limit: int | None = Field(
        default=None, ge=1, description="take a seeded sample of this many prompts of each set"
    )
    max_new_tokens: int = Field(default=512, ge=1, description="most tokens of an answer")
    temperature: float = Field(default=0.0, ge=0, description="of the answers; 0 is greedy")
    top_p: float | None = Field(default=None, gt=0, le=1, description="of the answers' sampling")
    batch_size: int = Field(
        default=16, ge=1, description="prompts a batch, where the model runs here"
    )
    seed: int = Field(default=0, ge=0, description="of samples of prompts, sampling and bootstrap")
    device: Device = "auto"
    dtype: Precision = "auto"
    trust_remote_code: TrustCode = False


def _is_model(model: ModelFolder) -> None:
    """Refuse a folder without a model, or an adapter whose base is nowhere; fetch nothing."""
    if not any((model.path / name).is_file() for name in ("config.json", ADAPTER)):
        raise UsageError(
            f"{model.use} {model.path} holds no model (no config.json); name a model folder"
        )
    if model.base_name is not None:
        MODELS.at_hand(model.base_name)


#: Whole models, and adapters on one.
MODELS = Finder("score: model", _is_model)


def needed(model: Path | str | None, dry: bool) -> ModelFolder | None:
    """Return a model to score; where nothing is to be fetched (`dry`), None for what the Hub has.

    Raises
    ------
    UsageError
        If it is none; saying what it is instead.
    """
    if model is not None and is_url(model):
        raise UsageError(
            f"score: {model} is an endpoint, which gives no likelihoods of texts; name a model "
            "folder or a Hub id, or score its answers with --suite pairwise or harness"
        )
    extras.require("transformers", "score: a model of one's own")
    return MODELS.at_hand(model) if dry else MODELS.find(model)


def check_answering(name: str, model_name: str | None, option: str = "--model-name") -> None:
    """Refuse what can answer no prompt: neither a model, as `needed` does, nor an endpoint's URL.

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
        needed(name, dry=True)


def load_model(
    model: ModelFolder, device: str, dtype: str, trust_remote_code: bool
) -> tuple[Any, Any]:
    """Return (model in eval mode, tokenizer with a chat template)."""
    from sft_diversity.core.chat import ensure_template

    templates.bound()  # lm-eval renders by itself
    tokenizer = models.tokenizer_of(model, trust_remote_code)
    loaded: Any = models.load_causal_lm(model, dtype, trust_remote_code)
    models.check_ids(model, loaded, tokenizer)
    ensure_template(tokenizer)
    return loaded.to(device).eval(), tokenizer


def resolve(
    device: machine.Device, dtype: machine.Precision, model: ModelFolder | None
) -> tuple[str, str]:
    """Return the device and precision that are meant on this machine.

    On a CPU `auto` is float32 whatever it multiplies, so that scores of two machines compare. On a
    GPU weights in float32 stay so: a fine-tuned one differs from its base by about what rounding to
    bfloat16 takes away.
    """
    there = machine.device_for("score", device)
    if dtype == "auto" and (there == "cpu" or (model is not None and not model.in_16_bits())):
        return there, "float32"
    return there, machine.precision_for(dtype, there)
