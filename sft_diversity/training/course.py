"""A run laid out before it begins: what each step reads, and at which learning rate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sft_diversity.core.errors import UsageError
from sft_diversity.training import batches, optimizers, rendering, uba
from sft_diversity.training.batches import Rows
from sft_diversity.training.schedules import Schedule

if TYPE_CHECKING:
    from sft_diversity.core.models import ModelFolder
    from sft_diversity.training.config import FinetuneConfig


@dataclass(frozen=True)
class Course:
    """What a run will do, step by step.

    Attributes
    ----------
    rendered : Rendered
        The samples as tokens.
    order : int array
        Rows in reading order, all steps one after the other.
    batches : list of list of int
        Micro-batches of rows; process i of n reads `[i::n]` of them.
    batch_size : int
        Samples that all processes read in a step.
    steps : int
        Optimizer steps.
    micro_per_step : int
        Micro-batches that a process reads in a step (fewer in the last).
    settings : Settings
        Peak learning rate and weight decay.
    factor : function of a step
        Share of the peak learning rate.
    held_out : Rendered, optional
        Samples that the loss is measured on.
    """

    rendered: rendering.Rendered
    order: Rows
    batches: list[list[int]]
    batch_size: int
    steps: int
    micro_per_step: int
    settings: optimizers.Settings
    factor: Callable[[int], float]
    held_out: rendering.Rendered | None = None

    def until(self, steps: int) -> Course:
        """Return the run that ends after so many of its steps."""
        if steps >= self.steps:
            return self
        order = self.order[: steps * self.batch_size]
        read = list(itertools.accumulate(map(len, self.batches)))
        return replace(
            self, order=order, batches=self.batches[: read.index(len(order)) + 1], steps=steps
        )

    @property
    def response_tokens(self) -> int:
        """Labelled tokens read in the whole run."""
        return int(self.rendered.response_tokens[self.order].sum())

    @property
    def thinking_tokens(self) -> int:
        """Tokens of thoughts read in the whole run."""
        return int(self.rendered.thinking_tokens[self.order].sum())

    @property
    def total_tokens(self) -> int:
        """Tokens read in the whole run, padding not counted."""
        return int(self.rendered.lengths[self.order].sum())

    @property
    def real_share(self) -> float:
        """Share of the tokens that the run computes that are not padding."""
        lengths = self.rendered.lengths
        computed = sum(len(rows) * int(lengths[rows].max()) for rows in self.batches if rows)
        return self.total_tokens / computed

    def tokens_by_step(self) -> list[int]:
        """Labelled tokens read up to and including each step."""
        return self._read(self.rendered.response_tokens)

    def tokens_read(self) -> list[int]:
        """Tokens read after 0, 1, 2, ... steps, padding not counted."""
        return [0, *self._read(self.rendered.lengths)]

    def _read(self, sizes: Rows) -> list[int]:
        read, size = sizes[self.order].cumsum(), self.batch_size
        ends = range(size, size * self.steps + 1, size)
        return [int(read[min(end, len(read)) - 1]) for end in ends]


def lay_out(
    rendered: rendering.Rendered,
    base: ModelFolder,
    config: FinetuneConfig,
    most_tokens: int,
    processes: int = 1,
) -> Course:
    """Fix the reading order, resolve the learning rate.

    A step reads `config.batch_size` samples, however many `processes` share them, in micro-batches
    of `config.micro_batch_size` each; where that is open, as `batches.least_padded` cuts them.

    Raises
    ------
    UsageError
        As `resolve_settings`, or if the schedule does not fit the steps.
    """
    settings = resolve_settings(base, config)
    order = batches.reading_order(
        rendered.response_tokens,
        config.batch_size,
        config.train_seed,
        sets=np.array(rendered.sets),
        weights=config.weights if rendered.sets else (),
        **config.budget,
    )
    steps = -(-len(order) // config.batch_size)
    size, micro = config.batch_size, config.micro_batch_size
    cut = (
        batches.least_padded(order, rendered.lengths, size, most_tokens, processes)
        if micro is None
        else batches.micro_batches(order, rendered.lengths, size, min(micro, size), processes)
    )
    settings, factor = _schedule(config, settings, steps)
    return Course(
        rendered=rendered,
        order=order,
        batches=cut,
        batch_size=size,
        steps=steps,
        micro_per_step=-(-_micro_batches_of(min(size, len(order)), cut) // processes),
        settings=settings,
        factor=factor,
    )


def _micro_batches_of(size: int, cut: list[list[int]]) -> int:
    """Return how many micro-batches the first step of so many samples has."""
    return list(itertools.accumulate(map(len, cut))).index(size) + 1


def resolve_settings(base: ModelFolder, config: FinetuneConfig) -> optimizers.Settings:
    """Return the learning rate and weight decay of a run on `base`.

    Raises
    ------
    UsageError
        If `lr_min` is above the learning rate, given or default, or `max_length` beyond what the
        model reads.
    """
    if config.max_length > (base.context or config.max_length):
        raise UsageError(
            f"finetune: max_length is {config.max_length}, but {base.name} reads at most "
            f"{base.context} tokens; lower max_length"
        )
    width = int(getattr(base.config, "hidden_size", optimizers.REFERENCE_WIDTH))
    settings = optimizers.settings_for(
        config.optimizer, width, config.lora, config.lr, config.weight_decay
    )
    if config.lr_min > settings.lr:
        raise UsageError(
            f"finetune: lr_min is {config.lr_min:g}, above the peak learning rate {settings.lr:g} "
            f"(the default for {config.optimizer} at hidden size {width:,}); "
            "lower lr_min or give lr"
        )
    return settings


def _schedule(
    config: FinetuneConfig, settings: optimizers.Settings, steps: int
) -> tuple[optimizers.Settings, Schedule]:
    """Return the settings, their rate scaled under `equal_area`, and the schedule."""
    warmup = uba.warmup_steps(config.warmup, steps)
    floor = config.lr_min / settings.lr
    factor = Schedule(config.schedule, steps, warmup, config.phi, floor, config.phases)
    if config.equal_area:
        peak, factor = factor.equal_area()
        settings = replace(settings, lr=settings.lr * peak)
    return settings, factor
