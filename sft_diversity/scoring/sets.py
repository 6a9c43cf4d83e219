"""Evaluation sets: what a config says of them, and the prompts and references they hold."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from sft_diversity.core import resources, seeding
from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import file_key, text_key

Kind = Literal["transfer", "related", "in-mix"]
Reference = Literal["short", "long"]


class Join(Config):
    """A second file whose row of the same key is merged under the first file's row."""

    file: str = Field(description="file in the evaluation folder")
    key: str = Field(description="path of the key, the same in both files")


class PromptSet(Config):
    """One set of prompts: a JSON list or JSON lines, plain or .gz, and where its parts lie.

    A path names a value inside a row: `messages.0.content` is the first message's content.
    """

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name in results and of files"
    )
    file: str = Field(description="file in the evaluation folder")
    prompt: str = Field(description="path of the prompt, one text")
    input: str | None = Field(default=None, description="path of an input that follows the prompt")
    response: str | None = Field(
        default=None, description="path of the baseline's answer, for `against: reference`"
    )
    join: Join | None = Field(default=None, description="a further file with the rest of each row")
    limit: int | None = Field(
        default=None, ge=1, description="take a seeded sample of this many rows"
    )


class EvalSet(PromptSet):
    """A set whose references are scored, and what kind of evidence it is."""

    name: str = Field(description="name in results")
    kind: Kind = Field(
        description="transfer: prompts of other origin than the corpus; related: of an origin the "
        "corpus also has; in-mix: drawn like the corpus"
    )
    reference: Reference = Field(description="whether references are short or long answers")
    prompt: str = Field(
        description="path of the prompt; a list of texts is a dialogue's user turns"
    )
    response: str = Field(description="path of the reference; a list for a dialogue")
    source: str | None = Field(
        default=None, description="path of the source that a domain is looked up by"
    )
    domains: dict[str, str] = Field(default_factory=dict, description="source -> domain")
    domain: str = Field(default="", description="domain of every row where `source` is not given")


AnySet = TypeVar("AnySet", bound=PromptSet)


@dataclass(frozen=True)
class Record:
    """One prompt with its reference; `messages` ends with the assistant turn that is scored."""

    set: str
    record: str
    kind: str
    reference: str
    domain: str
    prompt_key: str
    messages: list[dict[str, str]]


@dataclass(frozen=True)
class Prompt:
    """One prompt; `key` is equal in all sets that hold it, `reference` the set's own answer."""

    set: str
    record: int
    key: str
    text: str
    reference: str | None


def find_eval_dir(named: Path | None) -> Path:
    """Return the evaluation folder; a relative name counts from here, then from the checkout.

    Raises
    ------
    UsageError
        If it is nowhere.
    """
    checkout = Path(resources.__file__).resolve().parents[2]
    wanted = named or Path("data/eval")
    candidates = [wanted, checkout / wanted]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise UsageError(
        f"score: no evaluation sets in {' or '.join(map(str, candidates))}; "
        "name their folder with --eval-dir"
    )


def file_keys(sets: Sequence[PromptSet], eval_dir: Path) -> dict[str, str]:
    """Return the hash of every file that the sets are read from.

    Raises
    ------
    UsageError
        If one is not there.
    """
    names = [one.file for one in sets] + [one.join.file for one in sets if one.join is not None]
    keys = {}
    for name in dict.fromkeys(names):
        if not (eval_dir / name).is_file():
            raise UsageError(
                f"score: {eval_dir / name} is not there; name the folder of the sets with "
                "--eval-dir, or other sets in the config"
            )
        keys[name] = file_key(eval_dir / name)
    return keys


def distinct(sets: tuple[AnySet, ...] | None) -> tuple[AnySet, ...] | None:
    """Return the sets of a config, at least one and each once; None stands for the default."""
    names = [one.name for one in sets or ()]
    if len(set(names)) != len(names) or (sets is not None and not sets):
        raise ValueError("name at least one set, each once")
    return sets


def own_set(path: Path) -> tuple[PromptSet, Path]:
    """Return the set that a file of own prompts makes, and the folder it lies in."""
    if not path.is_file():
        raise UsageError(f"score: {path} is not there; name a file of prompts with --prompts")
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "own"
    return PromptSet(name=name, file=path.name, prompt="prompt", response="response"), path.parent


def read_set(eval_set: EvalSet, folder: Path, seed: int) -> list[Record]:
    """Return the set's records in file order, a seeded sample of them where it has a `limit`.

    A dialogue of several turns gives one record a turn, what came before being its context. Rows
    without a reference are kept, with an empty last turn: the scorer counts them.

    Raises
    ------
    UsageError
        If a file is missing.
    DataError
        If a file or a row is not as the config says.
    """
    rows = joined_rows(folder, eval_set.file, eval_set.join)
    records = [
        record for number, row in enumerate(rows) for record in _records(eval_set, number, row)
    ]
    if eval_set.limit is None or eval_set.limit >= len(records):
        return records
    rng = seeding.generator(seed, "score", "limit", eval_set.name)
    chosen = rng.choice(len(records), eval_set.limit, replace=False)
    return [records[i] for i in sorted(chosen)]


