"""Every rule against lm-evaluation-harness's own, where its packages are (extra `dev`).

What needs nltk's data, which it fetches, is compared by `benchmarks/generate_vs_harness.py`.
"""

from __future__ import annotations

import importlib.util
import random
import warnings

import pytest

from sft_diversity.scoring.generate import rules
from tests.scoring.generate.test_rules import CASES, ENGLISH

LACKING = [
    name
    for name in ("immutabledict", "langdetect", "lm_eval", "nltk")
    if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"{', '.join(LACKING)} not installed")
OTHERWISE = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
#: A letter that is none it replaces by a random one, in capitals it finds no language; a keyword
#: it takes for a pattern.
UNLIKE = ("keywords:letter_frequency", "change_case:english_capital")
NOISE = [*' \n,.*-[]<>"#a1', "\n\n", "***", "******", "p.s."]


@pytest.fixture(scope="module")
def kinds():
    """Return its rules, imported without fetching anything."""
    import nltk

    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched.setattr(nltk.data, "find", lambda *_: "")
        from langdetect import DetectorFactory
        from lm_eval.tasks.ifeval import instructions_registry
    DetectorFactory.seed = 0
    return instructions_registry.INSTRUCTION_DICT


def texts(given, dice):
    """Yield texts, and the same with some characters put in or taken out."""
    for text in (*given, ENGLISH):
        yield text
        for _ in range(40):
            changed = text
            for _ in range(dice.randint(1, 3)):
                at = dice.randrange(len(changed) + 1)
                changed = changed[:at] + dice.choice(NOISE) + changed[at + dice.randrange(2) :]
            yield changed


@pytest.mark.parametrize(
    ("rule", "arguments", "kept", "broken"),
    [
        one
        for one in CASES
        if one[0] not in (*OTHERWISE, *UNLIKE) and one[1].get("keyword") != "c++"
    ],
)
def test_verdicts_are_those_of_the_harness(kinds, rule, arguments, kept, broken):
    other = kinds[rule](rule)
    other.build_description(**arguments)
    for text in texts([one for one in (*kept, *broken) if len(one) < 1000], random.Random(rule)):
        if rule.startswith(("language", "change_case")) and text not in (*kept, *broken, ENGLISH):
            continue  # a letter more or less may make it another language
        mine = rules.follows_strictly(text, rule, arguments)
        assert mine == bool(text.strip() and other.check_following(text)), text
