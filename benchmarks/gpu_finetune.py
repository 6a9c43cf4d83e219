"""Steps of `gpu_quarter_hour.py` that train models of random weights: ours and TRL's own trainer.

Shapes are those of Llama 3.2 1B and Llama 3 8B (arXiv:2407.21783). Their weights are made on the
card: speed and memory do not depend on their values. Samples are random tokens of equal length,
half of them labelled, or real ones of the pool. Both sides see the same weights and samples.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from finetune_vs_trl import trl_trainer
from gpu_steps import Figures, LeftOut, Request, device, peak_memory_gb, pool_corpus, synced

from sft_diversity.core import chat, extras, models
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.models import ModelFolder
from sft_diversity.core.progress import Progress
from sft_diversity.training import (
    callbacks,
    course,
    memory,
    optimizers,
    rendering,
    samples,
    trainer,
)
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import load_right_padding_tokenizer
from sft_diversity.training.rendering import Rendered
from sft_diversity.training.team import Team

WARM = 3


class Shape(ModelFolder):
    """A folder with a config and no weights: they are drawn when a run asks for them."""

    def shapes(self) -> dict[str, list[int]]:
        """Return the shape of each tensor that would be in its files."""
        from transformers import AutoModelForCausalLM

        make: Any = AutoModelForCausalLM.from_config
        with torch.device("meta"):
            return {name: list(p.shape) for name, p in make(self.config).named_parameters()}


def shape_of(options: dict[str, Any], out: Path) -> Shape:
    """Write a folder with the config of a shape."""
    from transformers import LlamaConfig

    config: Any = LlamaConfig(
        hidden_size=options["hidden"], num_hidden_layers=options["layers"],
        num_attention_heads=options["heads"], num_key_value_heads=options["keys"],
        head_dim=options["hidden"] // options["heads"], intermediate_size=options["inner"],
        vocab_size=options["vocabulary"], tie_word_embeddings=options["tied"],
        max_position_embeddings=131_072,
    )  # fmt: skip
    config.save_pretrained(out)
    return Shape(out, "shape", "benchmark: model")


def random_weights(
    base: ModelFolder, dtype: str, quantization_config: Any = None, **options: Any
) -> Any:
    """Return a model of the shape, its weights drawn on the device: stands for `load_causal_lm`.

    They are the same in every run, so that both sides begin alike.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device()):
        make: Any = AutoModelForCausalLM.from_config
        model = make(base.config, dtype=getattr(torch, dtype))
    return model if quantization_config is None else quantize(model, quantization_config)


def quantize(model: Any, how: Any) -> Any:
    """Hold the linear layers of the blocks in NF4, as loading a file with `how` would."""
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers.quantizers.auto import AutoHfQuantizer

    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, linear in list(parent.named_children()):
                if not isinstance(linear, torch.nn.Linear):
                    continue
                packed = Linear4bit(
                    linear.in_features, linear.out_features, bias=False,
                    compute_dtype=how.bnb_4bit_compute_dtype, quant_type=how.bnb_4bit_quant_type,
                    compress_statistics=how.bnb_4bit_use_double_quant, device="meta",
                )  # fmt: skip
                packed.weight = Params4bit(
                    linear.weight.data.cpu(), requires_grad=False,
                    quant_type=how.bnb_4bit_quant_type,
                    compress_statistics=how.bnb_4bit_use_double_quant,
                )  # fmt: skip
                setattr(parent, name, packed.to(device()))
    model.config.quantization_config = how
    model.is_loaded_in_4bit = model.is_quantized = True
    model.quantization_method = how.quant_method
    model.hf_quantizer = AutoHfQuantizer.from_config(how)  # the trainer asks it whether it trains
    return model


