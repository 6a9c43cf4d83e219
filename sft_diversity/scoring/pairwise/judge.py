"""The judge: its prompt, read from a file, what it is asked, and the verdict in its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft_diversity.core import progress, resources
from sft_diversity.core.errors import UsageError
from sft_diversity.endpoint.answers import Answer, Outcome, Request, without_thoughts
from sft_diversity.endpoint.client import Client
from sft_diversity.scoring.pairwise.generation import Said
from sft_diversity.scoring.pairwise.winrate import JUDGMENTS
from sft_diversity.scoring.sets import Prompt

VERSION = "judge-1"
_PLACES = ("{prompt}", "{answer_a}", "{answer_b}")
_ASIDE = ("over-length", "missing", "gave-up")  # no answer that a judge could weigh
_VERDICT = re.compile(r"\[\[\s*(A|B|C|tie|[AB]\s*>{1,2}\s*[AB]|A\s*=\s*B)\s*\]\]", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(i['’]?m (very )?sorry|sorry\b|i apologi[sz]e|i['’]m (unable|not able)|"
    r"(as an ai\b.{0,80})?i (can(no|['’])t|am unable|am not able|won['’]t|will not|must decline))",
    re.IGNORECASE | re.DOTALL,
)


def load_prompt(path: Path | None) -> str:
    """Return the judge's prompt, from a file or the one that we ship.

    Raises
    ------
    UsageError
        If the file is not there, or lacks the place of the prompt or of an answer.
    """
    path = path or resources.shipped("configs") / "score" / "judge-prompt.txt"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"score: judge's prompt {path}: {reason}") from None
    lacking = [place for place in _PLACES if place not in text]
    if lacking:
        raise UsageError(f"score: judge's prompt {path} lacks {', '.join(lacking)}; write it there")
    return text


def fill_prompt(template: str, prompt: str, answer_a: str, answer_b: str) -> str:
    """Return the message to the judge; what looks like a place within a text stays as it is."""
    texts = dict(zip(_PLACES, (prompt, answer_a, answer_b), strict=True))
    return re.sub("|".join(map(re.escape, _PLACES)), lambda found: texts[found[0]], template)


def verdict(outcome: Outcome) -> str:
    """Return `A`, `B`, `tie`, or why there is no verdict.

    That is `refused` (the judge, or its endpoint, will not judge this pair), `malformed` (its
    answer holds no verdict), `cut` (before a verdict; raise max_tokens of `judge`), `empty` or
    `gave-up` (no text, or no answer, came in all the tries).

    The last verdict counts: a judge that reasons may weigh others before it. `[[A]]`, `[[B]]`,
    `[[C]]` or `[[tie]]`, and Arena-Hard's `[[A>>B]]` to `[[B>>A]]`, whose strength is not used.
    """
    if not isinstance(outcome, Answer):
        return outcome.reason
    text = without_thoughts(outcome.text)
    found = _VERDICT.findall(text)
    if found:
        return _side(re.sub(r"\s", "", found[-1]).upper())
    if outcome.finish == "content_filter" or _REFUSAL.match(text):
        return "refused"
    return "cut" if outcome.finish == "length" else "malformed"


def _side(word: str) -> str:
    if word in ("C", "TIE", "A=B"):
        return "tie"
    return word[0] if len(word) == 1 or word[0] != word[-1] else "malformed"  # [[A>A]]


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt."""

    prompt: Prompt
    model: Said
    baseline: Said

    @property
    def status(self) -> str:
        """How the pair enters the win rate, or why it does not."""
        if self.model.status in _ASIDE:
            return self.model.status
        if self.baseline.status in _ASIDE:
            return f"baseline-{self.baseline.status}"
        if self.model.text == self.baseline.text:
            return "same"
        if not self.model.text or not self.baseline.text:
            return "baseline-empty" if self.model.text else "model-empty"
        return "judged"


def judge(name: str, pairs: Sequence[Pair], template: str, client: Client) -> pa.Table:
    """Return a set's table of JUDGMENTS; a pair is asked for twice, its answers swapped."""
    asked = [pair for pair in pairs if pair.status == "judged"]

    def requests() -> Iterator[Request]:
        for pair in asked:
            texts = pair.model.text, pair.baseline.text
            for first, second in (texts, texts[::-1]):
                message = fill_prompt(template, pair.prompt.text, first, second)
                yield pair.prompt.key, [{"role": "user", "content": message}]

    verdicts: list[tuple[str, str]] = []
    with progress.progress(f"judge {name}", 2 * len(asked), "verdicts") as bar:
        for number, (_, outcome) in enumerate(client.ask(requests(), bar)):
            sides = ("baseline", "model") if number % 2 else ("model", "baseline")
            said = verdict(outcome)
            text = outcome.text if isinstance(outcome, Answer) else outcome.detail
            verdicts.append((dict(zip("AB", sides, strict=True)).get(said, said), text))
    rest = iter(verdicts)
    return pa.Table.from_pylist([_row(pair, rest) for pair in pairs], schema=JUDGMENTS)


def _row(pair: Pair, verdicts: Iterator[tuple[str, str]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "set": pair.prompt.set,
        "record": str(pair.prompt.record),
        "prompt": pair.prompt.key,
        "status": pair.status,
        "model_chars": len(pair.model.text),
        "baseline_chars": len(pair.baseline.text),
    }
    if pair.status == "judged":
        row["first"], row["first_text"] = next(verdicts)
        row["second"], row["second_text"] = next(verdicts)
    return row
