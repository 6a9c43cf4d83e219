"""Any sentence-transformers model, run through its own module pipeline with our batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import models
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import ModelFolder

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
        `float32` or `bfloat16`, of the weights.
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

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], npt.NDArray[np.bool_]]:
        """Return the token ids of each text, cut to `max_tokens`, and which were cut."""
        reach = _CHARS_PER_TOKEN * self.max_tokens
        heads = [self._prompt + text[:reach] for text in texts]
        encodings = self._backend.encode_batch_fast(heads)
        cut = [bool(e.overflowing) or len(t) > reach for e, t in zip(encodings, texts, strict=True)]
        return [e.ids for e in encodings], np.array(cut, dtype=np.bool_)

    def forward(
        self, ids: Sequence[Sequence[int]], width: int, rows: int
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of at most `rows` texts, computed in the shape (rows, width)."""
        import torch

        if self._device == "cpu" and not hasattr(self._threads, "single"):
            torch.set_num_threads(1)  # a core a worker: no barriers, and no effect of their number
            self._threads.single = True
        with torch.inference_mode():
            out = self._model(self._features(ids, width, rows))["sentence_embedding"]
            vectors: npt.NDArray[np.float32] = out[: len(ids)].float().cpu().numpy()
        return vectors

    def _features(self, ids: Sequence[Sequence[int]], width: int, rows: int) -> dict[str, Any]:
        import torch

        tokens, mask = padded(ids, width, rows, self._pad, self._left)
        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(tokens).to(self._device),
            "attention_mask": torch.from_numpy(mask).to(self._device),
        }
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
    ids: Sequence[Sequence[int]], width: int, rows: int, pad: int, left: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return token ids and attention mask of shape (rows, width).

    Missing rows repeat the first text: a row without any token would be NaN in some models.
    """
    tokens = np.full((rows, width), pad, dtype=np.int64)
    mask = np.zeros((rows, width), dtype=np.int64)
    for row in range(rows):
        text = ids[row] if row < len(ids) else ids[0]
        place = slice(width - len(text), width) if left else slice(0, len(text))
        tokens[row, place] = text
        mask[row, place] = 1
    return tokens, mask


def _load(encoder: ModelFolder, device: str, precision: str) -> Any:
    """Return the sentence-transformers model, for inference.

    Raises
    ------
    DataError
        If the library cannot load it; the message carries its reason in one line.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    dtype = getattr(torch, precision)
    with models.loading(encoder):
        model = SentenceTransformer(
            str(encoder.path),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    return model.to(dtype).eval()


def _prompt(model: Any, name: str | None) -> str:
    if name is None:
        return ""
    prompts = dict(model.prompts or {})
    if name not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise UsageError(f"embed: prompt_name is `{name}`, but the encoder's prompts are: {known}")
    return str(prompts[name])
