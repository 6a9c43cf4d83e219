"""All metrics of one component of a data set, from arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sft_diversity.core.config import Config
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.core.incidence import Incidence
from sft_diversity.core.numbers import entropy, evenness
from sft_diversity.core.seeding import rows_drawn
from sft_diversity.core.vectors import Vectors
from sft_diversity.metrics import texts
from sft_diversity.metrics.spread import (
    density_factors,
    mean_pairwise_distance,
    novelsum,
    vendi_score,
)

Figure = float | int | None
_DIGITS = 6


class MeasureConfig(Config):
    """How much of a data set the metrics read that compare samples with one another."""

    components: tuple[Component, ...] = Field(
        default=COMPONENTS, min_length=1, description="whose texts are measured"
    )
    self_bleu_sample: int = Field(
        default=1_000, ge=2, description="texts that self-BLEU compares; it rises with them"
    )
    novelsum_sample: int = Field(
        default=10_000, ge=2, description="samples that NovelSum compares; time is quadratic"
    )
    reference_sample: int = Field(
        default=20_000, ge=1, description="corpus samples that stand for NovelSum's density"
    )
    seed: int = Field(default=0, ge=0, description="of the samples above")


@dataclass(frozen=True)
class ComponentData:
    """One component of a data set of n samples.

    The order of the samples takes part in what is sampled and in the compression ratio: the stage
    orders them by id, so that the order in which a subset was picked does not matter.

    Attributes
    ----------
    texts : sequence of str, length n
    token_lengths : int array, shape (n,)
        Tokens of each text, by the tokenizer of the model to be trained.
    token_occurrences : int array, shape (types,)
        How often the data set holds each token type.
    vectors : float32 array, shape (n, d), or None
        Unit length.
    reference : float32 array, shape (m, d), or None
        Unit vectors of the corpus whose density NovelSum reads; without one, the data set's own.
    incidences : mapping of level to Incidence over the n samples
    """

    texts: Sequence[str]
    token_lengths: npt.NDArray[np.integer]
    token_occurrences: npt.NDArray[np.integer]
    vectors: Vectors | None
    reference: Vectors | None
    incidences: Mapping[str, Incidence] = field(default_factory=dict)


def measure_table(part: ComponentData, config: MeasureConfig) -> dict[str, Figure]:
    """Return every metric of a component by name, in the order of the table.

    A metric is None where the data set is too small for it. Figures are rounded to six decimals.

    Notes
    -----
    About 10 s for 10,000 samples of 100 words on one core; see each metric for its cost.
    """
    n = len(part.texts)
    words = texts.numbered(part.texts)
    found: dict[str, Figure] = dict(texts.length_figures(part.token_lengths, part.texts))
    for order, (grams, _) in enumerate(texts.ngrams(words, 4), start=1):
        counts = np.unique(grams, return_counts=True)[1]
        found[f"distinct_{order}"] = texts.distinct_ratio(counts)
        if order <= 2:
            found[f"distinct_{order}_in_10k"] = texts.rarefied_ratio(counts, 10_000)
    found["compression_ratio"] = texts.compression_ratio(part.texts)
    compared = rows_drawn(n, config.self_bleu_sample, config.seed, "measure", "self-bleu")
    found["self_bleu"] = float(texts.self_bleu(words.take(compared)).mean()) if n > 1 else None
    found["token_entropy_bits"] = entropy(part.token_occurrences)
    if part.vectors is not None and part.reference is not None:
        found |= _spread(part.vectors, part.reference, config)
    for level, incidence in part.incidences.items():
        for name, value in coverage(incidence).items():
            found[f"{level}_{name}"] = value
    return {name: round(v, _DIGITS) if v is not None else None for name, v in found.items()}


def _spread(embedded: Vectors, reference: Vectors, config: MeasureConfig) -> dict[str, Figure]:
    """Return the metrics of embeddings."""
    n = len(embedded)
    if n < 2:
        return {"embedding_distance": None, "vendi_score": 1.0, "novelsum": None}
    rows = rows_drawn(n, config.novelsum_sample, config.seed, "measure", "novelsum")
    among, most = len(reference), config.reference_sample
    known = rows_drawn(among, most, config.seed, "measure", "reference")
    vectors = embedded[rows]
    factors = density_factors(vectors, reference[known])
    return {
        "embedding_distance": mean_pairwise_distance(embedded),
        "vendi_score": vendi_score(embedded),
        "novelsum": novelsum(vectors, factors),
    }


def coverage(incidence: Incidence) -> dict[str, float]:
    """Return the figures of a data set's incidence over all kinds of its corpus.

    Returns
    -------
    dict
        `kinds` held at all, their `share` of all kinds, `evenness` (Pielou's) of the samples a
        kind.
    """
    held = np.bincount(incidence.indices, minlength=incidence.n_kinds)
    kinds = int(np.count_nonzero(held))
    share = kinds / max(incidence.n_kinds, 1)
    return {"kinds": kinds, "share": share, "evenness": evenness(held)}
