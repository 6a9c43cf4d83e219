"""Token ids by a quick engine, where it gives those of Hugging Face's tokenizer.

gigatoken is some thirty times as fast, and young; for the packaged tokenizer, which it does not
read, each pre-token is encoded once (`pretokens`). Neither is taken at its word: it must give equal
ids for the hard texts below when it is loaded, and for a sample of the very texts in every batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sft_diversity.core import extras

Ids = npt.NDArray[np.int64]
#: How the packaged tokenizer splits texts, see `pretokens`.
PACKAGED = [
    {
        "type": "Split",
        "pattern": {
            "Regex": r"(?i:['’](?:s|t|re|ve|m|ll|d))(?!\p{L})| ?[\p{L}\p{M}]+|\p{N}"
            r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        },
        "behavior": "Isolated",
        "invert": False,
    },
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
]
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
    """An engine cut a text otherwise than the tokenizer it stands for."""


class Engine(Protocol):
    """What cuts texts in a tokenizer's place; `name` is for people."""

    @property
    def name(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return the ids of all texts, end to end, and where each begins, one more for the end."""
        ...


class Gigatoken:
    """gigatoken's reading of a tokenizer."""

    def __init__(self, backend: Any) -> None:
        import gigatoken

        self._quick = gigatoken.Tokenizer(backend)
        self.name = f"gigatoken {version('gigatoken')}"

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return the ids of all texts, end to end, and where each begins, one more for the end."""
        found = self._quick.encode_batch(list(texts)).layout
        ids = found.content.data[: found.offsets.data[-1]]
        return ids.astype(np.int64), found.offsets.data.astype(np.int64)


class QuickTokens:
    """A quick engine, and the tokenizer that it stands for.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        Without truncation and padding.
    engine : Engine
        Texts that spell a special token it may cut as it likes: they are cut apart.

    Raises
    ------
    OtherIds
        If it cuts one of the hard texts otherwise.
    """

    def __init__(self, backend: Any, engine: Engine) -> None:
        self._backend, self._engine = backend, engine
        added = backend.get_added_tokens_decoder().values()
        self._special = [token.content for token in added if token.special]
        hard = [*HARD, *(f"a {token.content} b" for token in added if not token.special)]
        self._compare(hard, *engine.encode(hard), range(len(hard)))

    @property
    def name(self) -> str:
        """Library and version."""
        return self._engine.name

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return the ids of all texts, end to end, and where each begins, one more for the end.

        Raises
        ------
        OtherIds
            If a text of the sample has other ids.
        """
        ids, begins = self._engine.encode(texts)
        self._compare(texts, ids, begins, list(_sample(texts)))
        return ids, begins

    def _compare(self, texts: Sequence[str], ids: Ids, begins: Ids, rows: Sequence[int]) -> None:
        rows = [row for row in rows if not any(token in texts[row] for token in self._special)]
        chosen = [texts[row] for row in rows]
        answers = self._backend.encode_batch_fast(chosen, add_special_tokens=False)
        for row, answer in zip(rows, answers, strict=True):
            if ids[begins[row] : begins[row + 1]].tolist() != answer.ids:
                raise OtherIds(texts[row])


def quick_tokens(backend: Any) -> QuickTokens | None:
    """Return a tokenizer with a quick engine; None where none reads it, or reads it otherwise.

    gigatoken refuses what is no byte-level or SentencePiece BPE, and patterns that it does not
    know.
    """
    make = _engine_of(backend)
    if make is None:
        return None
    try:
        return QuickTokens(backend, make(backend))
    except BaseException as fault:  # what the Rust side likes; its panics are no Exception
        if isinstance(fault, Exception) or type(fault).__name__ == "PanicException":
            return None
        raise


def _engine_of(backend: Any) -> Callable[[Any], Engine] | None:
    if _splits_as_packaged(backend):
        from sft_diversity.levels.pretokens import Pretokens  # who reads with another needs none

        return Pretokens
    return Gigatoken if extras.has("gigatoken") else None


def _splits_as_packaged(backend: Any) -> bool:
    """Whether a tokenizer splits texts by `PACKAGED` and does nothing else to them before."""
    if backend.normalizer is not None or backend.pre_tokenizer is None:
        return False
    steps = json.loads(backend.pre_tokenizer.__getstate__()).get("pretokenizers", [])
    added = backend.get_added_tokens_decoder().values()
    return steps == PACKAGED and all(token.special for token in added)


def _sample(texts: Sequence[str]) -> Iterator[int]:
    """Yield the rows to look at twice: evenly spread, and the same wherever this runs."""
    foreign = 0
    for row, text in enumerate(texts):
        is_foreign = not text.isascii()
        if row % _EVERY == 0 or (is_foreign and foreign % _EVERY_FOREIGN == 0):
            yield row
        foreign += is_foreign
