"""The meso level's other extractor: units are a model's tags, merged to kinds step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core.errors import DataError
from sft_diversity.core.stage import Job
from sft_diversity.endpoint.client import Client
from sft_diversity.levels import tag_steps
from sft_diversity.levels.base import Indexed, of_named_kinds
from sft_diversity.levels.tag_prompt import PROMPT, SCHEMA
from sft_diversity.levels.tag_steps import Tags
from sft_diversity.levels.tagging import account, tag_corpus
from sft_diversity.levels.words import lemmatizer

if TYPE_CHECKING:
    from sft_diversity.levels.meso import MesoOptions
    from sft_diversity.levels.stage import IndexConfig

_STAGE = "index"
_Ints = npt.NDArray[np.int64]
EncodeNames = Callable[[list[str]], npt.NDArray[np.float32]]


def make_from_tags(job: Job[IndexConfig], encode: EncodeNames) -> Indexed:
    """Return the incidence of an endpoint's tags.

    Parameters
    ----------
    encode : callable
        Names of tags to unit vectors, shape (m, d).
    """
    options = job.config.meso
    assert options.endpoint is not None  # the options check it
    with Client(options.endpoint, job.work / "answers", _STAGE, PROMPT, SCHEMA) as client:
        answered = tag_corpus(job, client)
        run = client.tally.as_json(options.endpoint)
    found = account(answered)
    run["cost_in_all"] = round(options.endpoint.cost(found["tokens_in"], found["tokens_out"]), 6)
    raw = tag_steps.gather(answered["tags"].to_pylist())
    least, _ = options.bounds(answered.num_rows)
    tags, stands, steps = _merge(raw, options, least, encode)
    if not tags.names:
        raise DataError(
            f"index: no tag is held by {least} of {answered.num_rows:,} samples; "
            "lower meso.min_samples or tag more samples"
        )
    figures = found | {
        "tags_raw": len(raw.names),
        "min_samples": least,
        "steps": steps,
        "units_kept": len(tags.names),
    }
    incidence, kinds = of_named_kinds(
        [" ".join(name.lower().split()) for name in tags.names],
        (tags.rows, tags.tags, np.ones(len(tags.tags), dtype=np.int32)),
        tags.n_rows,
        (raw.names, stands),
    )
    ids = answered["id"].combine_chunks()
    return Indexed(incidence, ids, kinds, figures, run, lines=_said(figures, run))


def _said(figures: dict[str, Any], run: dict[str, Any]) -> list[str]:
    asked = (
        f"{figures['tagged']:,} samples tagged, {sum(figures['quarantined'].values()):,} in "
        f"quarantine; {run['calls']:,} calls, {run['answers_kept_from_before']:,} answers kept "
        f"from before; {figures['tokens_in']:,} tokens in, {figures['tokens_out']:,} out"
    )
    asked += f", cost {run['cost_in_all']:,.2f}" if run["cost_in_all"] else ""
    steps = ", ".join(f"{s['step']} {s['before']:,} -> {s['after']:,}" for s in figures["steps"])
    return [asked, f"tags by step: {steps}"]


def _merge(
    raw: Tags,
    options: MesoOptions,
    least: int,
    encode: Callable[[list[str]], npt.NDArray[np.float32]],
) -> tuple[Tags, _Ints, list[dict[str, Any]]]:
    """Return the tags that are left, the number of what each raw tag became, and the reports."""
    lemma = lemmatizer(options.language)

    def semantic(tags: Tags) -> _Ints:
        if options.merge == "none" or not tags.names:
            return np.arange(len(tags.names))
        return tag_steps.semantic_step(tags, encode(tags.names), options.threshold)

    steps: list[tuple[str, Callable[[Tags], _Ints]]] = [
        ("frequency", lambda tags: tag_steps.floor_step(tags, least)),
        ("lexical", lambda tags: tag_steps.lexical_step(tags, lemma)),
        ("semantic", semantic),
        (
            "association",
            lambda tags: tag_steps.association_step(
                tags, options.tags.association_support, options.tags.association_confidence
            ),
        ),
    ]
    tags, became, reports = raw, np.arange(len(raw.names)), []
    for name, step in steps:
        stands = step(tags)
        reports.append(tag_steps.report(name, tags, stands))
        became = _follow(became, stands)
        tags = tag_steps.applied(tags, stands)
    return tags, became, reports


def _follow(became: _Ints, stands: _Ints) -> _Ints:
    """Return what each raw tag is after a step, in the numbers that `applied` gives."""
    kept = np.unique(stands[stands >= 0])
    place = np.full(len(stands) + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    after: _Ints = place[np.append(stands, -1)][became]
    return after
