"""A tokenizer of whitespace words: the control that should make the effect of micro vanish.

python benchmarks/word_tokenizer.py CORPUS --out words.json
sftdiv select CORPUS --strategy micro-response --tokenizer words.json --size 10000 --out subset

Words seen once are in no band and are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sft_diversity.core import corpus as corpora


def texts(corpus: Path) -> Iterator[str]:
    """Yield every instruction and response."""
    for batch in corpora.batches(corpus, corpora.COMPONENTS):
        for name in corpora.COMPONENTS:
            yield from batch[name].to_pylist()


def main() -> None:
    """Count the words of a corpus and write the tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        vocab_size=1_000_000, min_frequency=2, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(texts(given.corpus), trainer)
    tokenizer.save(str(given.out))
    print(f"{tokenizer.get_vocab_size():,} words")


if __name__ == "__main__":
    main()
