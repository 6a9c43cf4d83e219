"""The judge: its prompt, read from a file, and the verdict in its answer."""

from __future__ import annotations

import re
from pathlib import Path

from sft_diversity.core import resources
from sft_diversity.core.errors import UsageError
from sft_diversity.endpoint.answers import Answer, Outcome, without_thoughts

VERSION = "judge-1"
_PLACES = ("{prompt}", "{answer_a}", "{answer_b}")
_VERDICT = re.compile(r"\[\[\s*(A|B|C|tie|[AB]\s*>{1,2}\s*[AB]|A\s*=\s*B)\s*\]\]", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(i['’]?m (very )?sorry|sorry\b|i apologi[sz]e|i['’]m (unable|not able)|"
    r"(as an ai\b.{0,80})?i (can(no|['’])t|am unable|am not able|won['’]t|will not|must decline))",
    re.IGNORECASE | re.DOTALL,
)

#: Why a call gave no verdict.
NO_VERDICT = {
    "refused": "the judge, or its endpoint, will not judge this pair",
    "malformed": "its answer holds no verdict",
    "cut": "its answer was cut before a verdict; raise max_tokens of `judge`",
    "empty": "its answer holds no text",
    "gave-up": "no answer came in all the tries",
}


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


def fill(template: str, prompt: str, answer_a: str, answer_b: str) -> str:
    """Return the message to the judge; what looks like a place within a text stays as it is."""
    texts = dict(zip(_PLACES, (prompt, answer_a, answer_b), strict=True))
    return re.sub("|".join(map(re.escape, _PLACES)), lambda found: texts[found[0]], template)


def verdict(outcome: Outcome) -> str:
    """Return `A`, `B`, `tie`, or a key of `NO_VERDICT`.

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
