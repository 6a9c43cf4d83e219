"""One part of the costly pass behind an index: a job of an array reads its rows and keeps them.

Micro counts tokens, meso reads words; macro reads embeddings, which `embed.part` makes. What comes
after (the band, counting phrases over the whole corpus, clustering) is one job over all parts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, parts, progress
from sft_diversity.core.corpus import Component
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part, Slice
from sft_diversity.levels import tokens as counting
from sft_diversity.levels.base import VERSION
from sft_diversity.levels.stage import IndexConfig
from sft_diversity.levels.tokenizing import load_tokenizer, tokenizer_revision
from sft_diversity.levels.tokens import TokensConfig

_WORDS_PER_S = 2_500  # rows; a guess for plans: one core, texts of some 300 characters


def tokens_place(corpus: Path, config: TokensConfig, part: Part, work: Path) -> Path:
    """Return the folder of a part's token counts."""
    made_from = {"corpus": corpora.key(corpus), "options": config.model_dump(mode="json")}
    return parts.place(work, "tokens", made_from, part)


def tokens_part(
    corpus: Path,
    config: TokensConfig,
    part: Part,
    work: Path,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Count the tokens of one part's rows; return its manifest. `tokens` then takes them over."""
    name = counting.tokenizer_name(config.tokenizer)
    revision = tokenizer_revision(name)
    tokenizer = None
    if revision is None:
        tokenizer = load_tokenizer(name)
        revision = tokenizer.revision

    def make(draft: folder.Draft, piece: Slice) -> None:
        nonlocal tokenizer
        tokenizer = tokenizer or load_tokenizer(name)
        counting.count_slice(draft, ".", piece, config.component, tokenizer)

    return parts.run(
        corpus,
        tokens_place(corpus, config, part, work),
        counting.part_work(corpus, config, revision),
        part,
        make,
        f"tokens {config.component}",
        say,
    )


def words_place(corpus: Path, component: Component, part: Part, work: Path) -> Path:
    """Return the folder of a part's words."""
    made_from = {"corpus": corpora.key(corpus), "component": component}
    return parts.place(work, "words", made_from, part)


def words_part(
    corpus: Path,
    config: IndexConfig,
    part: Part,
    work: Path,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Read the words of one part's rows; return its manifest. `index` then takes them over.

    Raises
    ------
    UsageError
        If units are tags of a model.
    """
    check(config)
    from sft_diversity.levels import passes  # numba takes its time to load

    def make(draft: folder.Draft, piece: Slice) -> None:
        passes.read_slice(draft, ".", piece, config.component)

    return parts.run(
        corpus,
        words_place(corpus, config.component, part, work),
        passes.part_work(corpus, config.component, VERSION),
        part,
        make,
        f"index {config.strategy}: words",
        say,
    )


def check(config: IndexConfig) -> None:
    """Refuse what parts would not speed up."""
    if config.level == "meso" and config.meso.extractor == "llm":
        raise UsageError(
            "index: meso by tags waits for one model, which more jobs do not speed up; "
            "leave out --part and raise meso.endpoint.concurrency"
        )


def plan(corpus: Path, out: Path, part: Part, stage: str) -> dict[str, Any]:
    """Return what a part would do; `stage` is that of its folder `out`, tokens or words."""
    rows = sum(piece.stop - piece.start for piece in parts.slices(corpus, part))
    cached = folder.stage_of(out) == f"{stage}-part"
    rate, size = (counting.ROWS_PER_S, 8 * 60) if stage == "tokens" else (_WORDS_PER_S, 300)
    return {
        "stage": stage,
        "part": str(part),
        "rows": rows,
        "cached": cached,
        "seconds": 0.0 if cached else round(rows / rate, 1),
        "bytes": 0 if cached else rows * size,
        "out": str(out),
    }
