"""Which tokens are trained, beside LLaMA-Factory's labels: the templates that both know.

    python benchmarks/masks_vs_llama_factory.py write DIR [--dialogues 1000]    (our environment)
    python benchmarks/masks_vs_llama_factory.py label DIR                       (LLaMA-Factory's)
    python benchmarks/masks_vs_llama_factory.py compare DIR                     (ours)

The dialogues and the tokenizer are those of `masks_vs_trl.py`; a file a family holds the dialogues
with our ids and labels, another LLaMA-Factory's, from the processor that its trainer uses with its
defaults (`mask_history` and `train_on_prompt` off). Thoughts are given to it in `<think>` marks,
calls as `function_call` turns, which is how it reads them. Counts per family and sort: all ids and
labels equal; equal but for line breaks and marks around a turn that one of the two trains; equal
trained text, but for white space at the ends of turns (it trims none, many templates do) or for
what stands around (a system turn, a thought left out of earlier turns); other trained text. Writes
benchmarks/results/masks_vs_llama_factory.json.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import json
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "masks_vs_llama_factory.json"
#: LLaMA-Factory's name -> TRL's file. Gemma-3, Qwen3.5 and later want a processor of images there.
FAMILIES = {
    "cohere": "cohere", "deepseek3": "deepseekv3", "deepseekr1": "deepseek_r1_distill",
    "gemma": "gemma", "glm4_moe": "glm4moe", "gpt_oss": "gptoss",
    "lfm2": "lfm2_v2", "llama3": "llama3", "llama3 (3.1)": "llama3_1", "phi": "phi3",
    "qwen": "qwen2_5", "qwen3": "qwen3", "qwen3_nothink": "qwen3_instruct_2507",
}  # fmt: skip
#: The token that ends a text for the models of a family, where it is not our tokenizer's own.
ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>", "deepseek3": "<｜end▁of▁sentence｜>",
    "deepseekr1": "<｜end▁of▁sentence｜>", "gpt_oss": "<|return|>",
}  # fmt: skip
IGNORED = -100


def write(place: Path, count: int) -> None:
    """Write the tokenizer, and of each family the dialogues with our ids and labels."""
    import masks_vs_trl as trls

    from sft_diversity.core import chat
    from sft_diversity.core.errors import DataError

    for name, family in FAMILIES.items():
        tokenizer = trls.with_marks()
        tokenizer.chat_template = trls.FILES[family]
        tokenizer.eos_token = ENDS.get(name, tokenizer.eos_token)
        tokenizer.save_pretrained(place / f"{name}.tokenizer")
        rows: list[dict[str, Any]] = []
        for sort in trls.SORTS:
            for turns, tools in trls.dialogues(count, 0, sort):
                try:
                    made = chat.rendering(turns, tokenizer, tools)
                except DataError:
                    continue
                rows.append({"sort": sort, "turns": turns, "tools": tools})
                rows[-1] |= {"ids": made.input_ids, "labels": made.labels}
        (place / f"{name}.ours.json").write_text(json.dumps(rows), "utf-8")
        print(name, len(rows), flush=True)


def label(place: Path) -> None:
    """Write LLaMA-Factory's ids and labels of the dialogues of each family."""
    audio = types.ModuleType("torchaudio")  # it imports this for audio alone
    audio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    sys.modules.setdefault("torchaudio", audio)
    from transformers import PreTrainedTokenizerFast

    supervised = importlib.import_module("llamafactory.data.processor.supervised")
    templates = importlib.import_module("llamafactory.data.template")
    options = importlib.import_module("llamafactory.hparams")

    for name in FAMILIES:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(place / f"{name}.tokenizer")
        data = options.DataArguments(template=name.split()[0], cutoff_len=1 << 20)
        template = templates.get_template_and_fix_tokenizer(tokenizer, data)
        reader = supervised.SupervisedDatasetProcessor(
            template=template, tokenizer=tokenizer, processor=None, data_args=data
        )
        found: list[Any] = []
        for row in json.loads((place / f"{name}.ours.json").read_text("utf-8")):
            turns = [theirs(turn) for turn in row["turns"]]
            tools = row["tools"]
            try:
                found.append(
                    reader._encode_data_example(turns[:-1], turns[-1:], None, tools, [], [], [])
                )
            except Exception as fault:  # of its formatters, of any kind
                found.append(f"{type(fault).__name__}: {fault}"[:200])
        (place / f"{name}.theirs.json").write_text(json.dumps(found), "utf-8")
        print(name, len(found), flush=True)


