"""An encoder as a plain function, for callers with a list of short texts (meso's units)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from sft_diversity.core import machine, vectors
from sft_diversity.embed import units
from sft_diversity.embed.locate import locate
from sft_diversity.embed.stage import EmbedConfig, encoder_for, place

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


def text_encoder(config: EmbedConfig) -> tuple[Encode, str]:
    """Return a function from texts to unit vectors, float32, shape (m, d), and what it depends on.

    The model is loaded at the first call. Texts are shared out over the cores.
    """
    placement = place(config)
    files = locate(config.encoder, config.revision)
    assert files is not None  # only without download

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        machine.keep_freed_memory()
        device = "cpu" if placement.device == "cpu" else "cuda:0"
        encoder = encoder_for(files, config, placement.precision, device)
        workers = placement.workers if placement.device == "cpu" else 1
        found = np.empty((len(texts), encoder.dim), np.float32)

        def share(worker: int) -> None:
            mine = list(texts[worker::workers])
            found[worker::workers] = units.encode(encoder, mine, placement.batch_tokens)[0]

        with ThreadPoolExecutor(workers) as executor:
            list(executor.map(share, range(min(workers, len(texts)))))
        return vectors.unit(found)

    depends_on = f"{files.revision} {placement.backend} {placement.precision}"
    return encode, depends_on
