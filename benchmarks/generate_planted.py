"""Planted skills: does `score --suite generate` find what a subset teaches, and how much of it?

    python benchmarks/generate_planted.py [--work .planted] [--shares 0 25 50 100] [--seeds 0 1 2]

N short samples of checked-in sets. In a share of them the instruction asks for one of three
forms that IFEval's rules check, and the response is brought into it; the others stay as they are.
The same samples, the same steps: only the share differs. tiny-base is fine-tuned on each subset and
scored on other prompts that ask for these forms, and on prompts that ask for two forms that no
subset holds. A call goes on where the last one stopped. Writes results/generate_planted.json.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import sft_diversity.verbs.training as verbs
from sft_diversity.core import folder, machine, progress
from sft_diversity.scoring.generate.reading import sentences
from sft_diversity.scoring.sets import json_rows

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results/generate_planted.json"
N, HELD_OUT, WORDS = 300, 20, 16
FILES = (
    "eval/heldout_2000.jsonl.gz", "eval/alpaca_eval_text_davinci_003.json.gz",
    "sample/dolly_3k/dolly_3k.json.gz", "sample/alpaca_en_demo/alpaca_en_demo.json.gz",
)  # fmt: skip
#: What the instruction asks for, the rule and its arguments, and how a response is brought into it.
PLANTED: list[tuple[str, str, dict[str, Any], str]] = [
    ("Put the whole answer in double quotation marks.", "startend:quotation", {}, '"{}"'),
    ("Begin with a title in double angular brackets.", "detectable_format:title", {},
     "<<An answer>>\n{}"),
    ("End with the words: Any other questions?", "startend:end_checker",
     {"end_phrase": "Any other questions?"}, "{} Any other questions?"),
]  # fmt: skip
#: Asked for in no subset.
ABSENT: list[tuple[str, str, dict[str, Any]]] = [
    ("Answer in JSON.", "detectable_format:json_format", {}),
    ("Give two answers with six stars between them.", "combination:two_responses", {}),
]


def samples() -> list[dict[str, str]]:
    """Return instructions and the first sentences of their answers, both short, as published."""
    rows = [row for name in FILES for row in json_rows(ROOT / "data" / name)]
    found = {}
    for row in rows:
        text = " ".join(row["instruction"].split())
        first = (sentences(row["output"].strip()) or [""])[0]
        short = len(text.split()) <= WORDS and 0 < len(first.split()) <= WORDS
        if short and not row.get("input") and not set('"<*\n') & set(first):
            found[text] = {"instruction": text, "output": first}
    return list(found.values())


def subset(rows: list[dict[str, str]], share: int, seed: int) -> list[dict[str, str]]:
    """Return the rows, of which the first `share` percent in a seeded order hold a planted form."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    made = [dict(row) for row in rows]
    for place, row in enumerate(order[: round(len(rows) * share / 100)]):
        asked, _, _, form = PLANTED[place % len(PLANTED)]
        made[row]["instruction"] += f" {asked}"
        made[row]["output"] = form.format(made[row]["output"])
    return made


def prompts(rows: list[dict[str, str]], forms: list[Any]) -> list[dict[str, Any]]:
    """Return held-out prompts: each form asked for of each row."""
    return [
        {
            "prompt": f"{row['instruction']} {form[0]}",
            "instruction_id_list": [form[1]],
            "kwargs": [form[2]],
        }
        for form in forms
        for row in rows
    ]


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def run(place: Path, rows: list[dict[str, str]], share: int, seed: int) -> dict[str, Any]:
    """Fine-tune on one subset, score the model, return the figures."""
    name = f"{share}-{seed}"
    data = place / f"subsets/{name}.jsonl"
    if not data.is_file():
        write(data, subset(rows, share, seed))
    model = verbs.finetune(
        data, out=place / f"models/{name}", work=place / "work", epochs=3, batch_size=8,
        max_length=128, lr=1e-3, train_seed=seed, dtype="float32",
    )["out"]  # fmt: skip
    scores = verbs.score(
        model, out=place / f"scores/{name}", work=place / "work", suite="generate",
        eval_dir=place / "eval", max_new_tokens=32, batch_size=100, dtype="float32",
        sets=[
            {"name": part, "file": f"{part}.jsonl", "prompt": "prompt", "check": "constraints"}
            for part in ("planted", "absent")
        ],
    )  # fmt: skip
    found: dict[str, Any] = {"share": share, "seed": seed}
    for part in ("planted", "absent"):
        one = scores["sets"][part]
        found[part] = {name: one["instruction_strict"][name] for name in ("value", "low", "high")}
        found[part]["ended"] = one["ended"]["value"]
    found["rules"] = {
        rule: round(100 * one["strict"] / one["asked"], 1) for rule, one in scores["rules"].items()
    }
    found["tokens_per_s"] = folder.read_manifest(Path(scores["out"]))["run"].get("tokens_per_s")
    return found


def main() -> None:
    """Make what is not made yet, print the shares, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".planted"))
    parser.add_argument("--shares", type=int, nargs="+", default=[0, 25, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    rows = samples()
    random.Random(0).shuffle(rows)
    held_out, rows = rows[:HELD_OUT], rows[HELD_OUT : HELD_OUT + N]
    write(asked.work / "eval/planted.jsonl", prompts(held_out, PLANTED))
    write(asked.work / "eval/absent.jsonl", prompts(held_out, ABSENT))
    found = []
    for seed in asked.seeds:
        for share in asked.shares:
            found.append(run(asked.work, rows, share, seed))
            one = found[-1]
            progress.say(
                f"{share:3} % planted, seed {seed}: {one['planted']['value']:5.1f} % of planted "
                f"forms, {one['absent']['value']:5.1f} % of absent ones"
            )
    result = {
        "command": "python benchmarks/generate_planted.py --seeds "
        + " ".join(map(str, asked.seeds)),
        "samples": len(rows),
        "prompts": {"planted": HELD_OUT * len(PLANTED), "absent": HELD_OUT * len(ABSENT)},
        "runs": found,
        "machine": machine.measured_on(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