def theirs(turn: dict[str, Any]) -> dict[str, str]:
    """Return a turn as LLaMA-Factory holds it."""
    if turn.get("tool_calls"):
        said = [call["function"] for call in json.loads(turn["tool_calls"])]
        text = json.dumps(said if len(said) > 1 else said[0], ensure_ascii=False)
        return {"role": "function", "content": text}
    thought = f"<think>\n{turn['thinking']}\n</think>\n\n" if turn.get("thinking") else ""
    role = {"tool": "observation"}.get(turn["role"], turn["role"])
    return {"role": role, "content": thought + turn["content"]}


def compare(place: Path) -> None:
    """Compare ids and labels; write the counts."""
    from transformers import PreTrainedTokenizerFast

    from sft_diversity.core import folder, machine

    families: dict[str, dict[str, Counter[str]]] = {}
    for name in FAMILIES:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(place / f"{name}.tokenizer")
        pairs = [
            json.loads((place / f"{name}.{who}.json").read_text("utf-8"))
            for who in ("ours", "theirs")
        ]
        for row, other in zip(*pairs, strict=True):
            counts = families.setdefault(name, {}).setdefault(row["sort"], Counter())
            counts[verdict(tokenizer, row, other)] += 1
        print(name, families[name], flush=True)
    result = {"llamafactory": "0.9.5", "machine": machine.measured_on(), "families": families}
    RESULTS.write_text(folder.dump_json(json.loads(json.dumps(result))), "utf-8")


def verdict(tokenizer: Any, row: dict[str, Any], other: Any) -> str:
    """Return how the labels of one dialogue compare."""
    if isinstance(other, str):
        return f"LLaMA-Factory fails: {other}"[:100]
    ids, labels = other
    length = len(row["ids"])
    if ids[:length] == row["ids"]:
        pairs = zip(labels, row["labels"] + [IGNORED] * (len(labels) - length), strict=True)
        unlike = [max(pair) for pair in pairs if pair[0] != pair[1]]
        if not unlike:
            return "equal"
        if not tokenizer.decode(unlike, skip_special_tokens=True).strip():
            return "equal but for line breaks and marks around turns"
    mine, trained = (texts(tokenizer, found) for found in (row["labels"], labels))
    if mine == trained:
        return "equal text, but for white space at ends and what stands around"
    return "other text"


def texts(tokenizer: Any, labels: list[int]) -> list[str]:
    """Return the trained text of each turn without white space at its ends, nor what ends it."""
    stretches: list[list[int]] = [[]]
    for token in labels:
        if token != IGNORED:
            stretches[-1].append(token)
        elif stretches[-1]:
            stretches.append([])
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    found = []
    for run in stretches:
        while run and (run[-1] in special or not tokenizer.decode([run[-1]]).strip()):
            run = run[:-1]
        found.append(tokenizer.decode(run).strip())
    return [text for text in found if text]


def main() -> None:
    """Do one of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["write", "label", "compare"])
    parser.add_argument("place", type=Path)
    parser.add_argument("--dialogues", type=int, default=1000)
    asked = parser.parse_args()
    asked.place.mkdir(parents=True, exist_ok=True)
    if asked.step == "write":
        write(asked.place, asked.dialogues)
    else:
        (label if asked.step == "label" else compare)(asked.place)


if __name__ == "__main__":
    main()
