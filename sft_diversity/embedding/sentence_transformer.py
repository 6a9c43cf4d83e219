"""Any sentence-transformers model, run through its own module pipeline with our batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import models
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import ModelFolder
from sft_diversity.embedding import int8
from sft_diversity.embedding.base import Tokens

if TYPE_CHECKING:
    from torch import Tensor

#: Characters read per token of the encoder's limit; only floods of white space need more.
_CHARS_PER_TOKEN = 64


class SentenceTransformerEncoder:
    """A sentence-transformers model on one device.

    Parameters
    ----------
    encoder : ModelFolder
        Its weights must be safetensors.
    device : str
        `cpu` or `cuda:0`.
    precision : str
        `float32` or `bfloat16`, of the weights; `int8`: see `int8.quantize`.
    prompt_name : str or None
        Which of the model's own prompts goes before every text; None: none.
    model : SentenceTransformer, optional
        The encoder, where it is loaded already.
    """

    def __init__(
        self,
        encoder: ModelFolder,
        device: str,
        precision: str,
        prompt_name: str | None,
        model: Any = None,
    ) -> None:
        self._model = _load(encoder, device, precision) if model is None else model
        self._device = device
        self._tokenizer = self._model.tokenizer
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UsageError(
                f"embed: encoder {encoder.name} has no fast tokenizer; "
                "name one that has (--encoder)"
            )
        with models.loading(encoder):  # of a broken one these are no numbers
            most = self._tokenizer.model_max_length
            self.max_tokens = int(min(self._model.max_seq_length or most, most, 32_768))
            self.dim = int(self._model.get_embedding_dimension())
        backend.enable_truncation(self.max_tokens)
        backend.no_padding()
        self._backend = backend
        self._pad = int(self._tokenizer.pad_token_id or 0)
        self._left = self._tokenizer.padding_side == "left"
        self._types = "token_type_ids" in self._tokenizer.model_input_names
        self._prompt = _prompt(self._model, prompt_name)
        self._prompt_tokens = self._prompt_length()
        self._threads = threading.local()
        self.flat = _flattens(self._model)
        self._four = device != "cpu" and not self.flat and _takes_whole_masks(self._model)

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], npt.NDArray[np.bool_]]:
        """Return the token ids of each text, cut to `max_tokens`, and which were cut."""
        reach = _CHARS_PER_TOKEN * self.max_tokens
        heads = [self._prompt + text[:reach] for text in texts]
        encodings = self._backend.encode_batch_fast(heads)
        cut = [bool(e.overflowing) or len(t) > reach for e, t in zip(encodings, texts, strict=True)]
        return [e.ids for e in encodings], np.array(cut, dtype=np.bool_)

    def forward(self, tokens: Tokens, width: int, rows: int) -> npt.NDArray[np.float32] | Tensor:
        """Return the vectors of at most `rows` texts, computed in the shape (rows, width).

        On a GPU nothing is waited for. In one row (`flat`) the texts follow each other.
        """
        import torch

        if self._device == "cpu" and not hasattr(self._threads, "single"):
            torch.set_num_threads(1)  # a core a worker: no barriers, and no effect of their number
            self._threads.single = True
        with torch.inference_mode():
            features = (self._flat_features if self.flat else self._features)(tokens, width, rows)
            vectors: Tensor = self._computed(features)["sentence_embedding"]
            return vectors[: len(tokens.lengths)].float()

    def _computed(self, features: dict[str, Any]) -> Any:
        """Return what the modules make of a batch.

        Given a mask of two dimensions, transformers looks whether it masks anything: a GPU would be
        waited for, and full batches go through another kernel. One of four is taken as it is.
        """
        if not self._four:
            return self._model(features)
        first, *others = self._model
        mask = features["attention_mask"]
        made = first(features | {"attention_mask": mask[:, None, None].bool()})
        made["attention_mask"] = mask
        for module in others:
            made = module(made)
        return made

    def _features(self, tokens: Tokens, width: int, rows: int) -> dict[str, Any]:
        ids, mask = padded(tokens, width, rows, self._pad, self._left)
        return self._with_rest(
            {"input_ids": self._there(ids).long(), "attention_mask": self._there(mask).long()}
        )

    def _flat_features(self, tokens: Tokens, width: int, rows: int) -> dict[str, Any]:
        """Return flattened inputs as sentence-transformers has them: texts and dummies in a row."""
        ids, lengths = filled(tokens, width * rows, self._pad, self.max_tokens)
        ends = np.cumsum(lengths)
        borders = self._there(np.concatenate([[0], ends]).astype(np.int32))
        text = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        positions = np.arange(len(ids), dtype=np.int32) - np.repeat(ends - lengths, lengths)
        positions += int(getattr(self._model[0], "_flatten_position_offset", 0))
        features: dict[str, Any] = {
            "input_ids": self._there(ids)[None].long(),
            "position_ids": self._there(positions.astype(np.int32))[None].long(),
            "seq_idx": self._there(text)[None],
        }
        for side in "qk":  # the longest that any batch may hold: kernels do not depend on texts
            features |= {f"cu_seq_lens_{side}": borders, f"max_length_{side}": self.max_tokens}
        return self._with_rest(features)

    def _there(self, array: npt.NDArray[Any]) -> Tensor:
        """Return an array on the device; a GPU copies it while other work goes on."""
        import torch

        tensor = torch.from_numpy(array)
        if self._device == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _with_rest(self, features: dict[str, Any]) -> dict[str, Any]:
        import torch

        if self._types:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        if self._prompt_tokens:
            features["prompt_length"] = self._prompt_tokens
        return features

    def _prompt_length(self) -> int:
        """Return how many leading tokens are the prompt: poolings may leave it out."""
        if not self._prompt:
            return 0
        ids = self._backend.encode(self._prompt).ids
        return len(ids) - int(bool(ids) and ids[-1] in self._tokenizer.all_special_ids)


class LibraryEncoder:
    """A model that the library's own `encode` runs, as it has no fast tokenizer of transformers.

    Static embeddings are such (`StaticEmbedding`, model2vec's): a table of vectors, whose mean a
    text has. They read whole texts, so none is cut.
    """

    def __init__(self, model: Any, prompt_name: str | None) -> None:
        self._model, self._prompt = model, _prompt(model, prompt_name)
        self._one_at_a_time = threading.Lock()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the vectors of texts, shape (n, d)."""
        with self._one_at_a_time:
            made = self._model.encode(list(texts), prompt=self._prompt, show_progress_bar=False)
        return np.asarray(made, dtype=np.float32)


def open_encoder(
    encoder: ModelFolder, device: str, precision: str, prompt_name: str | None
) -> SentenceTransformerEncoder | LibraryEncoder:
    """Load a model and say who runs it: our loop, or the library."""
    model = _load(encoder, device, precision)
    if getattr(model.tokenizer, "backend_tokenizer", None) is None:
        return LibraryEncoder(model, prompt_name)
    return SentenceTransformerEncoder(encoder, device, precision, prompt_name, model)


def padded(
    tokens: Tokens, width: int, rows: int, pad: int, left: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return token ids and attention mask of shape (rows, width).

    Missing rows repeat the first text: a row without any token would be NaN in some models.
    """
    first, missing = int(tokens.lengths[0]), rows - len(tokens.lengths)
    lengths = np.concatenate([tokens.lengths, np.full(missing, first)])
    place, column = np.arange(width), lengths[:, None]
    mask = place >= width - column if left else place < column
    ids = np.full((rows, width), pad, np.int32)
    ids[mask] = np.concatenate([tokens.ids, np.tile(tokens.ids[:first], missing)])
    return ids, mask


def filled(
    tokens: Tokens, size: int, pad: int, longest: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return texts one after the other, with dummies up to `size` tokens, and all lengths."""
    missing = size - len(tokens.ids)
    dummies = np.full(-(-missing // longest), longest)
    dummies[-1:] -= len(dummies) * longest - missing
    ids = np.concatenate([tokens.ids, np.full(missing, pad, np.int32)])
    return ids, np.concatenate([tokens.lengths, dummies])


#: Models that give a mask of four dimensions to every layer.
_WHOLE_MASKS = {"bert", "roberta", "xlm-roberta"}


def _takes_whole_masks(model: Any) -> bool:
    config = getattr(model[0], "config", None)
    kind, attention = (getattr(config, name, "") for name in ("model_type", "_attn_implementation"))
    return kind in _WHOLE_MASKS and attention == "sdpa"


#: Modules of sentence-transformers that take flattened texts, or their vectors.
_FLAT_MODULES = {"Pooling", "Normalize", "Dense"}


def _flattens(model: Any) -> bool:
    """Whether texts may follow each other without padding: flash attention is there and used."""
    first, *others = model
    can: bool = getattr(first, "can_flatten_inputs", False)
    return can and {type(module).__name__ for module in others} <= _FLAT_MODULES


def _load(encoder: ModelFolder, device: str, precision: str) -> Any:
    """Return the sentence-transformers model, for inference.

    Raises
    ------
    DataError
        If the library cannot load it; the message carries its reason in one line.
    UsageError
        If it is to be `int8` and has no linear layers.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    open_one = partial(
        SentenceTransformer,
        str(encoder.path),
        device=device,
        trust_remote_code=False,
        local_files_only=True,
    )
    options = {"dtype": dtype, "use_safetensors": True}
    with models.loading(encoder):
        flash = {"attn_implementation": "flash_attention_2"} if _has_flash(device, dtype) else {}
        try:
            model = open_one(model_kwargs=options | flash)
        except (ValueError, ImportError):
            if not flash:
                raise
            model = open_one(model_kwargs=options)  # an architecture that has none of it
    model = model.to(dtype).eval()
    if precision == "int8":
        int8.quantize(model[0], encoder.name)
    return model


def _has_flash(device: str, dtype: Any) -> bool:
    import torch
    from transformers.utils.import_utils import is_flash_attn_2_available

    half = dtype in (torch.bfloat16, torch.float16)
    return half and device != "cpu" and bool(is_flash_attn_2_available())


def _prompt(model: Any, name: str | None) -> str:
    if name is None:
        return ""
    prompts = dict(model.prompts or {})
    if name not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise UsageError(f"embed: prompt_name is `{name}`, but the encoder's prompts are: {known}")
    return str(prompts[name])
