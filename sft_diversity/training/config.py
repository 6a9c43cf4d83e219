"""The options of `finetune`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from sft_diversity.core import machine
from sft_diversity.core.config import Config, OptionGroups
from sft_diversity.training import optimizers, rendering, reporters, schedules


def _parsed(weights: Any) -> Any:
    """Return weights, given as numbers or as a text of numbers with commas."""
    return weights.split(",") if isinstance(weights, str) else weights


Weights = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...],
    BeforeValidator(_parsed),
    Field(description="of several sets: shares of what is read; default: all are read as one"),
]


class WeightedSet(Config):
    """A set of samples and its share of what is read."""

    data: str = Field(description="folder, raw files or hub:org/name")
    weight: float | None = Field(None, gt=0, description="its share, beside those of the others")


class FinetuneConfig(Config):
    """How a model is trained on a subset."""

    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = (("epochs", "steps", "tokens"),)
    GROUPS: ClassVar[OptionGroups] = (
        (
            "Model",
            (
                "model", "revision", "quantization", "lora", "lora_rank", "lora_alpha",
                "lora_dropout", "merge_adapter",
            ),
        ),
        (
            "Budget",
            (
                "epochs", "steps", "tokens", "batch_size", "micro_batch_size", "max_length",
                "on_truncation", "train_thinking", "max_bad_fraction",
            ),
        ),
        (
            "Optimizer and schedule",
            (
                "optimizer", "lr", "weight_decay", "max_grad_norm", "schedule", "phi", "warmup",
                "lr_min", "phases", "equal_area", "train_seed",
            ),
        ),
        (
            "Evaluation",
            ("eval_share", "eval_data", "eval_steps", "keep_best", "early_stopping"),
        ),
        (
            "Machine and log",
            (
                "dtype", "gradient_checkpointing", "checkpoint_steps", "report_to", "run_name",
            ),
        ),
    )  # fmt: skip

    model: str | None = Field(
        None,
        description="model folder, GGUF file, Hub id, or one of the offline base models, tiny-base "
        "(the default) and tiny-base-20m",
    )
    revision: str | None = Field(None, description="revision of a Hub model")
    sets: tuple[WeightedSet, ...] = Field(
        (), description="of several sets, in a file: [{data: A, weight: 0.7}, {data: B, …}]"
    )
    weights: Weights = ()
    epochs: float | None = Field(
        None, gt=0, description="budget: passes over the subset (1 where no budget is given)"
    )
    steps: int | None = Field(None, gt=0, description="budget: optimizer steps")
    tokens: int | None = Field(None, gt=0, description="budget: response tokens read")
    batch_size: int = Field(32, gt=0, description="samples per optimizer step")
    micro_batch_size: int | None = Field(
        None,
        gt=0,
        description="samples per forward pass; default: as many as pad little and fit the memory",
    )
    max_length: int = Field(
        1024,
        gt=1,
        description="tokens kept of a sample, from its start; less where none is given and the "
        "model reads fewer",
    )
    on_truncation: rendering.OnTruncation = Field(
        "keep",
        description="a longer sample: error; drop it; keep its start (unusable where no "
        "label is left); or trim, which keeps the start and drops what has no label",
    )
    train_thinking: bool = Field(
        True, description="train what the assistant thinks, where the chat template writes it"
    )
    max_bad_fraction: float = Field(
        0.05, ge=0, le=1, description="share of samples that may be left out as unusable"
    )
    optimizer: optimizers.Name = Field("adamw", description="the 8-bit ones need CUDA")
    lr: float | None = Field(
        None, gt=0, description="peak learning rate; default: by optimizer, width and LoRA"
    )
    weight_decay: float | None = Field(
        None, ge=0, description="decoupled, none on norms and biases; default: by optimizer"
    )
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping, 0 for none")
    schedule: schedules.KindOption = "uba"
    phi: schedules.Phi = 2.0
    warmup: schedules.WarmUp = 0.03
    lr_min: float = Field(0.0, ge=0, description="learning rate at the end, η_min")
    phases: schedules.Phases = ()
    equal_area: bool = Field(
        False, description="scale the peak so that the rates sum to those of a cosine with peak lr"
    )
    train_seed: int = Field(0, ge=0, description="seed of reading order, adapters and dropout")
    eval_share: float = Field(
        0.0, ge=0, lt=1, description="share of the samples that is held out, to measure the loss on"
    )
    eval_data: str | None = Field(
        None, description="samples to measure the loss on, in place of a share"
    )
    eval_steps: int | None = Field(
        None, gt=0, description="steps between evaluations; default: a tenth of the run"
    )
    keep_best: bool = Field(
        False,
        description="keep the weights of the best evaluation, not the last; each is a checkpoint",
    )
    early_stopping: int | None = Field(
        None,
        gt=0,
        description="stop after so many evaluations without a better one, and keep the best",
    )
    dtype: machine.Precision = Field(
        "auto",
        description="precision of products, auto: bfloat16 where the hardware multiplies it; "
        "trained weights stay float32, the frozen ones under LoRA have it too",
    )
    gradient_checkpointing: bool = Field(False, description="less memory for a third more time")
    checkpoint_steps: int = Field(100, gt=0, description="steps between checkpoints")
    lora: bool = Field(False, description="train a LoRA adapter instead of all weights")
    lora_rank: int = Field(16, gt=0, description="rank of the adapter")
    lora_alpha: int = Field(32, gt=0, description="scale of the adapter, α")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapter")
    merge_adapter: bool = Field(False, description="merge LoRA into the saved weights")
    quantization: Literal["4bit", "8bit"] | None = Field(
        None, description="frozen weights under LoRA in so many bits (QLoRA), by bitsandbytes"
    )
    model_options: dict[str, Any] = Field(
        default_factory=dict, description="further options of transformers' from_pretrained"
    )
    peft: dict[str, Any] = Field(
        default_factory=dict, description="further options of PEFT's LoraConfig"
    )
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="further options of TRL's SFTConfig"
    )
    report_to: tuple[reporters.Name, ...] = Field(
        (), description="trackio, tensorboard, wandb; training.jsonl is written in any case"
    )
    run_name: str | None = Field(None, description="name of the run there; default: that of --out")

    @model_validator(mode="after")
    def _one_budget(self) -> FinetuneConfig:
        given = [n for n in ("epochs", "steps", "tokens") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"give one budget, not {' and '.join(given)}")
        if self.lr is not None and self.lr_min > self.lr:
            raise ValueError(f"lr_min is {self.lr_min}, above lr {self.lr}")
        if not self.phi > 0:
            raise ValueError(f"phi is {self.phi}, but must be above 0 (2 is the cosine)")
        if self.optimizer == "sgd" and self.lr is None:
            raise ValueError("sgd has no published rate for fine-tuning; give lr")
        if self.sets and self.weights:
            raise ValueError("give weights beside each of the sets, or weights, not both")
        if len({one.weight is None for one in self.sets}) > 1:
            raise ValueError("give all sets a weight, or none")
        if self.eval_share and self.eval_data is not None:
            raise ValueError("give eval_share or eval_data, not both")
        if not self.evaluates and (self.eval_steps or self.keeps_best):
            which = next(
                n for n in ("eval_steps", "keep_best", "early_stopping") if getattr(self, n)
            )
            raise ValueError(f"{which} is for evaluation; give eval_share or eval_data")
        if not self.lora and (self.peft or self.quantization):
            which = "peft" if self.peft else "quantization"
            raise ValueError(f"{which} is for adapters; set lora: true")
        return self

    def of_sets(self) -> FinetuneConfig:
        """Return the options with the weights of the sets in the place of `sets`."""
        weights = tuple(one.weight for one in self.sets if one.weight is not None)
        return self.model_copy(update={"sets": (), "weights": weights or self.weights})

    @property
    def evaluates(self) -> bool:
        """Whether a loss is measured on samples that are not trained on."""
        return bool(self.eval_share) or self.eval_data is not None

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best evaluation are kept, not the last."""
        return self.keep_best or self.early_stopping is not None

    def within(self, context: int | None) -> FinetuneConfig:
        """Return the options for a model that reads so many tokens, where `max_length` is open."""
        if "max_length" in self.model_fields_set or self.max_length <= (context or self.max_length):
            return self
        return self.model_copy(update={"max_length": context})

    @property
    def budget(self) -> dict[str, Any]:
        """The one budget that is given; one epoch where none is."""
        given = {"epochs": self.epochs, "steps": self.steps, "tokens": self.tokens}
        return {k: v for k, v in given.items() if v is not None} or {"epochs": 1.0}

    def samples_read(self, rows: int, response_tokens: float) -> float:
        """Return about how many samples the budget reads of `rows` of so many tokens on average."""
        if self.steps is not None:
            return float(self.steps * self.batch_size)
        if self.tokens is not None:
            return self.tokens / response_tokens
        return float(self.budget["epochs"] * rows)
