"""Where answers come from: the set's own, a file, a model that runs here, an endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sft_diversity.core import chat, folder, machine, progress, stopping
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_sha256, text_key
from sft_diversity.endpoint.answers import Answer, Answers, folder_for
from sft_diversity.endpoint.client import Client
from sft_diversity.endpoint.config import EndpointConfig, check_endpoint, is_url
from sft_diversity.scoring import model as models
from sft_diversity.scoring.pairwise import generate
from sft_diversity.scoring.pairwise.config import PairwiseConfig
from sft_diversity.scoring.pairwise.prompts import Prompt, whole
from sft_diversity.scoring.sets import rows_of

STAGE = "score"
VERSION = "answers-1"


@dataclass(frozen=True)
class Said:
    """An answer, or why there is none.

    Attributes
    ----------
    status : str
        `answered`; `empty` or `refused`, which count as an empty answer; `over-length` (the prompt
        does not fit the model), `missing` (a file holds no answer) or `gave-up` (the endpoint did
        not answer), which leave the prompt out.
    cut : bool
        Whether the answer ended at the most tokens.
    """

    text: str
    status: str
    cut: bool = False
    tokens: int = 0


class Answerer(Protocol):
    """Gives an answer to each prompt, in their order; `key` identifies what it depends on."""

    name: str
    key: str

    def answers(self, prompts: Sequence[Prompt]) -> list[Said]: ...

    def close(self) -> None: ...


def check(name: str, model_name: str | None, option: str) -> None:
    """Refuse what can be no model, without loading or asking anything."""
    if is_url(name):
        check_endpoint(name, STAGE)
        if model_name is None:
            raise UsageError(f"score: {name} is an endpoint; name its model with {option}")
    elif model_name is not None:
        raise UsageError(f"score: {option} is for an endpoint; {name} is no URL")
    else:
        models.check(name)


def check_baseline(config: PairwiseConfig) -> None:
    """Refuse a baseline that is not there, as `check` does."""
    path = Path(config.against)
    if config.against != "reference" and not path.is_file() and folder.stage_of(path) != STAGE:
        check(config.against, config.against_model, "--against-model")


def model_of(
    name: str, model_name: str | None, key_env: str | None, config: PairwiseConfig, kept: Path
) -> Answerer:
    """Return the model that is named; it is loaded, or asked, when its answers are needed."""
    if is_url(name):
        assert model_name is not None
        return _Remote(config.answer_endpoint(name, model_name, key_env), kept)
    return _Local(models.find(name), config, kept)


def baseline_of(config: PairwiseConfig, kept: Path) -> Answerer:
    """Return what the model is judged against."""
    named = config.against
    path = Path(named)
    if named == "reference":
        return _Reference()
    if path.is_file():
        return _Written([path])
    if folder.stage_of(path) == STAGE:
        files = sorted((path / "answers").glob("*.jsonl"))
        if not files:
            raise UsageError(f"score: {path} holds no answers; name an output of suite pairwise")
        return _Written(files)
    return model_of(named, config.against_model, config.against_key_env, config, kept)


class _Reference:
    name, key = "reference", "reference"

    def answers(self, prompts: Sequence[Prompt]) -> list[Said]:
        return [_said(prompt.reference) for prompt in prompts]

    def close(self) -> None:
        pass


def _said(text: str | None) -> Said:
    if text is None:
        return Said("", "missing")
    text = whole(text).strip()
    return Said(text, "answered" if text else "empty")


class _Written:
    """Answers in files: rows `prompt, response`, or AlpacaEval's `instruction, output`."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self.name = files[0].name if len(files) == 1 else files[0].parents[1].name
        self.key = content_key([file_sha256(path) for path in files])
        self._by_key: dict[str, Said] | None = None

    def answers(self, prompts: Sequence[Prompt]) -> list[Said]:
        if self._by_key is None:
            self._by_key = dict(pair for path in self._files for pair in self._pairs(path))
        found = [self._by_key.get(prompt.key, _said(None)) for prompt in prompts]
        if found and all(one.status == "missing" for one in found):
            raise DataError(
                f"score: {self.name} answers none of the {len(found):,} prompts of set "
                f"{prompts[0].set}; the prompts' texts must be equal"
            )
        return found

    def _pairs(self, path: Path) -> Iterator[tuple[str, Said]]:
        for number, row in enumerate(rows_of(path)):
            prompt = row.get("prompt", row.get("instruction"))
            response = row.get("response", row.get("output"))
            if not isinstance(prompt, str) or not isinstance(response, str):
                raise DataError(
                    f"score: {path.name}, row {number}: `prompt` and `response` (or `instruction` "
                    "and `output`) must be texts"
                )
            status = row.get("status")
            said = _said(response)
            if not said.text and isinstance(status, str):  # as an earlier score wrote it
                said = Said("", status)
            yield text_key(whole(prompt)), said

    def close(self) -> None:
        pass


