"""IFEval's 25 rules: whether an answer keeps to an instruction that can be checked by program.

Written from the paper's list of verifiable instructions, arXiv 2311.07911, and the wording of its
prompts; a rule's arguments have the names that the rows of the prompts give them. Where that leaves
room, a rule decides as the verifiers in use do, odd as it may be: `docs/scoring.md` names the
places, and `benchmarks/generate_vs_harness.py` compares verdicts. What counts sentences, capital
words and languages is in `reading`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sft_diversity.core.errors import DataError
from sft_diversity.scoring.generate.reading import capital_words, language_of, sentences

Rule: TypeAlias = Callable[..., bool]
_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "at least": lambda count, bound: count >= bound,
    "less than": lambda count, bound: count < bound,
}
_CLOSED_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}


def follows_strictly(answer: str, rule: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether an answer, as it is, keeps to a rule; an empty one keeps to none."""
    return bool(answer.strip()) and RULES[rule](answer, **arguments)


def follows_loosely(answer: str, rule: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether an answer keeps to a rule, its frame apart.

    It may do so without its first line, its last, or both, and without the stars of Markdown: an
    opening phrase or bold print are no fault then.
    """
    lines = answer.split("\n")
    inner = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    plain = dict.fromkeys((answer, *inner))
    return any(
        follows_strictly(one, rule, arguments)
        for text in plain
        for one in dict.fromkeys((text, text.replace("*", "")))
    )


def check_row(rules: Any, arguments: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the rules of a row of prompts with their arguments, those that are null left out.

    Raises
    ------
    DataError
        If there is no such rule, or its arguments are others.
    """
    paired = isinstance(rules, list) and isinstance(arguments, list)
    if not paired or not rules or len(rules) != len(arguments):
        raise DataError(
            f"{where}: `instruction_id_list` and `kwargs` must be lists of one length; "
            "is this a set whose `check` is constraints?"
        )
    found = []
    for rule, given in zip(rules, arguments, strict=True):
        if not isinstance(rule, str) or rule not in RULES:
            raise DataError(f"{where}: no rule {rule!r:.60}; known: {', '.join(sorted(RULES))}")
        if not isinstance(given, dict):
            raise DataError(f"{where}: the arguments of {rule} must be an object")
        own = {name: value for name, value in given.items() if value is not None}
        _check_arguments(rule, own, where)
        found.append((rule, own))
    return found


def _check_arguments(rule: str, own: Mapping[str, Any], where: str) -> None:
    """Refuse arguments of another name, or ones that the rule stumbles over."""
    try:
        inspect.signature(RULES[rule]).bind("", **own)
        RULES[rule]("Tried on a text.", **own)
    except (TypeError, KeyError, AttributeError) as fault:
        raise DataError(f"{where}: the arguments of {rule} do not fit it: {fault}") from None


# ---- keywords


def existence(answer: str, keywords: Sequence[str]) -> bool:
    """Each of these is in it, inside other words too, in whatever case."""
    return all(one.lower() in answer.lower() for one in keywords)


def frequency(answer: str, keyword: str, frequency: int, relation: str) -> bool:
    """A word is in it so often, inside other words too."""
    return _RELATIONS[relation](answer.lower().count(keyword.lower()), frequency)


def forbidden_words(answer: str, forbidden_words: Sequence[str]) -> bool:
    """None of these is in it as a word of its own."""
    return not any(
        re.search(rf"\b{re.escape(one)}\b", answer, re.IGNORECASE) for one in forbidden_words
    )


def letter_frequency(answer: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A character is in it so often, in whatever case."""
    return _RELATIONS[let_relation](answer.lower().count(letter.lower()), let_frequency)


# ---- language and case


def response_language(answer: str, language: str) -> bool:
    """It is in that language (a code of ISO 639-1); a text without a letter might be."""
    return language_of(answer) in (language, None)


def english_capital(answer: str) -> bool:
    """It is in English, and in capitals alone."""
    return answer.isupper() and response_language(answer, "en")


def english_lowercase(answer: str) -> bool:
    """It is in English, and without capitals."""
    return answer.islower() and response_language(answer, "en")


def capital_word_frequency(answer: str, capital_frequency: int, capital_relation: str) -> bool:
    """So many of its words are in capitals."""
    return _RELATIONS[capital_relation](capital_words(answer), capital_frequency)


# ---- length


def number_sentences(answer: str, num_sentences: int, relation: str) -> bool:
    """It has so many sentences."""
    return _RELATIONS[relation](len(sentences(answer)), num_sentences)


def number_words(answer: str, num_words: int, relation: str) -> bool:
    """It has so many words: runs of letters, digits and underscores."""
    return _RELATIONS[relation](len(re.findall(r"\w+", answer)), num_words)


def number_paragraphs(answer: str, num_paragraphs: int) -> bool:
    """It has just so many paragraphs, `***` between them and none empty."""
    parts = _divided(answer, "***")
    return len(parts) == num_paragraphs and all(parts)


def nth_paragraph_first_word(
    answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """It has just so many paragraphs, blank lines between them, and that one begins so.

    A further blank line counts as a paragraph for the place, not for the number.
    """
    parts = [part.strip() for part in answer.split("\n\n")]
    filled = sum(map(bool, parts))
    if filled != num_paragraphs or not 1 <= nth_paragraph <= filled or not parts[nth_paragraph - 1]:
        return False
    opening = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", opening)[0].lower() == first_word.lower()


# ---- content and form that can be found


def number_placeholders(answer: str, num_placeholders: int) -> bool:
    """It has at least so many [placeholders]."""
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


def postscript(answer: str, postscript_marker: str) -> bool:
    """It has a postscript with that marker."""
    marker = _POSTSCRIPTS.get(postscript_marker, re.escape(postscript_marker.lower()))
    return re.search(marker, answer.lower()) is not None


def number_bullet_lists(answer: str, num_bullets: int) -> bool:
    """It has just so many lines that begin with one star or a dash."""
    stars = re.findall(r"^\s*\*[^*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", answer, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def constrained_response(answer: str) -> bool:
    """One of the three answers that were offered is in it."""
    return any(one in answer for one in _CLOSED_ANSWERS)


def number_highlighted_sections(answer: str, num_highlights: int) -> bool:
    """At least so many parts of its lines stand between single or double stars."""
    single = re.findall(r"\*([^\n*]*)\*", answer)
    double = re.findall(r"\*\*([^\n*]*)\*\*", answer)
    return sum(bool(one.strip()) for one in (*single, *double)) >= num_highlights


def multiple_sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    """It has at least so many headings of that word and a number."""
    return len(re.findall(rf"{re.escape(section_spliter)}\s?\d+", answer)) >= num_sections


def json_format(answer: str) -> bool:
    """The whole of it is JSON; a fence of Markdown may be about it."""
    inner = answer.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        inner = inner.removeprefix(fence)
    try:
        json.loads(inner.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(answer: str) -> bool:
    """It has a <<title>> in one line."""
    found = re.findall(r"<<[^\n]+>>", answer)
    return any(one.lstrip("<").rstrip(">").strip() for one in found)


def two_responses(answer: str) -> bool:
    """It is two answers that differ, six stars between them."""
    parts = _divided(answer, "******")
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def repeat_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """It begins with the request, word for word."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(answer: str, end_phrase: str) -> bool:
    """It ends with that phrase."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def no_comma(answer: str) -> bool:
    """There is no comma in it."""
    return "," not in answer


def quotation(answer: str) -> bool:
    """All of it stands between double quotation marks."""
    whole = answer.strip()
    return len(whole) > 1 and whole[0] == whole[-1] == '"'


def _divided(answer: str, by: str) -> list[str]:
    """Return the parts between dividers, bare; one before the first part or after the last is none.

    An empty part in the middle stays.
    """
    parts = [part.strip() for part in answer.split(by)]
    first = 0 if parts[0] else 1
    return parts[first : len(parts) if parts[-1] else -1]


#: The rules by the name that rows of prompts give them.
RULES: dict[str, Rule] = {
    f"{family}:{rule.__name__}": rule
    for family, rules in {
        "change_case": (capital_word_frequency, english_capital, english_lowercase),
        "combination": (repeat_prompt, two_responses),
        "detectable_content": (number_placeholders, postscript),
        "detectable_format": (
            constrained_response, json_format, multiple_sections, number_bullet_lists,
            number_highlighted_sections, title,
        ),
        "keywords": (existence, forbidden_words, frequency, letter_frequency),
        "language": (response_language,),
        "length_constraints": (
            nth_paragraph_first_word, number_paragraphs, number_sentences, number_words,
        ),
        "punctuation": (no_comma,),
        "startend": (end_checker, quotation),
    }.items()
    for rule in rules
}  # fmt: skip
