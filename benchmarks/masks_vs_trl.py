"""Which tokens are trained, beside TRL's own masks: every chat template that its package ships.

    python benchmarks/masks_vs_trl.py [--dialogues 1000] [--seed 0]

Random dialogues of one, three and five exchanges, words from the sample's texts among line breaks,
marks and white space at their ends. The tokenizer is a small byte-level BPE to which all control
tokens of all templates were added. TRL's mask is what its trainer uses: the template's own marks,
or those of the template that it keeps for training. Per family: dialogues with equal masks, those
that differ in what TRL trains behind the token that ends a turn, and those that differ otherwise;
where TRL has nothing, dialogues whose trained text is the answers and the tokens that end them.
Writes benchmarks/results/masks_vs_trl.json.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import trl
from trl.chat_template_utils import get_training_chat_template

from sft_diversity.core import chat, folder, machine
from sft_diversity.core.errors import DataError
from tests import tiny

RESULTS = Path(__file__).parent / "results" / "masks_vs_trl.json"
FILES = {
    path.stem: path.read_text("utf-8")
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    if not re.match("idefics|llava|smolvlm", path.name)  # of images
}
PIECES = [
    "rain", "the sea", "1,024", "naïve", "日本", "—", "\n", "\n\n", "  ", "`x = 1`", "**bold**",
    "[/x]", "{{ y }}", "Why?", "Because.", "…", "\t", "🦉", "A:", "user", "assistant", "model",
]  # fmt: skip


def dialogues(count: int, seed: int) -> Iterator[list[dict[str, str]]]:
    """Yield dialogues of one, three and five exchanges in turn; no answer is white space alone."""
    drawn = np.random.default_rng(seed)
    for number in range(count):
        turns = []
        for place in range(2 * (1, 3, 5)[number % 3]):
            words = drawn.choice(PIECES, drawn.integers(1, 12)).tolist()
            text = " ".join(words) if drawn.random() < 0.7 else "".join(words)
            text = text if text.strip() else "Yes."
            turns.append({"role": ("user", "assistant")[place % 2], "content": text})
        yield turns


def compared(tokenizer: Any, template: str | None, turns: list[dict[str, str]]) -> str:
    """Return how the mask of one dialogue compares."""
    ids, labels = chat.render(turns, tokenizer)
    ours = [label != chat.IGNORED for label in labels]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    if template is None:
        trained = tokenizer.decode([t for t in labels if t != chat.IGNORED])
        answers = [turn["content"].strip() for turn in turns[1::2]]
        at = 0
        for answer in answers:
            at = trained.find(answer, at)
            if at < 0:
                return "answer missing"
            at += len(answer)
        asked = any(turn["content"] not in trained for turn in turns[::2])
        return "answers alone" if ids[-1] in special and (asked or len(turns) == 2) else "other"
    marked = tokenizer.apply_chat_template(
        turns, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    theirs = [bool(mark) for mark in marked["assistant_masks"]]
    if ids != marked["input_ids"][: len(ids)]:
        return "other tokens"
    ours += [False] * (len(theirs) - len(ours))
    if ours == theirs:
        return "equal"
    last = None
    for token, mine, trls in zip(marked["input_ids"], ours, theirs, strict=True):
        if mine and not trls:
            return "other"
        if trls and not mine:
            blank = token in special or not tokenizer.decode([token]).strip()
            if last not in special or not blank:
                return "other"
        last = token if mine else last
    return "equal but for what follows an end of turn"


def main() -> None:
    """Compare all families and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dialogues", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    tokenizer = tiny.tokenizer()
    marks = re.findall(r"<[|｜]?/?\w[\w▁]*[|｜]?>", "".join(FILES.values()))
    tokenizer.add_tokens(sorted(set(marks)), special_tokens=True)
    started, families = time.monotonic(), {}
    for family, text in FILES.items():
        if family.endswith("_training"):
            continue
        tokenizer.chat_template = text
        try:
            template = get_training_chat_template(tokenizer) or text
        except ValueError:
            template = None
        counts: Counter[str] = Counter()
        for turns in dialogues(asked.dialogues, asked.seed):
            try:
                counts[compared(tokenizer, template, turns)] += 1
            except (DataError, jinja2.TemplateError) as fault:
                counts[f"refused: {str(fault)[:80]}"] += 1
        families[family] = {"trl": template is not None, **counts}
        print(family, families[family], flush=True)
    result = {
        "dialogues": asked.dialogues, "seed": asked.seed, "trl": trl.__version__,
        "seconds": round(time.monotonic() - started), "machine": machine.measured_on(),
        "families": families,
    }  # fmt: skip
    RESULTS.write_text(folder.dump_json(json.loads(json.dumps(result))), "utf-8")


if __name__ == "__main__":
    main()
