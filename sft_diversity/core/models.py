"""Models and encoders by name: found here or on the Hub, keyed by contents, loaded one at a time.

Weights are safetensors alone: pickled ones are neither fetched, nor keyed, nor loaded.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_diversity.core import folder, gguf, hub, resources
from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.core.hashing import content_key, file_key

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: The name of the encoder that comes in a package.
PACKAGED = "packaged"
#: What an adapter says of itself.
ADAPTER = "adapter_config.json"
#: The files of a model that are fetched and that its key stands for.
FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
#: Files among them that others put beside a model, and folders of its exports.
_BESIDES = {folder.MANIFEST, "work.json", "training.json", "trainer_state.json"}
_EXPORTS = ("onnx", "openvino", "coreml")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")

#: A tokenizer is in one of these; `vocab.json` comes with `merges.txt`.
_TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Attributes
    ----------
    path : Path
    name : str
        For people and manifests: the folder's own name or the Hub id, never a path.
    use : str
        Stage and what the model is for, as errors begin: `score: model`.
    commit : str or None
        The Hub's commit, where it came from there.
    """

    path: Path
    name: str
    use: str
    commit: str | None = None

    @cached_property
    def key(self) -> str:
        """32 hex digits of the contents, an adapter's with those of its base.

        Equal wherever the files lie and whatever they are called there. Each file is read once in a
        process, and not at all where the Hub's cache or our own manifest says its hash.
        """
        listed = _listed(self.path)
        files = {file.relative_to(self.path).as_posix(): file for file in self.files()}
        key = content_key([[name, listed.get(name) or _hash(at)] for name, at in files.items()])
        base = self.base
        return key if base is None else content_key([key, base.key])

    def files(self) -> list[Path]:
        """Return the files that the key stands for, those of its modules where it is an encoder."""
        deep = (self.path / "modules.json").is_file()
        found = {
            file
            for pattern in FILES
            for file in (self.path.rglob(pattern) if deep else self.path.glob(pattern))
            if file.is_file() and file.relative_to(self.path).parts[0] not in _EXPORTS
        }
        return sorted(file for file in found if file.name not in _BESIDES)

    @property
    def base(self) -> ModelFolder | None:
        """The model that an adapter sits on; None where this is a whole one."""
        name = self.base_name
        return None if name is None else Finder(self.use).find(name)

    @property
    def base_name(self) -> str | None:
        """How an adapter names its base.

        Raises
        ------
        DataError
            If it names none.
        """
        if (self.path / "config.json").is_file() or not (self.path / ADAPTER).is_file():
            return None
        try:
            adapter = json.loads((self.path / ADAPTER).read_text("utf-8"))
            return str(adapter["base_model_name_or_path"])
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                f"{self.use} {self.path / ADAPTER} names no base model; mend or merge it"
            ) from None

    @cached_property
    def config(self) -> Any:
        """What transformers makes of `config.json` (of the base's, for an adapter), texts alone.

        Raises
        ------
        UsageError
            If it cannot be read.
        """
        from transformers import AutoConfig, PreTrainedConfig

        base = self.base
        if base is not None:
            return base.config
        try:
            try:
                found: Any = AutoConfig.from_pretrained(self.path, trust_remote_code=False)
            except (ValueError, KeyError):  # of a kind that only the model's own code knows
                found = PreTrainedConfig.from_pretrained(self.path)
            return found.get_text_config()
        except Exception as fault:  # of a broken one, whatever Python makes of its values
            raise UsageError(
                f"{self.use} {self.path} has no readable config.json: {hub.one_line(fault, 200)}"
            ) from None

    @property
    def context(self) -> int | None:
        """How many tokens its positions hold; None where its config does not say."""
        most = getattr(self.config, "max_position_embeddings", None)
        return most if isinstance(most, int) and most > 0 else None

    def parameters(self) -> int:
        """Count the weights from the safetensors files' headers; an adapter's are its base's."""
        return sum(math.prod(shape) for shape in (self.base or self).shapes().values())

    def matrices(self) -> list[tuple[int, int]]:
        """Return the shapes of the linear layers, those at the vocabulary aside."""
        ends = ("embed_tokens.weight", "wte.weight", "wpe.weight", "lm_head.weight")
        every = (self.base or self).shapes().items()
        shapes = {name: shape for name, shape in every if not name.endswith(ends)}
        return [(shape[0], shape[1]) for shape in shapes.values() if len(shape) == 2]

    def shapes(self) -> dict[str, list[int]]:
        """Return the shape of each tensor from the headers of the safetensors files.

        Raises
        ------
        DataError
            If one of them is damaged.
        """
        return {name: list(tensor.get_shape()) for name, tensor in self._tensors()}

    def in_16_bits(self) -> bool:
        """Whether every weight is stored in 16 bits or fewer, so that bfloat16 loses little."""
        return all(tensor.get_dtype() not in ("F32", "F64") for _, tensor in self._tensors())

    def _tensors(self) -> Iterator[tuple[str, Any]]:
        """Yield the names of the weights, with what their headers say of them."""
        from safetensors import SafetensorError, safe_open

        for file in sorted(self.path.glob("*.safetensors")):
            try:
                with safe_open(file, framework="np") as tensors:
                    for name in tensors.keys():  # noqa: SIM118
                        yield name, tensors.get_slice(name)
            except (SafetensorError, OSError) as fault:
                why = hub.one_line(fault)
                raise DataError(
                    f"{self.use} {self.name} does not load: {file.name}: {why}"
                ) from None


