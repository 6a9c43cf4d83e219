"""Fine-tuning a Llama-3.2-1B-shaped model on one GPU: LoRA and all weights, in bfloat16.

    python benchmarks/gpu_finetune.py [--steps 12] [--batch-size 32] [--micro-batch-size 8]
        [--length 1024] [--layers 16] [--vocabulary 128256] [--on-cpu]

The model has the shape of Llama 3.2 1B (arXiv:2407.21783: 16 layers of 2,048, 32 heads over 8 keys,
feed-forward 8,192, 128,256 token types, tied) and random weights: speed and memory do not depend on
their values. Samples are of equal length, half prompt, half response. Reports tokens a second, the
share of the card's peak, the diagnostics' share of a step, and memory with LION in 32 and 8 bits.
Without a GPU the result says `not run`, and why; --on-cpu with small numbers tries the script.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sft_diversity.core import folder
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.progress import Progress
from sft_diversity.training import batches, optimizers, theory, trainer
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.course import Course
from sft_diversity.training.models import BASES
from sft_diversity.training.samples import Rendered
from sft_diversity.training.team import Team

RESULT = Path(__file__).parent / "results" / "gpu_finetune.json"
WARM = 3
# Dense bfloat16 FLOP/s as the makers state them.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
RUNS: dict[str, dict[str, Any]] = {
    "all weights, adamw": {"optimizer": "adamw"},
    "all weights, lion": {"optimizer": "lion"},
    "all weights, lion-8bit": {"optimizer": "lion-8bit"},
    "all weights, lion, checkpointing": {"optimizer": "lion", "gradient_checkpointing": True},
    "LoRA, adamw": {"optimizer": "adamw", "lora": True},
    "LoRA, lion": {"optimizer": "lion", "lora": True},
}


def shaped_model(out: Path, layers: int, vocabulary: int) -> Path:
    """Save a model of the shape with random weights, its tokenizer as small as can be."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        hidden_size=2048, num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=8,
        head_dim=64, intermediate_size=8192, vocab_size=vocabulary, tie_word_embeddings=True,
        max_position_embeddings=131_072,
    )  # fmt: skip
    torch.manual_seed(0)
    made: Any = LlamaForCausalLM(config)
    made.to(torch.bfloat16).save_pretrained(out)
    words = Tokenizer(WordLevel({"<eos>": 0, "<unk>": 1}, unk_token="<unk>"))
    wrap: Any = PreTrainedTokenizerFast
    wrap(tokenizer_object=words, eos_token="<eos>", pad_token="<eos>").save_pretrained(out)
    return out


def even_course(config: FinetuneConfig, steps: int, length: int, vocabulary: int) -> Course:
    """Return a course over random tokens of equal length, half of them labelled."""
    drawn = np.random.default_rng(0)
    rows = steps * config.batch_size
    ids = [drawn.integers(2, vocabulary, length).astype(np.int32) for _ in range(rows)]
    labels = [np.where(np.arange(length) < length // 2, -100, row).astype(np.int32) for row in ids]
    rendered = Rendered(
        ids=[str(i) for i in range(rows)],
        input_ids=ids,
        labels=labels,
        rows=rows,
        truncated=0,
        dropped=0,
        lost_labels=0,
    )
    order = np.arange(rows)
    assert config.micro_batch_size is not None
    return Course(
        rendered=rendered,
        order=order,
        batches=batches.micro_batches(
            order, rendered.lengths, config.batch_size, config.micro_batch_size
        ),
        batch_size=config.batch_size,
        steps=steps,
        micro_per_step=-(-config.batch_size // config.micro_batch_size),
        settings=optimizers.Settings(lr=1e-5, weight_decay=0.1),
        factor=lambda _: 1.0,
    )


def measure(model: Path, asked: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    """Train a few steps; return medians over the steps after the first."""
    from transformers import TrainerCallback

    # Emulated bfloat16 takes minutes a step: a trial on a CPU does without.
    dtype: Any = "bfloat16" if torch.cuda.is_available() else "float32"
    config = FinetuneConfig(
        model=str(model), steps=asked.steps, batch_size=asked.batch_size,
        micro_batch_size=asked.micro_batch_size, max_length=asked.length,
        dtype=dtype, checkpoint_steps=10**6, **options,
    )  # fmt: skip
    optimizers.check_optimizer(config.optimizer)
    ends, spent = [], []
    own = theory.gradient_figures

    def synced() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(*args: Any, **kwargs: Any) -> theory.GradientFigures:
        before = synced()
        got = own(*args, **kwargs)
        spent.append(synced() - before)
        return got

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(synced())

    course = even_course(config, asked.steps, asked.length, asked.vocabulary)
    setattr(theory, "gradient_figures", timed)  # noqa: B010 - a method to the type checker
    try:
        with tempfile.TemporaryDirectory() as scratch:
            draft = open_draft(Path(scratch) / "out", Work("finetune", 0, {}, {}))
            bar = Progress("", asked.steps, "steps", silent=True)
            made = trainer.build_trainer(
                course, BASES.find(str(model)), _tokenizer(model), config, dtype, draft, bar,
                Team(),
            )  # fmt: skip
            made.add_callback(Clock())
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            made.train()
            return _figures(made, asked, ends, spent)
    finally:
        setattr(theory, "gradient_figures", own)  # noqa: B010


def _tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def _figures(
    made: Any, asked: argparse.Namespace, ends: list[float], spent: list[float]
) -> dict[str, Any]:
    step = statistics.median(b - a for a, b in zip(ends[WARM - 1 :], ends[WARM:], strict=False))
    tokens = asked.batch_size * asked.length
    weights = sum(p.numel() for p in made.model.parameters())
    trained = sum(p.numel() for p in made.model.parameters() if p.requires_grad)
    # Forward and gradient by activation: 4 FLOP a weight and token; by weight: 2 more if trained.
    # Attention's products are left out, as is usual for the share of peak ("6N").
    flops = (4 * weights + 2 * trained) * tokens
    peak = None
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        peak = next((flop for card, flop in PEAKS.items() if card in name), None)
    return {
        "weights": weights,
        "trained": trained,
        "step_s": round(step, 4),
        "tokens_per_s": round(tokens / step),
        "share_of_peak": round(flops / step / peak, 4) if peak else None,
        "diagnostics_share": round(statistics.median(spent[WARM:]) / step, 5),
        "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)
        if torch.cuda.is_available()
        else None,
    }


def main() -> None:
    """Run what can be run here and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--micro-batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--on-cpu", action="store_true", help="try the script; nothing is written")
    asked = parser.parse_args()
    told: dict[str, Any] = {
        "status": "not run",
        "reason": f"PyTorch {torch.__version__} sees no CUDA device",
    }
    if torch.cuda.is_available() or asked.on_cpu:
        with tempfile.TemporaryDirectory() as scratch:
            model = shaped_model(
                Path(scratch) / "llama-3.2-1b-shape", asked.layers, asked.vocabulary
            )
            names = [n for n in RUNS if torch.cuda.is_available() or "8bit" not in n]
            runs = {name: measure(model, asked, RUNS[name]) for name in names}
        told = {"status": "run", "runs": runs} | {
            key: getattr(asked, key)
            for key in ("steps", "batch_size", "micro_batch_size", "length")
        }
        if torch.cuda.is_available():
            told["device"] = torch.cuda.get_device_name(0)
    print(json.dumps(told, indent=1))
    if asked.on_cpu:
        return
    result = {
        "benchmark": Path(__file__).stem,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": folder.versions(),
        **told,
    }
    RESULT.write_text(folder.dump_json(result), "utf-8")


if __name__ == "__main__":
    main()
