"""Verdicts of `score --suite generate` against lm-evaluation-harness's own on the same answers.

    NLTK_DATA=DIR python benchmarks/generate_vs_harness.py SCORE      # an output of the suite

Needs lm-eval, nltk, langdetect and immutabledict. lm-eval's file of rules fetches nltk's punkt_tab
when it is imported: DIR must hold `tokenizers/punkt_tab`, else the rules that count sentences and
capital words are left out. Answers are those of SCORE to IFEval's prompts, to their own rules and
to others' drawn at random; texts made to keep to a rule; and these with a few characters changed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sft_diversity.core import machine
from sft_diversity.scoring.generate import rules
from sft_diversity.scoring.sets import find_eval_dir, json_rows

RESULT = Path(__file__).parent / "results/generate_vs_harness.json"
NEEDS_PUNKT = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
NOISE = [*" \n,.*-[]<>\"'#!?:{}1aAé", "\n\n", "***", "******", "P.S.", "```", "U.S. "]
PLAIN = (
    "The boat left at dawn and nobody saw it come back. We waited by the old pier. "
    "Some said the wind had turned. Others kept looking at the sea until it was dark."
)
#: The same in the languages that prompts ask for.
ABROAD = {
    "ar": "غادر القارب عند الفجر ولم يره أحد يعود.",
    "bg": "Лодката тръгна на разсъмване и никой не я видя да се връща.",
    "bn": "নৌকাটি ভোরে চলে গেল এবং কেউ তাকে ফিরে আসতে দেখেনি।",
    "de": "Das Boot fuhr im Morgengrauen ab und niemand sah es zurückkommen.",
    "fa": "قایق سپیده دم رفت و هیچ کس بازگشت آن را ندید.",
    "fi": "Vene lähti aamunkoitteessa eikä kukaan nähnyt sen palaavan.",
    "gu": "હોડી સવારે નીકળી ગઈ અને કોઈએ તેને પાછી આવતી જોઈ નહીં.",
    "hi": "नाव भोर में चली गई और किसी ने उसे लौटते नहीं देखा।",
    "it": "La barca partì all'alba e nessuno la vide tornare.",
    "kn": "ದೋಣಿ ಮುಂಜಾನೆ ಹೊರಟಿತು ಮತ್ತು ಅದು ಹಿಂತಿರುಗುವುದನ್ನು ಯಾರೂ ನೋಡಲಿಲ್ಲ.",
    "ko": "배는 새벽에 떠났고 아무도 돌아오는 것을 보지 못했다.",
    "mr": "होडी पहाटे निघाली आणि ती परत येताना कोणी पाहिली नाही.",
    "ne": "डुङ्गा बिहानै गयो र कसैले त्यो फर्किएको देखेन।",
    "pa": "ਕਿਸ਼ਤੀ ਸਵੇਰੇ ਚਲੀ ਗਈ ਅਤੇ ਕਿਸੇ ਨੇ ਉਸਨੂੰ ਵਾਪਸ ਆਉਂਦੇ ਨਹੀਂ ਦੇਖਿਆ।",
    "pt": "O barco partiu ao amanhecer e ninguém o viu voltar.",
    "ru": "Лодка ушла на рассвете, и никто не видел, как она вернулась.",
    "sw": "Mashua iliondoka alfajiri na hakuna mtu aliyeiona ikirudi.",
    "ta": "படகு விடியற்காலையில் புறப்பட்டது, அது திரும்புவதை யாரும் பார்க்கவில்லை.",
    "te": "పడవ తెల్లవారుజామున వెళ్ళిపోయింది మరియు అది తిరిగి రావడం ఎవరూ చూడలేదు.",
    "th": "เรือออกไปตอนรุ่งสางและไม่มีใครเห็นมันกลับมา เรารออยู่ที่ท่าเรือเก่าจนมืด",
    "ur": "کشتی صبح سویرے روانہ ہوئی اور کسی نے اسے واپس آتے نہیں دیکھا۔",
    "vi": "Con thuyền rời bến lúc bình minh và không ai thấy nó trở về.",
}  # fmt: skip
Arguments = dict[str, Any]

#: Texts that keep to a rule, more or less, made of a plain one.
MADE: dict[str, Callable[[str, Arguments], str]] = {
    "keywords:existence": lambda t, a: t + " " + " ".join(a["keywords"]),
    "keywords:frequency": lambda t, a: t + f" {a['keyword']}." * a["frequency"],
    "keywords:forbidden_words": lambda t, a: t + f" {a['forbidden_words'][-1]}s",
    "keywords:letter_frequency": lambda t, a: t + a["letter"] * a["let_frequency"],
    "language:response_language": lambda t, a: ABROAD[a["language"]],
    "length_constraints:number_sentences": lambda t, a: "We saw it. " * a["num_sentences"],
    "length_constraints:number_paragraphs": lambda t, a: "\n***\n".join([t] * a["num_paragraphs"]),
    "length_constraints:number_words": lambda t, a: "word " * a["num_words"],
    "length_constraints:nth_paragraph_first_word": lambda t, a: "\n\n".join(
        [f"{a['first_word'].title()}, {t}"] * a["num_paragraphs"]
    ),
    "detectable_content:number_placeholders": lambda t, a: t + "[name] " * a["num_placeholders"],
    "detectable_content:postscript": lambda t, a: f"{t}\n{a['postscript_marker']} more",
    "detectable_format:number_bullet_lists": lambda t, a: t + "\n* one" * a["num_bullets"],
    "detectable_format:constrained_response": lambda t, a: t + " My answer is maybe.",
    "detectable_format:number_highlighted_sections": lambda t, a: (
        t + " *one*" * a["num_highlights"]
    ),
    "detectable_format:multiple_sections": lambda t, a: "".join(
        f"{a['section_spliter']} {i + 1}\n{t}\n" for i in range(a["num_sections"])
    ),
    "detectable_format:json_format": lambda t, a: f"```json\n{json.dumps({'text': t})}\n```",
    "detectable_format:title": lambda t, a: f"<<The boat>>\n{t}",
    "combination:two_responses": lambda t, a: f"{t}\n******\n{t} Again.",
    "combination:repeat_prompt": lambda t, a: f"{a['prompt_to_repeat']}\n\n{t}",
    "startend:end_checker": lambda t, a: f"{t} {a['end_phrase']}",
    "change_case:capital_word_frequency": lambda t, a: t + " NASA" * a["capital_frequency"],
    "change_case:english_capital": lambda t, a: t.upper(),
    "change_case:english_lowercase": lambda t, a: t.lower(),
    "punctuation:no_comma": lambda t, a: t.replace(",", ""),
    "startend:quotation": lambda t, a: f'"{t}"',
}


def harness(punkt: bool) -> dict[str, Any]:
    """Return lm-eval's rules by name; without `punkt` what fetches it is kept from doing so."""
    import nltk
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0  # without a seed its verdict on a short text differs from call to call
    if not punkt:
        nltk.download = lambda *_: None
    from lm_eval.tasks.ifeval import instructions_registry

    found: dict[str, Any] = instructions_registry.INSTRUCTION_DICT
    return found


