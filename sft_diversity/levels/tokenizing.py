"""Texts to token counts, with the trained model's own tokenizer: no special tokens, text as is.

A special token that a text spells (`<|endoftext|>` in a scraped answer) is text too, cut into
tokens as training cuts it (`core.chat`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sft_diversity.core import extras, models, resources
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.levels.quick_tokens import Ids, quick_tokens

Counts = npt.NDArray[np.int32]
_FILE = "tokenizer.json"
_WAY_OUT = f"name a model folder, a {_FILE} file or a Hub id"
#: Texts and characters that one call of the tokenizer gets: bounds the memory of its answer.
_BATCH_TEXTS, _BATCH_CHARS = 2_048, 4_000_000
_MAX_VOCABULARY = 1 << 24


@dataclass(frozen=True)
class TokenCounts:
    """Token ids of some texts with counts, as compressed sparse rows.

    Attributes
    ----------
    lengths : int32 array, shape (n,)
        Tokens of each text.
    sizes : int32 array, shape (n,)
        Distinct tokens of each text.
    ids, counts : int32 arrays, shape (sum of sizes,)
        Ids ascending within a text, and how often it holds each.
    """

    lengths: Counts
    sizes: Counts
    ids: Counts
    counts: Counts


class Tokenizer:
    """A fast tokenizer and the revision that identifies it.

    Attributes
    ----------
    revision : str
        SHA-256 of its `tokenizer.json`; where it has none, a hash of the converted tokenizer.
    """

    def __init__(self, backend: Any, revision: str) -> None:
        self._backend, self.revision = backend, revision
        ids = backend.get_vocab(with_added_tokens=True).values()
        self._vocabulary = max(ids, default=0) + 1
        if self._vocabulary > _MAX_VOCABULARY:  # tables have a row for each
            raise UsageError(
                f"index: the tokenizer has an id of {self._vocabulary - 1:,}, more than any "
                f"vocabulary is large (limit {_MAX_VOCABULARY:,}); {_WAY_OUT}"
            )
        added = backend.get_added_tokens_decoder().values()
        special = sorted((token.content for token in added if token.special), key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, special)) or '(?!)'})")
        backend.no_truncation()  # saved with some tokenizers, and wrong for counting
        backend.no_padding()
        self._quick = quick_tokens(backend)

    @property
    def library(self) -> str:
        """What cuts texts: a quick engine where it gives the same ids, else tokenizers."""
        return self._quick.name if self._quick else f"tokenizers {version('tokenizers')}"

    def distrust(self) -> None:
        """Cut texts with Hugging Face's tokenizer from now on."""
        self._quick = None

    @property
    def vocabulary(self) -> int:
        """One more than the highest token id, added tokens included (ids may have gaps)."""
        return self._vocabulary

    def name(self, token_id: int) -> str:
        """Return the token's string in the vocabulary (for byte-level BPE, its byte alphabet)."""
        return str(self._backend.id_to_token(token_id))

    def places(self, text: str) -> list[tuple[int, int, int]]:
        """Return each token of a text as its id and the characters from and to which it stands.

        Without those of a text that spells special tokens: it is counted piece by piece.
        """
        if self._special.search(text):
            return []
        found = self._backend.encode(text, add_special_tokens=False)
        return [(id, *at) for id, at in zip(found.ids, found.offsets, strict=True)]

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return the token ids of all texts, end to end, and where each begins.

        Returns
        -------
        ids : int64 array, shape (t,)
        begins : int64 array, shape (n + 1,)
            Text i has `ids[begins[i]:begins[i + 1]]`.

        Raises
        ------
        OtherIds
            If a quick engine cuts a text of the sample otherwise: `distrust` it, and begin anew.
        """
        if self._quick:
            ids, begins = self._quick.encode(texts)
        else:
            answers = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
            ids, begins = _end_to_end([answer.ids for answer in answers])
        spelt = {i: self._as_text(t) for i, t in enumerate(texts) if self._special.search(t)}
        if not spelt:
            return ids, begins
        plain = np.split(ids, begins[1:-1])
        return _end_to_end([spelt.get(i, plain[i]) for i in range(len(texts))])

    def _as_text(self, text: str) -> list[int]:
        """Return the ids of a text that spells special tokens.

        Piece by piece, as transformers' `encode_marked_chat`, through which training reads such
        texts: what stands between special tokens, and each of them without the added tokens; where
        its text still makes the token (in a Unigram vocabulary), it is broken after a character.
        """
        first, *rest = self._special.split(text)
        pieces = [first]
        for token, behind in zip(rest[::2], rest[1::2], strict=True):
            if self._backend.token_to_id(token) in self._continued(self._encode_plain, token):
                pieces[-1] += token[0]
                pieces += ["", token[1:] + behind]
            else:
                pieces += [token, behind]
        ids: list[int] = []
        for i, piece in enumerate(pieces):
            encode = self._encode_plain if i % 2 else self._encode
            if piece:
                ids += self._continued(encode, piece) if i else encode(piece)
        return ids

    def _continued(self, encode: Callable[[str], list[int]], piece: str) -> list[int]:
        """Return the ids of a piece from the middle of a text: no word begins the text there."""
        line_break = self._encode("\n")
        ids = encode("\n" + piece)
        return ids[len(line_break) :] if ids[: len(line_break)] == line_break else encode(piece)

    def _encode(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _encode_plain(self, text: str) -> list[int]:
        """Return the ids of a text to which no added token is known."""
        if self._backend.normalizer is not None:
            text = self._backend.normalizer.normalize_str(text)
        words = [text]
        if self._backend.pre_tokenizer is not None:
            words = [word for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for word in words for token in self._backend.model.tokenize(word)]


def revision(name: str, dry: bool = False) -> str | None:
    """Return the revision of a tokenizer.

    One without a `tokenizer.json` here is loaded for it; None where nothing is to be fetched
    (`dry`) and it may have to be.
    """
    name = resources.of_repository(name)
    known = _file_revision(name)
    if known is None and not (dry and not Path(name).exists()):
        return load_tokenizer(name).revision
    return known


def _file_revision(name: str) -> str | None:
    path = Path(name)
    file = path / _FILE if path.is_dir() else path
    if not (file.is_file() and file.name.endswith(".json")):
        return None
    return file_key(file)


def check_tokenizer(name: str) -> None:
    """Refuse what can be no tokenizer, by its name and files; nothing is loaded or fetched.

    Raises
    ------
    UsageError
        If there is no such tokenizer.
    """
    path = Path(resources.of_repository(name))
    file = path / _FILE if path.is_dir() else path
    if file.is_file():
        said = file.read_bytes()
        if not said.lstrip().startswith(b"{") or b'"model"' not in said:
            raise UsageError(f"index: {file} is no tokenizer file; {_WAY_OUT}")
    elif path.is_dir():
        if not models.has_tokenizer(path):
            raise UsageError(f"index: {path} has no {_FILE} nor another tokenizer; {_WAY_OUT}")
    elif not models.is_hub_id(name) or path.suffix == ".json":
        raise UsageError(f"index: no tokenizer {name!r}: it is not there; {_WAY_OUT}")
    else:
        models.check_on_hub(name, "index: tokenizer")


def load_tokenizer(name: str) -> Tokenizer:
    """Return the tokenizer in a folder, of a `tokenizer.json` file, or of a model by its name.

    Its ids are those of transformers' AutoTokenizer (the fast kind), through which training reads.
    Where that would take `tokenizer.json` as it is, the file is read without transformers and
    torch; where it would build its own from the file and transformers is not installed, the file
    counts as it is. Code that a model brings along is never run.

    Raises
    ------
    UsageError
        If there is no such tokenizer, it has no fast (Rust) form, or it has no `tokenizer.json` and
        transformers is not installed.
    """
    name = resources.of_repository(name)
    return _loaded(name, _file_revision(name))


@lru_cache(maxsize=2)
def _loaded(name: str, known: str | None) -> Tokenizer:
    """Load a tokenizer once, as long as its file stays the same."""
    path = Path(name)
    if path.is_file():
        return Tokenizer(_read_file(path), file_key(path))
    if not path.is_dir():
        path = models.fetch_tokenizer(name, "index: tokenizer")
    file = path / _FILE
    if file.is_file():
        backend = _read_file(file)
        if not extras.has("transformers") or _is_whole(path, backend):
            return Tokenizer(backend, file_key(file))
    extras.require("transformers", f"index: the tokenizer {name!r} has no {_FILE}: it")
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(path, use_fast=True, trust_remote_code=False)
    except Exception as fault:  # of a broken one, whatever Python makes of its values
        reason = str(fault).strip().split("\n", 1)[0][:200]
        raise UsageError(f"index: no tokenizer {name!r} ({reason}); {_WAY_OUT}") from None
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise UsageError(
            f"index: the tokenizer {name!r} has no fast form; save it as {_FILE} and name that"
        )
    return Tokenizer(backend, known or _file_revision(str(path)) or content_key(backend.to_str()))


def _is_whole(path: Path, backend: Any) -> bool:
    """Whether transformers takes the `tokenizer.json` of a folder as it is, and adds nothing.

    That is so without further settings, and where they name no class with a reading of its own and
    no token that the file lacks.
    """
    if not (path / "tokenizer_config.json").exists():
        return True
    settings, model = _json(path / "tokenizer_config.json"), _json(path / "config.json")
    if settings.get("tokenizer_class") not in _PLAIN_CLASSES or "auto_map" in settings:
        return False
    if model.get("model_type") in _READ_OTHERWISE or "fix_mistral_regex" in settings:
        return False
    if any((path / name).exists() for name in _MORE_TOKENS) and (
        "added_tokens_decoder" not in settings
    ):
        return False
    known = {repr(token) for token in backend.get_added_tokens_decoder().values()}
    special = {t.content for t in backend.get_added_tokens_decoder().values() if t.special}
    for token in settings.get("added_tokens_decoder", {}).values():
        if not isinstance(token, dict) or repr(_added(token)) not in known:
            return False
    return all(token in special for token in _named(settings))


#: Classes of transformers that read `tokenizer.json`, and models for which it puts another in their
#: place (5.24, `MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS` of models/auto/tokenization_auto.py).
_PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
_READ_OTHERWISE = (
    "hyperclovax_vision_v2", "qwen2", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen4_exp",
    "siglip2",
)  # fmt: skip
#: Files that hold tokens besides, read where the settings have no `added_tokens_decoder`.
_MORE_TOKENS = ("added_tokens.json", "special_tokens_map.json")


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _added(token: dict[str, Any]) -> Any:
    from tokenizers import AddedToken

    try:
        return AddedToken(**{name: value for name, value in token.items() if name != "__type"})
    except TypeError:
        return None


def _named(settings: dict[str, Any]) -> Iterator[str]:
    """Yield the special tokens that settings name: `bos_token`, extra ones, and the like."""
    for name, value in settings.items():
        several = name in ("extra_special_tokens", "additional_special_tokens")
        if not several and not name.endswith("_token"):
            continue
        values = value.values() if isinstance(value, dict) and several else value
        for one in values if several and not isinstance(values, str | None) else [values]:
            content = one.get("content") if isinstance(one, dict) else one
            if isinstance(content, str):
                yield content


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> TokenCounts:
    """Return each text's token counts.

    Notes
    -----
    Time O(t log t) for t tokens in a batch; memory holds the ids of one batch of texts (2,048
    texts or about 4 million characters) and the result.
    """
    from sft_diversity.levels.tallying import tallied  # who finds a pass finished needs no kernel

    parts = [tallied(*tokenizer.encode(batch), tokenizer.vocabulary) for batch in _batches(texts)]
    if not parts:
        empty = np.empty(0, dtype=np.int32)
        return TokenCounts(empty, empty, empty, empty)
    columns = zip(*parts, strict=True)
    return TokenCounts(*(np.concatenate(column) for column in columns))


def _end_to_end(rows: Sequence[Sequence[int] | Ids]) -> tuple[Ids, Ids]:
    begins = np.cumsum([0, *map(len, rows)])
    ids = np.fromiter(chain.from_iterable(rows), np.int64, begins[-1])
    return ids, begins


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = characters = 0
    for i, text in enumerate(texts):
        if i > start and (i - start >= _BATCH_TEXTS or characters + len(text) > _BATCH_CHARS):
            yield texts[start:i]
            start, characters = i, 0
        characters += len(text)
    if start < len(texts):
        yield texts[start:]


def _read_file(path: Path) -> Any:
    from tokenizers import Tokenizer as Backend

    try:
        return Backend.from_file(str(path))
    except Exception as fault:  # the Rust side raises bare Exception
        reason = str(fault).split("\n", 1)[0][:200]
        raise UsageError(f"index: {path} is no tokenizer file: {reason}") from None
