"""The encoder compiled by OpenVINO: fused, and in bfloat16 where the processor multiplies it.

Bare OpenVINO: the export extras of sentence-transformers do not resolve beside transformers 5.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core.models import ModelFolder
from sft_diversity.embedding.base import Tokens
from sft_diversity.embedding.sentence_transformer import SentenceTransformerEncoder

_INPUTS = ("input_ids", "attention_mask")
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoEncoder(SentenceTransformerEncoder):
    """As its base, with the forward pass compiled; one request of one core for each worker."""

    def __init__(self, encoder: ModelFolder, precision: str, prompt_name: str | None) -> None:
        super().__init__(encoder, "cpu", "float32", prompt_name)
        self._compiled = _compile(self, _HINTS[precision])
        self._requests = threading.local()

    def forward(self, tokens: Tokens, width: int, rows: int) -> npt.NDArray[np.float32]:
        """Return the vectors of at most `rows` texts, computed in the shape (rows, width)."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        features = {name: t.numpy() for name, t in self._features(tokens, width, rows).items()}
        out = self._requests.own.infer({n: features[n] for n in _INPUTS})
        vectors: npt.NDArray[np.float32] = np.array(out[0][: len(tokens.lengths)], np.float32)
        return vectors


def _compile(encoder: SentenceTransformerEncoder, precision: str) -> Any:
    import openvino
    import torch

    class Pipeline(torch.nn.Module):
        """The whole module pipeline as a function of two tensors."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            vectors: torch.Tensor = self.model(features)["sentence_embedding"]
            return vectors

    tokens = Tokens.of(encoder.tokenize(["an example", "another example of more words"])[0])
    features = encoder._features(tokens, int(tokens.lengths.max()), 2)
    example = {name: features[name] for name in _INPUTS}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # OpenVINO traces with what PyTorch now calls deprecated
        converted = openvino.convert_model(Pipeline(encoder._model), example_input=example)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": str(torch.get_num_threads()),
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }
    return openvino.compile_model(converted, "CPU", settings)
