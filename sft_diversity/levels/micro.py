"""Micro level: kinds are the token types of the mid-frequency band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator, model_validator

from sft_diversity.core import folder, incidence
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.levels import band as bands
from sft_diversity.levels.band import BLOCK
from sft_diversity.levels.base import Made, Sources


class MicroOptions(Config):
    """The band of document frequencies."""

    band: str = Field(
        default=bands.AUTO,
        description="samples that may hold a token type, LOW:HIGH, both ends in; auto: "
        f"{bands.PUBLISHED}, widened until four fifths of the samples hold a kind",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_key_of_old(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        if "tokenizer" in given:
            raise ValueError(
                "the tokenizer is named by the option `tokenizer`, beside `micro` and not in it"
            )
        old = {"band_min": 10, "band_max": 500}
        if old.keys() & given.keys():
            ends = {**old, **given}
            raise ValueError(
                "band_min and band_max are one key now; "
                f'give micro.band: "{ends["band_min"]}:{ends["band_max"]}"'
            )
        return given

    @field_validator("band", mode="before")
    @classmethod
    def _two_ends(cls, given: Any) -> str:
        return str(bands.parse(given) or bands.AUTO)


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
        samples = kinds["samples"].to_numpy()
        band = bands.parse(options.band) or bands.widened(tokens, samples)
        keep = bands.within(samples, band)
        if not keep.any():
            raise DataError(
                f"index: no token type is held by {band.low:,} to {band.high:,} of "
                f"{tokens.n_samples:,} samples; widen the band, --band LOW:HIGH"
            )
        banded = keep_kinds(tokens, keep)
        with_token, with_kind = (
            int(np.count_nonzero(np.diff(made.indptr))) for made in (tokens, banded)
        )
        result: dict[str, Any] = {
            "token_types": len(keep),
            "below_band": int((samples < band.low).sum()),
            "above_band": int((samples > band.high).sum()),
            "band": str(band),
            "share_with_kind": round(with_kind / with_token, 6),
        }
        auto = " (auto)" if options.band == bands.AUTO else ""
        share = f"{with_kind / with_token:.1%} of the samples with a token hold a kind"
        ids = incidence.load_ids(sources.tokens)
        return Made(
            banded,
            ids,
            kinds.filter(pa.array(keep)),
            result,
            lines=(f"band {band}{auto}, {share}",),
        )


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