def takes_all(model: ModelFolder) -> None:
    """Refuse no model."""


@dataclass(frozen=True)
class Finder:
    """Finds models for one use; what it says of them begins with it.

    Attributes
    ----------
    use : str
        See `ModelFolder`.
    check : callable
        Raises UsageError or DataError for a folder that lacks what the use needs.
    """

    use: str
    check: Callable[[ModelFolder], None] = takes_all

    def find(self, name: str | Path | None, revision: str | None = None) -> ModelFolder:
        """Return where a model lies, fetched from the Hub if it is not here.

        Parameters
        ----------
        name : path or str or None
            A folder, a GGUF file, an offline base model of the repository (`tiny-base-20m`), or a
            Hub id, which may say its revision (`NAME@REVISION`); None is `tiny-base`, `packaged`
            the encoder that comes in a package.
        revision : str, optional
            Branch, tag or commit on the Hub; default: its main branch.

        Raises
        ------
        UsageError
            If it can be none of these, or `check` refuses it.
        DataError
            If the Hub does not give it.
        """
        found = _here(name, self.use)
        if found is None and gguf.is_file(name):
            file = ModelFolder(Path(str(name)), Path(str(name)).stem, self.use)
            with loading(file):
                found = replace(file, path=gguf.unpack(file.path, self.use))
        if found is None:
            try:
                path = _snapshot(str(name), revision)
            except Exception as fault:  # hub clients raise dozens of kinds
                raise DataError(
                    f"{self.use} `{name}` is no folder here and the Hub does not give it: "
                    f"{hub.reason(fault)}"
                ) from None
            found = ModelFolder(path, str(name), self.use, commit=path.name)
        self.check(found)
        return found

    def at_hand(self, name: str | Path | None, revision: str | None = None) -> ModelFolder | None:
        """Return as `find` what is here, and None for what is to be fetched; fetch nothing.

        Raises
        ------
        UsageError
            Also if the Hub does not know it, or cannot be asked.
        """
        found = _here(name, self.use)
        if found is None and gguf.is_file(name):
            path = gguf.unpacked(str(name))
            if path is None:
                return None
            found = ModelFolder(path, Path(str(name)).stem, self.use)
        if found is None:
            path = check_on_hub(str(name), self.use, revision)
            if path is None or not any(path.rglob("*.safetensors")):  # its tokenizer alone
                return None
            found = ModelFolder(path, str(name), self.use, commit=path.name)
        self.check(found)
        return found


