"""Micro level: kinds are the token types of the mid-frequency band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from sft_diversity.core import folder, incidence
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.levels.base import Made, Sources

BLOCK = 100_000  # rows whose entries are in memory at a time


class MicroOptions(Config):
    """The band of document frequencies."""

    band_min: int = Field(
        default=10, ge=1, description="fewest samples that hold a token type (included)"
    )
    band_max: int = Field(
        default=500, ge=1, description="most samples that hold a token type (included)"
    )

    @model_validator(mode="before")
    @classmethod
    def _holds_no_tokenizer(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "tokenizer" in values:
            raise ValueError(
                "the tokenizer is named by the option `tokenizer`, beside `micro` and not in it"
            )
        return values

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> MicroOptions:
        if self.band_min > self.band_max:
            raise ValueError(f"band_min {self.band_min} is above band_max {self.band_max}")
        return self


class Micro:
    """Level over a finished token pass of the component."""

    def inputs(self, sources: Sources, options: MicroOptions) -> dict[str, str]:
        """Return the key of the token pass."""
        if sources.tokens is None:
            raise UsageError("index: micro reads a token pass; run `tokens` first and name it")
        manifest = folder.read_manifest(sources.tokens, "tokens")
        component = manifest["config"]["component"]
        if component != sources.component:
            raise UsageError(
                f"index: {sources.tokens} counts the {component}, not the {sources.component}"
            )
        return {"tokens": str(manifest["key"])}

    def make(self, sources: Sources, options: MicroOptions, draft: folder.Draft) -> Made:
        """Return the incidence of the token types in the band."""
        assert sources.tokens is not None  # checked by `inputs`
        tokens = incidence.load(sources.tokens)
        kinds = pq.read_table(sources.tokens / "kinds.parquet")
        keep = in_band(kinds["samples"].to_numpy(), options.band_min, options.band_max)
        if not keep.any():
            raise DataError(
                f"index: no token type is held by {options.band_min} to {options.band_max} of "
                f"{tokens.n_samples:,} samples; widen the band"
            )
        banded = keep_kinds(tokens, keep)
        result: dict[str, Any] = {
            "token_types": len(keep),
            "below_band": int((kinds["samples"].to_numpy() < options.band_min).sum()),
            "above_band": int((kinds["samples"].to_numpy() > options.band_max).sum()),
        }
        ids = incidence.load_ids(sources.tokens)
        return Made(banded, ids, kinds.filter(pa.array(keep)), result)


def in_band(samples: npt.NDArray[np.int64], low: int, high: int) -> npt.NDArray[np.bool_]:
    """Return which document frequencies lie in the band, both ends included."""
    return (samples >= low) & (samples <= high)


def keep_kinds(whole: Incidence, keep: npt.NDArray[np.bool_]) -> Incidence:
    """Return the incidence over the kinds in `keep` alone, renumbered in their order.

    Time O(nnz); memory twice the result, since a mapped `whole` is read block by block.
    """
    number = np.cumsum(keep, dtype=np.int32) - 1
    sizes, indices, counts = [np.zeros(1, np.int64)], [], []
    for low in range(0, whole.n_samples, BLOCK):
        ends = np.asarray(whole.indptr[low : low + BLOCK + 1])
        kinds = whole.indices[ends[0] : ends[-1]]
        stays = keep[kinds]
        before = np.concatenate([[0], np.cumsum(stays, dtype=np.int64)])
        sizes.append(np.diff(before[ends - ends[0]]))
        indices.append(number[kinds[stays]].astype(np.int32))
        counts.append(whole.counts[ends[0] : ends[-1]][stays])
    indptr = np.cumsum(np.concatenate(sizes))
    return Incidence(indptr, _joined(indices), _joined(counts), int(keep.sum()))


def _joined(parts: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)