def theirs(kinds: dict[str, Any], rule: str, arguments: Arguments, text: str) -> bool:
    """Return lm-eval's strict verdict."""
    one = kinds[rule](rule)
    one.build_description(**{name: value for name, value in arguments.items() if value})
    return bool(text.strip() and one.check_following(text))


def theirs_loosely(kinds: dict[str, Any], rule: str, arguments: Arguments, text: str) -> bool:
    """Return lm-eval's loose verdict, by its own function."""
    from lm_eval.tasks.ifeval import utils

    row = utils.InputExample(0, [rule], "", [arguments])
    return bool(utils.test_instruction_following_loose(row, text).follow_all_instructions)


def changed(text: str, dice: random.Random) -> str:
    """Return a text with up to four characters taken out, put in or written in the other case."""
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(text) + 1)
        how = dice.randrange(4)
        if how == 0:
            text = text[:at] + text[at + dice.randint(1, 3) :]
        elif how == 1:
            text = text[:at] + text[at : at + 12].swapcase() + text[at + 12 :]
        else:
            text = text[:at] + dice.choice(NOISE) + text[at:]
    return text


def cases(
    answers: list[dict[str, Any]], rows: list[dict[str, Any]], each: int, dice: random.Random
) -> Iterator[tuple[str, str, Arguments, str]]:
    """Yield kind of case, rule, arguments and text."""
    asked: dict[str, list[Arguments]] = {}
    for row in rows:
        for rule, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            asked.setdefault(rule, []).append(given)
    for told in answers:
        row = rows[told["record"]]
        for rule, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            yield "own", rule, given, told["answer"]
    texts = [told["answer"] for told in answers if told["answer"]]
    for rule, given in sorted(asked.items()):
        for _ in range(each):
            arguments, text = dice.choice(given), dice.choice(texts)
            yield "crossed", rule, arguments, text
            base = dice.choice([PLAIN, text])
            made = MADE[rule](base, arguments)
            yield "made", rule, arguments, made
            yield "changed", rule, arguments, changed(made, dice)


