"""Steps of `gpu_quarter_hour.py` that ask whether the whole path runs on a card, and is right.

A few steps of the offline base model, a score and the vectors of a few texts are compared with
`expected.json` and `expected.npy`, which `gpu_carry.py` had from a CPU. The encoder's weights are
drawn on the processor from a seed, so that they are the same everywhere.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu_embed import encoder_of
from gpu_steps import Figures, Request, device, part, pool_corpus

from sft_diversity.core import extras, resources
from sft_diversity.core import vectors as core_vectors
from sft_diversity.stages import store
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.stage import finetune
from sft_diversity.verbs import training

ROWS, TEXT_ROWS, RECORDS = 64, 150, 17
#: Ways to train, and how far a loss may be from the CPU's, as a share of it.
WAYS: dict[str, tuple[dict[str, Any], float]] = {
    "float32 adamw": ({"dtype": "float32", "optimizer": "adamw"}, 1e-3),
    "bfloat16 adamw": ({"dtype": "bfloat16", "optimizer": "adamw"}, 2e-2),
    "float32 lion": ({"dtype": "float32", "optimizer": "lion"}, 1e-3),
    "float32 adamw, LoRA": ({"dtype": "float32", "optimizer": "adamw", "lora": True}, 1e-3),
    "float32 lion-8bit": ({"dtype": "float32", "optimizer": "lion-8bit"}, 2e-2),
}
_NOT_BELOW = 0.999  # cosine of a text's vectors


def losses(asked: Request, way: dict[str, Any], steps: int) -> list[float]:
    """Train the offline base model for a few steps; return the losses."""
    out = asked.place / "-".join(map(str, way.values()))
    config = FinetuneConfig(
        steps=steps, batch_size=8, micro_batch_size=4, max_length=256, on_truncation="trim",
        schedule="constant", **way,
    )  # fmt: skip
    finetune(pool_corpus(asked, ROWS), out, config, lambda _: None)
    log = (out / "training.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in log]


def score(asked: Request) -> float:
    """Score the offline base model on a few records; return its loss a token."""
    file = resources.from_here_or_checkout("configs/score/sample.yaml")
    options: dict[str, Any] = {"dtype": "float32", "max_length": 256}
    sets = _few_records(Path(file))
    told = training.score(resources.base_model(), out=asked.place / "score", **options, **sets)
    return float(told["headline"]["transfer_first64"]["nll_per_token"])


def _few_records(file: Path) -> dict[str, Any]:
    """Return the sets of a config of `score`, cut to a few records each."""
    from sft_diversity.core import config as configs

    given = configs.read_yaml(file)
    sets = [one | {"limit": RECORDS} for one in given["sets"]]
    return {"sets": sets, "eval_dir": given["eval_dir"]}


def vectors(asked: Request) -> npt.NDArray[np.float32]:
    """Embed the rows of a small corpus; return the vectors of both components."""
    corpus = pool_corpus(asked, TEXT_ROWS)
    encoder = encoder_of(replace(asked, encoder=None), "minilm")
    options = {"encoder": str(encoder)}
    made = store(asked.place / "embed").get("embed", options, corpus, out=asked.place / "vectors")
    found = [core_vectors.read_component(made.path, c)[1] for c in ("instruction", "response")]
    return np.concatenate(found).astype(np.float32)


def expect(asked: Request, steps: int) -> dict[str, Any]:
    """Write what a CPU makes of it, for comparison, into the carried folder; return it."""
    told: dict[str, Any] = {
        "losses": {
            name: losses(asked, way, steps) for name, (way, _) in WAYS.items() if "8bit" not in name
        },
        "score": score(asked),
    }
    # in float32, the 8-bit state's rounding aside, LION's own
    told["losses"]["float32 lion-8bit"] = told["losses"]["float32 lion"]
    (asked.carried / "a" / "expected.json").write_text(json.dumps(told, indent=1), "utf-8")
    np.save(asked.carried / "a" / "expected.npy", vectors(asked).astype(np.float16))
    return told


def train(asked: Request, figures: Figures) -> None:
    """Train in each way; `worst` is the greatest share by which a loss differs from the CPU's."""
    expected = json.loads(asked.file("a/expected.json").read_text("utf-8"))["losses"]
    worst = 0.0
    for name in asked.options["ways"] or WAYS:
        way, tolerance = WAYS[name]
        if "8bit" in name and not (device() == "cuda" and extras.has("bitsandbytes")):
            figures(**{name: "left out: needs a card and bitsandbytes"})
            continue

        def do(way: dict[str, Any] = way, name: str = name, tolerance: float = tolerance) -> Any:
            found = losses(asked, way, asked.options["steps"])
            away = max(abs(a / b - 1) for a, b in zip(found, expected[name], strict=False))
            if not away <= tolerance:
                figures.failed(f"{name}: a loss is off by {away:.2g}")
            return {"losses": [round(loss, 5) for loss in found], "off": round(away, 6)}

        part(figures, name, do)
        worst = max(worst, figures.values.get(name, {}).get("off", 0.0))
        figures(worst=worst)


def score_and_embed(asked: Request, figures: Figures) -> None:
    """Score and embed; `cosine` is the least of a text's vectors with those that the CPU made."""
    expected = json.loads(asked.file("a/expected.json").read_text("utf-8"))["score"]

    def scored() -> dict[str, Any]:
        found = score(asked)
        if not abs(found / expected - 1) <= 1e-3:
            figures.failed(f"the score is {found:.5f}, on a CPU it is {expected:.5f}")
        return {"nll_per_token": found, "off": round(abs(found / expected - 1), 7)}

    def compared() -> dict[str, Any]:
        known = np.load(asked.file("a/expected.npy")).astype(np.float32)
        both = core_vectors.unit(known), core_vectors.unit(vectors(asked))
        least = float(np.einsum("nd,nd->n", *both).min())
        if not least >= _NOT_BELOW:
            figures.failed(f"a vector's cosine with the CPU's is {least:.4f}")
        return {"least_cosine": round(least, 6), "texts": len(known)}

    part(figures, "score", scored)
    part(figures, "embed", compared)
    if "score" in figures.values and "embed" in figures.values:
        figures(
            worst=figures.values["score"]["off"], cosine=figures.values["embed"]["least_cosine"]
        )
