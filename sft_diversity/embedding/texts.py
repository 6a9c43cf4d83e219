"""Short texts to vectors in memory, for stages that are handed an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sft_diversity.core import vectors as core_vectors
from sft_diversity.core.errors import UsageError
from sft_diversity.core.models import ModelFolder
from sft_diversity.core.stage import Tool
from sft_diversity.core.vectors import Vectors
from sft_diversity.embedding.base import Encoder, Placement
from sft_diversity.embedding.batches import encode
from sft_diversity.embedding.encoders import ENCODERS
from sft_diversity.embedding.pool import threads
from sft_diversity.embedding.stage import (
    VERSION,
    EmbedConfig,
    load_encoder,
    options_of,
    place_encoder,
    recipe,
    vectors_key,
)


def text_encoder(config: EmbedConfig, dry: bool = False) -> Tool:
    """Return the loan of an encoder: a function from m texts to unit vectors, float32, (m, d).

    The key changes with whatever changes the vectors. A text's vector does not depend on the texts
    it comes with, nor on the number of workers.
    """
    if config.embeddings is not None:
        raise UsageError("embed: own embeddings hold no other texts; name an encoder (--encoder)")
    placement = place_encoder(config)
    encoder = (ENCODERS.at_hand if dry else ENCODERS.find)(config.encoder, config.revision)
    if encoder is None:
        return Tool(None, {}, partial(_no_encoder, config))
    facts = {
        "stage": "encoder",
        "version": VERSION,
        "inputs": {"encoder": encoder.key},
        "config": options_of(config, placement),
        "recipe": recipe(encoder),
    }
    return Tool(
        vectors_key(config, encoder, placement), facts, partial(_lent, config, encoder, placement)
    )


def _no_encoder(config: EmbedConfig) -> Callable[[Sequence[str]], Vectors]:
    raise AssertionError(f"{config.encoder} is not here")


def _lent(
    config: EmbedConfig, encoder: ModelFolder, placement: Placement
) -> Callable[[Sequence[str]], Vectors]:
    loaded: list[Encoder] = []

    def vectors_of(texts: Sequence[str]) -> Vectors:
        if not loaded:
            where = placement.first_device
            loaded.append(load_encoder(encoder, config, placement.precision, where))
        share = min(placement.threads, len(texts))

        def work(first: int) -> Vectors:
            return encode(loaded[0], list(texts[first::share]), placement.batch_tokens)[0]

        with threads(placement) as executor:
            parts = list(executor.map(work, range(share)))
        out = np.empty((len(texts), parts[0].shape[1]), np.float32)
        for first, part in enumerate(parts):
            out[first::share] = part
        return core_vectors.unit(out)

    return vectors_of
