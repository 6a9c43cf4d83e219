"""Where answers come from: the set's own, a file, a model that runs here, an endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from sft_diversity.core import folder, progress
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_key, text_key
from sft_diversity.endpoint.answers import Answer
from sft_diversity.endpoint.client import Client
from sft_diversity.endpoint.config import EndpointConfig, check_endpoint, is_url
from sft_diversity.scoring import model as models
from sft_diversity.scoring.pairwise import generation
from sft_diversity.scoring.pairwise.config import PairwiseConfig
from sft_diversity.scoring.pairwise.generation import VERSION, Said
from sft_diversity.scoring.sets import Prompt, json_rows, whole_text

STAGE = "score"
Sets: TypeAlias = Mapping[str, Sequence[Prompt]]
Answered: TypeAlias = Generator[tuple[str, list[Said]], None, None]


@dataclass(frozen=True)
class Answerer:
    """Gives an answer to each prompt of some sets, in their order, set by set.

    `key` identifies what the answers depend on. A model is loaded, or asked, once the first set is
    due, and let go after the last.
    """

    name: str
    key: str
    answers: Callable[[Sets], Answered]


def check_answerer(
    name: str, model_name: str | None, key_env: str | None, config: PairwiseConfig,
    option: str = "--model-name",
) -> None:  # fmt: skip
    """Refuse what can be no model, without loading or asking anything."""
    models.check_answering(name, model_name, option)
    if is_url(name):
        check_endpoint(config.answer_endpoint(name, str(model_name), key_env), STAGE)


def check_baseline(config: PairwiseConfig) -> None:
    """Refuse a baseline that is not there, as `check_answerer` does."""
    path = Path(config.against)
    if config.against != "reference" and not path.is_file() and folder.stage_of(path) != STAGE:
        named = config.against_model, config.against_key_env
        check_answerer(config.against, *named, config, "--against-model")


def model_of(
    name: str, model_name: str | None, key_env: str | None, config: PairwiseConfig, kept: Path
) -> Answerer:
    """Return the model that is named."""
    if is_url(name):
        assert model_name is not None
        return _remote(config.answer_endpoint(name, model_name, key_env), kept)
    source = models.MODELS.find(name)
    device, dtype = models.resolve(config.device, config.dtype, source)

    def answers(sets: Sets) -> Answered:
        return generation.answers(source, device, dtype, config, kept, sets)

    return Answerer(source.name, content_key([source.key, device, dtype]), answers)


def baseline_of(config: PairwiseConfig, kept: Path) -> Answerer:
    """Return what the model is judged against."""
    named = config.against
    path = Path(named)
    if named == "reference":
        return Answerer(
            "reference",
            "reference",
            lambda sets: (
                (name, [_said(p.reference) for p in some]) for name, some in sets.items()
            ),
        )
    if path.is_file():
        return _written([path])
    if folder.stage_of(path) == STAGE:
        files = sorted((path / "answers").glob("*.jsonl"))
        if not files:
            raise UsageError(f"score: {path} holds no answers; name an output of suite pairwise")
        return _written(files)
    return model_of(named, config.against_model, config.against_key_env, config, kept)


def _said(text: str | None) -> Said:
    if text is None:
        return Said("", "missing")
    text = whole_text(text).strip()
    return Said(text, "answered" if text else "empty")


def _written(files: list[Path]) -> Answerer:
    """Return answers in files: rows `prompt, response`, or AlpacaEval's `instruction, output`."""
    name = files[0].name if len(files) == 1 else files[0].parents[1].name

    def answers(sets: Sets) -> Answered:
        by_key = dict(pair for path in files for pair in _pairs(path))
        for one, prompts in sets.items():
            found = [by_key.get(prompt.key, _said(None)) for prompt in prompts]
            if found and all(said.status == "missing" for said in found):
                raise DataError(
                    f"score: {name} answers none of the {len(found):,} prompts of set "
                    f"{one}; the prompts' texts must be equal"
                )
            yield one, found

    return Answerer(name, content_key([file_key(path) for path in files]), answers)


def _pairs(path: Path) -> Iterator[tuple[str, Said]]:
    for number, row in enumerate(json_rows(path)):
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
        yield text_key(whole_text(prompt)), said


def _remote(config: EndpointConfig, kept: Path) -> Answerer:
    def answers(sets: Sets) -> Answered:
        if not sets:
            return
        with Client(config, kept, STAGE, VERSION) as client:
            for name, prompts in sets.items():
                requests = ((p.key, [{"role": "user", "content": p.text}]) for p in prompts)
                with progress.progress(
                    f"answers of {config.model}", len(prompts), "answers"
                ) as bar:
                    found = [
                        Said(one.text.strip(), "answered", one.finish == "length", one.tokens_out)
                        if isinstance(one, Answer)
                        else Said("", one.reason)
                        for _, one in client.ask(requests, bar)
                    ]
                yield name, found

    key = content_key(["endpoint", config.model_dump(mode="json")])
    return Answerer(config.model, key, answers)


def write_answers(path: Path, prompts: Sequence[Prompt], said: Sequence[Said]) -> None:
    """Write one JSON line a prompt, in the order of the set's file."""
    pairs = sorted(zip(prompts, said, strict=True), key=lambda pair: pair[0].record)
    with path.open("w", encoding="utf-8") as handle:
        for prompt, one in pairs:
            line = {"set": prompt.set, "record": prompt.record, "prompt": prompt.text}
            line |= {"response": one.text, **asdict(one)}
            del line["text"]
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_answers(path: Path) -> list[Said]:
    """Return the answers that `write_answers` put there, in their order."""
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        return [Said(row["response"], row["status"], row["cut"], row["tokens"]) for row in rows]
    except (ValueError, LookupError, TypeError) as fault:
        raise DataError(f"score: {path} is damaged ({fault}); remove {path.parent}") from None
