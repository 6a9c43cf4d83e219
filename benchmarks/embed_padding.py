"""How much of what embedding computes is text: real over computed tokens of a corpus, counted.

    python benchmarks/embed_padding.py CORPUS

Nothing is embedded and no GPU is needed: texts are tokenised by the packaged encoder's tokenizer
and laid into the batches that each device would compute, padding and dummies counted. `separate`
is how it was on CUDA before: units of 400,000 characters, each with its own batches.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, machine, parts
from sft_diversity.embedding import batches
from sft_diversity.embedding import cache as caches
from sft_diversity.embedding.base import UNIT_CHARACTERS, Placement, Tokens
from sft_diversity.embedding.encoders import ENCODERS

RESULTS = Path(__file__).parent / "results"
_MAX_TOKENS = 256  # of the packaged encoder


def main() -> None:
    """Count, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    corpus = parser.parse_args().corpus
    keys, none = batches.TextKeys(corpora.COMPONENTS), caches.Vectors(Path("/nonexistent"))
    slices, tokenizer = parts.slices(corpus), _tokenizer()
    units = {
        characters: [
            _tokens(tokenizer, unit.texts)
            for unit in batches.missing_texts(slices, keys, none, characters, fewest)
        ]
        for characters, fewest in ((UNIT_CHARACTERS["cpu"], 8), (UNIT_CHARACTERS["cuda"], 1))
    }
    at = {name: Placement("torch", name, "bfloat16", 1).batch_tokens for name in ("cpu", "cuda")}
    small, large = units.values()
    found = {
        "cpu": _shares(small, at["cpu"], carry=False),
        "cuda_separate": _shares(small, at["cuda"], carry=False),
        "cuda_units": _shares(large, at["cuda"], carry=False),
        "cuda": _shares(large, at["cuda"], carry=True),
        "cuda_flat": _shares(large, at["cuda"], carry=True, flat=True),
    }
    for name, share in found.items():
        print(name, json.dumps(share))
    rows = sum(piece.rows for piece in slices)
    result = {"benchmark": Path(__file__).stem, "rows": rows, **found, **machine.measured_on()}
    (RESULTS / f"{Path(__file__).stem}.json").write_text(folder.dump_json(result), "utf-8")


def _tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(ENCODERS.find("packaged").path / "tokenizer.json"))
    made.enable_truncation(_MAX_TOKENS)
    made.no_padding()
    return made


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> Tokens:
    reach = 64 * _MAX_TOKENS
    read = tokenizer.encode_batch_fast([text[:reach] for text in texts])
    return Tokens.of([one.ids for one in read])


def _shares(units: list[Tokens], size: int, carry: bool, flat: bool = False) -> dict[str, Any]:
    encoder = cast(Any, SimpleNamespace(flat=flat, max_tokens=_MAX_TOKENS))
    spent, launched = batches.Spent(), 0
    buckets = batches.Buckets(encoder, size, spent)
    for unit in units:
        launched += sum(1 for _ in buckets.add(np.arange(len(unit.lengths)), unit))
        launched += 0 if carry else sum(1 for _ in buckets.rest())
    launched += sum(1 for _ in buckets.rest())
    return {
        "units": len(units),
        "batches": launched,
        "texts": spent.texts,
        "tokens": spent.tokens,
        "computed": spent.computed,
        "share": round(spent.tokens / spent.computed, 4),
    }


if __name__ == "__main__":
    main()