def word_tokenizer() -> Any:
    """Return a tokenizer of two words: random tokens need no other."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<eos>": 0, "<unk>": 1}, unk_token="<unk>"))
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=words, eos_token="<eos>", pad_token="<eos>")


def even_samples(rows: int, length: int, vocabulary: int) -> Rendered:
    """Return random tokens of equal length, half of them labelled."""
    drawn = np.random.default_rng(0)
    ids = [drawn.integers(2, vocabulary, length).astype(np.int32) for _ in range(rows)]
    labels = [
        np.where(np.arange(length) < length // 2, chat.IGNORED, row).astype(np.int32) for row in ids
    ]
    names = [str(i) for i in range(rows)]
    return Rendered(ids=names, input_ids=ids, labels=labels, rows=rows, truncated=0, dropped=0)


def real_samples(asked: Request, rows: int, length: int) -> tuple[Rendered, Any]:
    """Return samples of the pool, cut at `length`, and SmolLM2's tokenizer."""
    words = ModelFolder(asked.file("a/smollm2"), "SmolLM2", "benchmark: tokenizer")
    tokenizer = load_right_padding_tokenizer(words)
    chat.ensure_template(tokenizer)
    source = samples.find_samples(pool_corpus(asked, rows))
    return rendering.render_samples(source, tokenizer, length, "trim"), tokenizer


def operations(
    options: dict[str, Any], lengths: npt.NDArray[np.int64], labelled: int, adapter: int
) -> float:
    """Return the operations that a step's model needs, for real tokens alone.

    2 a weight and token in the forward pass, 2 for the gradient of activations, and 2 for that of
    a trained weight; the head's at labelled positions. Attention, causal, half of 12 · layers ·
    hidden · length a token. Nothing for what is computed twice, or for padding.

    Parameters
    ----------
    lengths : int array
        Tokens of each sample.
    labelled : int
        Labelled tokens of all.
    adapter : int
        Weights of an adapter, 0 where all weights are trained.
    """
    hidden, layers = options["hidden"], options["layers"]
    shared = 2 + 2 * options["keys"] / options["heads"]  # q and o, k and v
    body = layers * (shared * hidden**2 + 3 * hidden * options["inner"])
    tokens, each = int(lengths.sum()), 4 if adapter else 6
    attention = 6 * layers * hidden * float((lengths**2).sum())
    head = options["vocabulary"] * hidden * labelled
    return float(each * (body * tokens + head) + attention + 6 * adapter * tokens)


def build_ours(
    run: course.Course, base: ModelFolder, tokenizer: Any, config: FinetuneConfig, asked: Request
) -> Any:
    """Return our trainer, which writes no checkpoint."""
    draft = open_draft(asked.place / "out", Work("finetune", 0, {}, {}))
    bar = Progress("", run.steps, "steps", silent=True)
    dtype: str = config.dtype
    made = trainer.build_trainer(run, base, tokenizer, config, dtype, draft, bar, Team())
    made.args.save_strategy = type(made.args.save_strategy)("no")
    return made


def build_trl(
    run: course.Course, base: ModelFolder, tokenizer: Any, config: FinetuneConfig, asked: Request
) -> Any:
    """Return TRL's trainer on the same samples, in micro-batches of equally many."""
    rows = [row for batch in run.batches for row in batch]
    if asked.options.get("real") == "drawn":
        rows = run.order.tolist()
    adapter = None
    if config.lora:
        from peft import LoraConfig

        rank, alpha = config.lora_rank, config.lora_alpha
        adapter = LoraConfig(
            task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules="all-linear"
        )
    model = random_weights(base, config.dtype if config.lora else "float32")
    return trl_trainer(
        run.rendered, rows, model, tokenizer, steps=run.steps, batch=config.batch_size,
        micro=asked.options["micro"], lr=run.settings.lr, dtype=config.dtype,
        out=asked.place / "trl", peft_config=adapter,
    )  # fmt: skip