class _Remote:
    def __init__(self, config: EndpointConfig, kept: Path) -> None:
        self.name = config.model
        self.key = content_key(["endpoint", config.model_dump(mode="json")])
        self._config, self._kept = config, kept
        self._client: Client | None = None

    def answers(self, prompts: Sequence[Prompt]) -> list[Said]:
        self._client = self._client or Client(self._config, self._kept, STAGE, VERSION)
        requests = ((p.key, [{"role": "user", "content": p.text}]) for p in prompts)
        found = []
        with progress.progress(f"answers of {self.name}", len(prompts), "answers") as bar:
            for _, outcome in self._client.ask(requests, bar):
                if isinstance(outcome, Answer):
                    text, size = outcome.text.strip(), outcome.tokens_out
                    found.append(Said(text, "answered", outcome.finish == "length", size))
                else:
                    found.append(Said("", outcome.reason))
        return found

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class _Local:
    def __init__(self, source: models.Source, config: PairwiseConfig, kept: Path) -> None:
        self.name, self._source, self._config = source.name, source, config
        self._device, self._dtype = models.resolve(config.device, config.dtype)
        self.key = content_key([source.key, self._device, self._dtype])
        self._settings: dict[str, Any] = {
            "max_new_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "top_p": config.top_p if config.temperature else None,
            "seed": config.seed if config.temperature else 0,
        }
        self._kept = Answers(folder_for(kept, source.key, VERSION), STAGE)
        self._loaded: tuple[Any, Any] | None = None

    def answers(self, prompts: Sequence[Prompt]) -> list[Said]:
        _, tokenizer = self._load()
        ids = [chat.prompt([{"role": "user", "content": p.text}], tokenizer) for p in prompts]
        context = models.context(self._source.path)
        room = (context or 2**31) - self._config.max_new_tokens
        least = min(self._config.max_new_tokens, generate.LEAST)
        fits = [len(one) + least <= (context or 2**31) for one in ids]
        rows = [row for row, fit in enumerate(fits) if fit]
        found = {row: Said("", "over-length") for row, fit in enumerate(fits) if not fit}
        with progress.progress(f"answers of {self.name}", len(prompts), "answers") as bar:
            bar.advance(len(found))
            for group in generate.batches(
                [len(ids[row]) for row in rows], self._config.batch_size, room
            ):
                stopping.safe_point(STAGE)
                batch = [rows[i] for i in group]
                most = (context or 2**31) - max(len(ids[row]) for row in batch)
                made = self._batch([ids[row] for row in batch], most)
                found |= dict(zip(batch, made, strict=True))
                bar.advance(len(batch))
        return [found[row] for row in range(len(prompts))]

    def _batch(self, ids: list[list[int]], most: int) -> list[Said]:
        """Return the answers to a batch, asked of the model unless all are kept.

        The key of a kept answer names its whole batch: in another batch, float noise may turn a
        near-tie between two tokens.
        """
        batch = content_key([self._device, self._dtype, self._settings, ids])
        keys = [content_key([batch, row]) for row in range(len(ids))]
        if not all(key in self._kept for key in keys):
            settings = self._settings | {"max_new_tokens": min(most, self._config.max_new_tokens)}
            for key, one in zip(keys, generate.answer(*self._load(), ids, **settings), strict=True):
                self._kept.put(key, one)
        kept = (self._kept.get(key) for key in keys)
        return [
            Said(a.text, "answered" if a.text else "empty", a.finish == "length", a.tokens_out)
            for a in kept
        ]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            machine.keep_freed_memory()
            trust = self._config.trust_remote_code
            self._loaded = models.load(self._source, self._device, self._dtype, trust)
        return self._loaded

    def close(self) -> None:
        self._kept.close()
        self._loaded = None


def write(path: Path, prompts: Sequence[Prompt], said: Sequence[Said]) -> None:
    """Write one JSON line a prompt, in the order of the set's file."""
    pairs = sorted(zip(prompts, said, strict=True), key=lambda pair: pair[0].record)
    with path.open("w", encoding="utf-8") as handle:
        for prompt, one in pairs:
            line = {
                "set": prompt.set,
                "record": prompt.record,
                "prompt": prompt.text,
                "response": one.text,
                "status": one.status,
                "cut": one.cut,
                "tokens": one.tokens,
            }
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def read(path: Path) -> list[Said]:
    """Return the answers that `write` put there, in their order."""
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    return [Said(row["response"], row["status"], row["cut"], row["tokens"]) for row in rows]