def is_hub_id(name: str) -> bool:
    """Whether a name can be a Hub id; else it can only mean a place here."""
    return _HUB_ID.fullmatch(name) is not None


def check_on_hub(name: str, use: str, revision: str | None = None) -> Path | None:
    """Return what the Hub's cache has of an id, or None where the Hub knows it; fetch nothing.

    Raises
    ------
    UsageError
        Also where the Hub cannot be asked (offline, no network).
    """
    from huggingface_hub import HfApi

    repository, _, given = name.partition("@")
    with contextlib.suppress(Exception):  # all of many kinds mean: not here
        return _snapshot(name, revision, fetch=False)
    with hub.talking():
        try:
            HfApi().model_info(repository, revision=revision or given or None)
        except Exception as fault:
            raise UsageError(
                f"{use} `{name}` is no folder or file here, not in the Hub's cache, and the Hub "
                f"does not give it: {hub.reason(fault)}"
            ) from None
    return None


def fetch_tokenizer(name: str, use: str) -> Path:
    """Return a folder with the tokenizer and the settings of a Hub id, without its weights.

    Raises
    ------
    UsageError
        If the Hub does not give it.
    """
    try:
        return _snapshot(name, None, skip=("*.safetensors",))
    except Exception as fault:  # hub clients raise dozens of kinds
        raise UsageError(
            f"{use} `{name}` is no folder or file here and the Hub does not give it: "
            f"{hub.reason(fault)}"
        ) from None


def has_tokenizer(place: Path) -> bool:
    """Whether a model folder has the files of a tokenizer."""
    return any((place / name).is_file() for name in _TOKENIZERS)


def load_causal_lm(
    model: ModelFolder, dtype: str, trust_remote_code: bool = False, **options: Any
) -> PreTrainedModel:
    """Return a language model with its weights in a precision, on the CPU.

    `options` are further ones of `from_pretrained`.

    Raises
    ------
    DataError
        If it does not load, or a weight is missing, which transformers would draw at random.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with loading(model):
        _check_layers(model)
        result: Any = AutoModelForCausalLM.from_pretrained(
            model.path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            **options,
            output_loading_info=True,
        )
        loaded: PreTrainedModel = result[0]
        missing = sorted(result[1]["missing_keys"])
        if missing:
            more = f" and {len(missing) - 1:,} more" if missing[1:] else ""
            raise ValueError(f"its files hold no weights for {missing[0]}{more}")
    return loaded


def _check_layers(model: ModelFolder) -> None:
    """Refuse a config that names more layers than there are weights: it would take all memory."""
    base = model.base or model
    layers, weights = getattr(base.config, "num_hidden_layers", 0), len(base.shapes())
    if weights and isinstance(layers, int) and layers > weights:
        raise ValueError(f"config.json names {layers:,} layers, the files hold {weights:,} weights")


def tokenizer_of(model: ModelFolder, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return a model's tokenizer.

    Raises
    ------
    DataError
        If it does not load, or its settings are of a type that no tokenizer works with.
    """
    from transformers import AutoTokenizer

    with loading(model, "tokenizer"):
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model.path, trust_remote_code=trust_remote_code
        )
        check_settings(found)
    return found


def check_settings(tokenizer: Any) -> None:
    """Raise TypeError or ValueError for what transformers takes unseen and fails at when used."""
    if not isinstance(tokenizer.model_max_length, int | float):
        raise TypeError(f"model_max_length is {tokenizer.model_max_length!r}, which is no number")
    if not isinstance(tokenizer.chat_template, str | dict | None):
        raise TypeError("its chat template is no text")
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= 1 << 31:
        raise ValueError(f"it has an id of {highest:,}, which no vocabulary reaches")