def train(asked: Request, figures: Figures) -> None:
    """Train a few steps; speed, share of peak and memory over the steps after the first ones.

    `tokens_per_s` counts real tokens; `computed_share` is real tokens over those that went through
    the model, padding included.
    """
    options = asked.options
    eight = "8bit" in options["optimizer"] if "optimizer" in options else False
    if (eight or options.get("quantization")) and not extras.has("bitsandbytes"):
        raise LeftOut("bitsandbytes is not installed")
    here = device()
    config = FinetuneConfig(
        steps=options["steps"], batch_size=options["batch"], micro_batch_size=options["micro"],
        max_length=options["length"], optimizer=options.get("optimizer", "adamw"),
        lora=options.get("lora", False), quantization=options.get("quantization"),
        gradient_checkpointing=options.get("checkpointing", False), schedule="constant", warmup=0,
        lr=1e-5, checkpoint_steps=10**6,
        # emulated bfloat16 takes minutes a step: a trial without a card does without
        dtype="bfloat16" if here == "cuda" else "float32",
    )  # fmt: skip
    if here == "cuda":  # without one, 8-bit state is refused; bitsandbytes itself does it there
        optimizers.check_optimizer(config.optimizer)
    base = shape_of(options, asked.work / f"shape-{options['layers']}-{options['hidden']}")
    rows = options["steps"] * options["batch"]
    if options.get("real"):
        rendered, tokenizer = real_samples(asked, rows, options["length"])
    else:
        rendered = even_samples(rows, options["length"], options["vocabulary"])
        tokenizer = word_tokenizer()
    run = course.lay_out(rendered, base, config, memory.tokens_at_once(base, config, config.dtype))
    setattr(models, "load_causal_lm", random_weights)  # noqa: B010 - not from a file
    build = build_ours if options["side"] == "ours" else build_trl
    start = synced()
    made = build(run, base, tokenizer, config, asked)
    peak_memory_gb()
    figures(
        built_s=round(synced() - start, 1),
        weights=sum(p.numel() for p in made.model.parameters()),
        trained=sum(p.numel() for p in made.model.parameters() if p.requires_grad),
        samples=rows,
    )
    clock = _Clock(made)
    made.train()
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    if len(losses) != run.steps:
        figures.failed(f"{len(losses)} of {run.steps} steps were logged")
    figures(losses=[round(loss, 5) for loss in losses], last_loss=round(losses[-1], 5))
    figures(**_speeds(run, options, clock, figures.values), memory_gb=peak_memory_gb())


class _Clock:
    """Notes when steps end, how many tokens the model was given, and what diagnostics take."""

    def __init__(self, made: Any) -> None:
        from transformers import TrainerCallback

        self.ends: list[float] = []
        self.computed = 0
        self.diagnostics: list[float] = []
        clock = self

        class Ends(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                clock.ends.append(synced())

        made.add_callback(Ends())
        made.model.register_forward_pre_hook(self._count, with_kwargs=True)
        own: Any = getattr(callbacks, "gradient_figures")  # noqa: B009

        def timed(*args: Any, **kwargs: Any) -> Any:
            before = synced()
            got = own(*args, **kwargs)
            self.diagnostics.append(synced() - before)
            return got

        setattr(callbacks, "gradient_figures", timed)  # noqa: B010 - a process of its own

    def _count(self, model: Any, args: Sequence[Any], given: dict[str, Any]) -> None:
        self.computed += given["input_ids"].numel()


def _speeds(
    run: course.Course, options: dict[str, Any], clock: _Clock, known: dict[str, Any]
) -> dict[str, Any]:
    """Return what the steps after the first ones come to."""
    lengths, labels = run.rendered.lengths[run.order], run.rendered.response_tokens[run.order]
    between = [after - before for before, after in itertools.pairwise(clock.ends[WARM - 1 :])]
    read = slice(WARM * options["batch"], None)
    timed, labelled = lengths[read], int(labels[read].sum())
    seconds = sum(between)
    adapter = known["trained"] if options.get("lora") else 0
    flops = operations(options, timed, labelled, adapter)
    step = statistics.median(between)
    said = {
        "step_s": round(step, 4),
        "tokens_per_s": round(int(timed.sum()) / seconds),
        "computed_share": round(int(lengths.sum()) / clock.computed, 4),
        "tflops": round(flops / seconds / 1e12, 5),
    }
    if clock.diagnostics:
        said["diagnostics_share"] = round(statistics.median(clock.diagnostics[WARM:]) / step, 5)
    return said