def main() -> None:
    """Compare, print the counts by rule, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("score", type=Path)
    parser.add_argument("--set", default="ifeval")
    parser.add_argument("--each", type=int, default=150, help="cases of each kind and rule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
        punkt = True
    except LookupError:
        punkt = False
    kinds = harness(punkt)
    rows = json_rows(find_eval_dir(None) / "ifeval_input_data.jsonl.gz")
    lines = (asked.score / f"answers/{asked.set}.jsonl").read_text("utf-8").split("\n")
    answers = [json.loads(line) for line in lines if line]
    found: dict[str, dict[str, Any]] = {}
    left_out = 0
    for kind, rule, arguments, text in cases(answers, rows, asked.each, random.Random(asked.seed)):
        if not punkt and rule in NEEDS_PUNKT:
            continue
        if rule == "keywords:letter_frequency" and not arguments["letter"].isalpha():
            left_out += 1  # lm-eval draws a letter at random instead
            continue
        own = found.setdefault(rule, {"verdicts": 0, "equal": 0, "kept": 0, "differ": []})
        mine = (
            rules.follows_strictly(text, rule, arguments),
            rules.follows_loosely(text, rule, arguments),
        )
        other = (
            theirs(kinds, rule, arguments, text),
            theirs_loosely(kinds, rule, arguments, text),
        )
        for how, a, b in zip(("strict", "loose"), mine, other, strict=True):
            own["verdicts"] += 1
            own["kept"] += b
            own["equal"] += a == b
            by_kind = own.setdefault(kind, [0, 0])
            by_kind[0] += a == b
            by_kind[1] += 1
            if a != b and len(own["differ"]) < 4:
                shown = {"kind": kind, "how": how, "ours": a, "theirs": b}
                own["differ"].append(shown | {"arguments": arguments, "text": text[:300]})
    total = sum(one["verdicts"] for one in found.values())
    equal = sum(one["equal"] for one in found.values())
    result = {
        "command": f"python benchmarks/generate_vs_harness.py SCORE --each {asked.each}",
        "answers": len(answers),
        "punkt": punkt,
        "left_out_random_letter": left_out,
        "verdicts": total,
        "equal": equal,
        "rules": dict(sorted(found.items())),
        "machine": machine.measured_on(),
    }
    asked.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for rule, one in sorted(found.items()):
        print(f"{rule:48} {one['equal']:6,} of {one['verdicts']:6,} equal, {one['kept']:6,} kept")
    print(f"{equal:,} of {total:,} verdicts equal", file=sys.stderr)


if __name__ == "__main__":
    main()
