"""Short texts to vectors in memory, for stages that are handed an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sft_diversity.core import machine
from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.vectors import Vectors
from sft_diversity.embedding.base import Encoder
from sft_diversity.embedding.locate import locate
from sft_diversity.embedding.stage import (
    VERSION,
    EmbedConfig,
    encoder_for,
    key_of,
    options_of,
    place,
)
from sft_diversity.embedding.units import encode


def text_encoder(
    config: EmbedConfig,
) -> tuple[Callable[[Sequence[str]], Vectors], str, dict[str, Any]]:
    """Return a function from m texts to unit vectors, float32, shape (m, d), its key, its lineage.

    The encoder is loaded at the first call. The key changes with whatever changes the vectors. A
    text's vector does not depend on the texts it comes with, nor on the number of workers.
    """
    import torch

    files = locate(config.encoder, config.revision)
    assert files is not None
    placement = place(config)
    workers = placement.workers if placement.device == "cpu" else 1
    device = "cpu" if placement.device == "cpu" else "cuda:0"
    loaded: list[Encoder] = []

    def vectors_of(texts: Sequence[str]) -> Vectors:
        if not loaded:
            machine.keep_freed_memory()
            loaded.append(encoder_for(files, config, placement.precision, device))
        out = np.empty((len(texts), loaded[0].dim), np.float32)

        def work(first: int) -> None:
            part = list(texts[first::workers])
            if part:
                out[first::workers] = encode(loaded[0], part, placement.batch_tokens)[0]

        before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(workers) as executor:
                list(executor.map(work, range(workers)))
        finally:
            torch.set_num_threads(before)
        return core_vectors.unit(out)

    made = {
        "stage": "encoder",
        "version": VERSION,
        "inputs": {"encoder": files.revision},
        "config": options_of(config, placement),
    }
    return vectors_of, key_of(config, files, placement), made