def check_ids(model: ModelFolder, loaded: PreTrainedModel, tokenizer: Any) -> None:
    """Refuse a tokenizer whose ids reach beyond the rows of a model's embeddings.

    Raises
    ------
    DataError
    """
    weight: Any = loaded.get_input_embeddings().weight
    rows = getattr(weight, "ds_shape", weight.shape)[0]  # of shards, DeepSpeed's own attribute
    highest = len(tokenizer) - 1
    if highest >= rows:
        raise DataError(
            f"{model.use} {model.name}: its tokenizer has ids up to {highest:,}, but the weights "
            f"have {rows:,} embeddings; the two belong to different models, or a token was added"
        )


#: transformers switches weight tying off for the whole process while it loads a model, and back on
#: to what it found. Two loads that overlap in threads can leave it off: every later model that ties
#: its head to its embeddings then has a head of uninitialised memory.
_LOADING = threading.RLock()


@contextlib.contextmanager
def loading(model: ModelFolder, what: str = "") -> Iterator[None]:
    """Load one model, or `what` of it, at a time in this process, without bars and warnings.

    Raises
    ------
    DataError
        If it does not load; the library's reason is in the line.
    """
    with _LOADING, without_bars(), _without_warnings():
        try:
            yield
        except SftdivError:
            raise
        except DataError:
            raise
        except Exception as fault:  # torch, transformers and safetensors have kinds of their own
            name = f"{what} of {model.name}" if what else model.name
            reason = hub.one_line(fault)
            raise DataError(f"{model.use} {name} does not load: {reason}") from fault


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Hide transformers' bars for loading and saving: they would break ours."""
    from transformers.utils import logging

    bars: Any = logging  # its functions have no annotations
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide transformers' warnings: what they warn of here is an error of ours, or nothing."""
    from transformers.utils import logging

    told: Any = logging
    level = told.get_verbosity()
    told.set_verbosity_error()
    try:
        yield
    finally:
        told.set_verbosity(level)


def _here(name: str | Path | None, use: str) -> ModelFolder | None:
    if name == PACKAGED:
        return ModelFolder(resources.packaged_encoder(), "all-MiniLM-L6-v2", use)
    if name is None:
        return ModelFolder(place := resources.base_model(), place.name, use)
    path = Path(resources.of_repository(str(name))).expanduser()
    if path.is_dir():
        return ModelFolder(path, path.resolve().name, use)
    if not gguf.is_file(name) and (path.suffix == ".gguf" or not is_hub_id(str(name))):
        raise UsageError(f"{use} `{name}`: no such folder; name a folder, a GGUF file or a Hub id")
    return None


def _snapshot(
    name: str, revision: str | None, *, fetch: bool = True, skip: tuple[str, ...] = ()
) -> Path:
    """Return the folder of a Hub model's files; it is named by the commit."""
    from huggingface_hub import snapshot_download

    repository, _, given = name.partition("@")
    with hub.talking():
        found = snapshot_download(
            repository,
            revision=revision or given or None,
            allow_patterns=list(FILES),
            ignore_patterns=[*(f"{export}/*" for export in _EXPORTS), *skip],
            local_files_only=not fetch,
        )
    return Path(found)


def _listed(place: Path) -> dict[str, str]:
    """Return the hashes that our manifest has of files that are no younger than it."""
    if folder.stage_of(place) is None:
        return {}
    written = (place / folder.MANIFEST).stat().st_mtime_ns
    found = {}
    for entry in folder.read_manifest(place).get("files", ()):
        with contextlib.suppress(OSError):
            now = (place / entry["path"]).stat()
            if now.st_size == entry["bytes"] and now.st_mtime_ns <= written:
                found[entry["path"]] = entry["sha256"]
    return found


def _hash(file: Path) -> str:
    """Return the SHA-256 of a file; the Hub's cache names large files by it."""
    blob = Path(os.path.realpath(file))
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        return blob.name
    return file_key(file)