def read_prompts(
    prompt_set: PromptSet, folder: Path, seed: int, limit: int | None = None
) -> list[Prompt]:
    """Return a set's prompts in a seeded order of their own, cut at the limit.

    A larger limit continues the order of a smaller one, so that batches, and with them what is kept
    of earlier runs, stay the same. Raises as `read_set` does.
    """
    rows = joined_rows(folder, prompt_set.file, prompt_set.join)
    found = [_prompt(prompt_set, number, row) for number, row in enumerate(rows)]
    rng = seeding.generator(seed, "score", "prompts", prompt_set.name)
    order = rng.permutation(len(found)).tolist()
    limits = [one for one in (limit, prompt_set.limit) if one is not None]
    return [found[i] for i in order[: min(limits, default=len(order))]]


def _records(eval_set: EvalSet, number: int, row: dict[str, Any]) -> list[Record]:
    where = f"score: {eval_set.file}, row {number}"
    users = texts_of(value_at(row, eval_set.prompt), f"{where}: {eval_set.prompt}")
    answers = texts_of(value_at(row, eval_set.response), f"{where}: {eval_set.response}")
    if not users or not users[0].strip():
        raise DataError(f"{where}: no prompt at `{eval_set.prompt}`; mend the set's paths")
    extra = "" if eval_set.input is None else str(value_at(row, eval_set.input) or "")
    users[0] = _with_input(users[0], extra)
    domain = eval_set.domain
    if eval_set.source is not None:
        source = str(value_at(row, eval_set.source))
        domain = eval_set.domains.get(source, source)
    found, messages = [], []
    for turn, user in enumerate(users):
        messages.append({"role": "user", "content": user})
        answer = answers[turn] if turn < len(answers) else ""
        whole = [*messages, {"role": "assistant", "content": answer}]
        name = str(number) if len(users) == 1 else f"{number}.{turn}"
        key = text_key(*(f"{m['role']}:{m['content']}" for m in messages))
        found.append(
            Record(eval_set.name, name, eval_set.kind, eval_set.reference, domain, key, whole)
        )
        messages = whole
    return found


def _prompt(prompt_set: PromptSet, number: int, row: dict[str, Any]) -> Prompt:
    where = f"score: {prompt_set.file}, row {number}"
    text = value_at(row, prompt_set.prompt)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: no text at `{prompt_set.prompt}`; mend the set's paths")
    extra = value_at(row, prompt_set.input) if prompt_set.input else None
    text = whole_text(_with_input(text, extra if isinstance(extra, str) else ""))
    reference = value_at(row, prompt_set.response) if prompt_set.response else None
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"{where}: `{prompt_set.response}` is no text; mend the set's paths")
    return Prompt(prompt_set.name, number, text_key(text), text, reference)


def _with_input(text: str, extra: str) -> str:
    return f"{text}\n\n{extra}" if extra.strip() else text


def whole_text(text: str) -> str:
    """Return a text with halves of surrogate pairs, which are no characters, replaced."""
    return text.encode("utf-8", "replace").decode()


def joined_rows(folder: Path, file: str, join: Join | None) -> list[dict[str, Any]]:
    """Return the rows of `file`, each over the row of the joined file with the same key, if any."""
    rows = json_rows(folder / file)
    if join is None:
        return rows
    others = json_rows(folder / join.file)
    key = join.key
    by_key = {str(value_at(other, key)): other for other in others}
    joined = []
    for row in rows:
        name = str(value_at(row, key))
        if name not in by_key:
            raise DataError(
                f"score: {file}: `{key}` {name} is not in {join.file}; join on another key"
            )
        joined.append({**by_key[name], **row})
    return joined


def json_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON list or JSON lines, plain or .gz; at least one, all objects."""
    if not path.is_file():
        raise UsageError(
            f"score: {path} is not there; name the folder of the evaluation sets with --eval-dir"
        )
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
        if text.lstrip()[:1] == "[":
            rows = json.loads(text)
        else:  # lines end at \n only: U+2028 may stand inside a string
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, EOFError, ValueError, RecursionError) as fault:
        raise DataError(f"score: {path.name}: not a JSON list or JSON lines: {fault}") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"score: {path.name}: must hold at least one row, each a JSON object")
    return list(rows)


def value_at(row: Any, path: str) -> Any:
    """Return the value at a dotted path, or None where a step is missing."""
    for step in path.split("."):
        if isinstance(row, list) and step.isdigit() and int(step) < len(row):
            row = row[int(step)]
        elif isinstance(row, dict):
            row = row.get(step)
        else:
            return None
    return row


def texts_of(value: Any, where: str) -> list[str]:
    """Return a text, or a list of texts, as a list; what is missing is an empty text."""
    values = value if isinstance(value, list) else [value]
    if not all(item is None or isinstance(item, str | int | float) for item in values):
        raise DataError(f"{where}: a text or a list of texts is due, not {str(value)[:60]!r}")
    return ["" if item is None else str(item) for item in values]
