"""Token ids by gigatoken, where it gives those of Hugging Face's tokenizer.

It is some thirty times as fast, and young, so it is never taken at its word: it must give equal ids
for the hard texts below when it is loaded, and for a sample of the very texts in every batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import extras

Ids = npt.NDArray[np.int64]
#: Of how many texts one is looked at twice, and of how many that hold more than ASCII.
_EVERY, _EVERY_FOREIGN = 128, 32
#: What splitting by patterns, normalising and merging bytes differ in, where they do.
HARD = (
    "", " ", "  ", "\n", " \n", "\t\t x", "a  b   c    d", "end  ", "end \n \n\n", "\r\n\r\nx\r",
    "I'm we'LL they'Ve it’s don’T 'S'x ''s o'clock 'tis", "ſ'ſ İ'İ ß'ẞ K'K",
    "1 12 123 1234 12345 1,234.50 3.14e-10 ١٢٣ １２３ ½ ² Ⅷ", "x=1;y==2!=3<=4>=5->6=>7::8//9/*0*/",
    "def f(x):\n    return x  # why\n\n\nclass A:\n\tpass\n",
    '<p class="a">&amp;</p>\n```js\n```',
    "CamelCaseHTTPServer snake_case kebab-case ALLCAPS mixedCASE iPhone", "...!!!???   ---___***",
    "naïve café e\u0301 n\u0303 \u1e9b\u0323 ﬁ Å Å", "你好，世界。日本語 テスト 한국어 \u3000x",
    "עברית العربية हिन्दी ไทย ქართული Ελληνικά Привет", "🙂👩‍👩‍👧‍👦🇩🇪👍🏽 ☃️ a🙂b",
    "𝔘𝔫𝔦 𐍈 𝟙𝟚",
    "a\u00a0b\u2003c\u200bd\u2028e\u2029f\u0085g\ufeffh\u00adi",
    "\x00\x01\x1b[0m\x7f\x80\x9f\ufffd",
    "https://x.org/a?b=c&d=%20#e me@x.org C:\\dir\\file.txt $\\frac{a}{b}$ @user #tag", "a" * 300,
    "supercalifragilisticexpialidocious antidisestablishmentarianism", " leading", "ab\u0301" * 40,
)  # fmt: skip


class OtherIds(Exception):
    """gigatoken cut a text otherwise than the tokenizer it stands for."""


class QuickTokens:
    """gigatoken's reading of a tokenizer.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        Without truncation and padding.

    Attributes
    ----------
    name : str
        Library and version.
    """

    def __init__(self, backend: Any) -> None:
        import gigatoken

        self._backend, self._quick = backend, gigatoken.Tokenizer(backend)
        self.name = f"gigatoken {version('gigatoken')}"
        added = backend.get_added_tokens_decoder().values()
        hard = [*HARD, *(f"a {token.content} b" for token in added if not token.special)]
        self._compare(hard, *self._encode(hard), range(len(hard)))

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return the ids of all texts, end to end, and where each begins, one more for the end.

        Raises
        ------
        OtherIds
            If a text of the sample has other ids.
        """
        ids, begins = self._encode(texts)
        self._compare(texts, ids, begins, list(_sample(texts)))
        return ids, begins

    def _encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        found = self._quick.encode_batch(list(texts)).layout
        ids = found.content.data[: found.offsets.data[-1]]
        return ids.astype(np.int64), found.offsets.data.astype(np.int64)

    def _compare(self, texts: Sequence[str], ids: Ids, begins: Ids, rows: Sequence[int]) -> None:
        chosen = [texts[row] for row in rows]
        answers = self._backend.encode_batch_fast(chosen, add_special_tokens=False)
        for row, answer in zip(rows, answers, strict=True):
            if ids[begins[row] : begins[row + 1]].tolist() != answer.ids:
                raise OtherIds(texts[row])


def quick_tokens(backend: Any) -> QuickTokens | None:
    """Return gigatoken's reading of a tokenizer; None where it has none, another, or is not there.

    It refuses what is no byte-level or SentencePiece BPE, and patterns that it does not know.
    """
    if not extras.has("gigatoken"):
        return None
    try:
        return QuickTokens(backend)
    except BaseException as fault:  # what the Rust side likes; its panics are no Exception
        if isinstance(fault, Exception) or type(fault).__name__ == "PanicException":
            return None
        raise


def _sample(texts: Sequence[str]) -> Iterator[int]:
    """Yield the rows to look at twice: evenly spread, and the same wherever this runs."""
    foreign = 0
    for row, text in enumerate(texts):
        is_foreign = not text.isascii()
        if row % _EVERY == 0 or (is_foreign and foreign % _EVERY_FOREIGN == 0):
            yield row
        foreign += is_foreign
