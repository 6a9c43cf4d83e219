"""What a run is made from: the samples it trains on, those it is measured on, the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft_diversity.core import machine
from sft_diversity.core.drafts import Work
from sft_diversity.core.errors import UsageError
from sft_diversity.training import samples
from sft_diversity.training.models import BASES, adapter_options

if TYPE_CHECKING:
    from sft_diversity.core.models import ModelFolder
    from sft_diversity.training.config import FinetuneConfig

VERSION = 7

#: Options that change where or how fast, but not what is made; places count by their content.
_NO_RESULT = {
    "model", "revision", "sets", "eval_data", "checkpoint_steps", "report_to", "run_name",
    "max_bad_fraction",
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """The samples and the model of a run, and its options as the model bounds them."""

    sources: list[samples.Source]
    held_out: samples.Source | None
    base: ModelFolder
    config: FinetuneConfig

    @property
    def work(self) -> Work:
        """What the output depends on."""
        options = self.config.model_dump(mode="json", exclude=_NO_RESULT)
        options["dtype"] = machine.precision_for(self.config.dtype, machine.device_for("finetune"))
        keys = {_name(i): source.key for i, source in enumerate(self.sources)}
        keys["model"] = (self.base.base or self.base).key
        if self.base.base is not None:
            keys["adapter"] = self.base.key
        if self.held_out is not None:
            keys["evaluation"] = self.held_out.key
        return Work("finetune", VERSION, keys, options)

    @property
    def dtype(self) -> str:
        """Precision of products."""
        return str(self.work.config["dtype"])


def _name(number: int) -> str:
    return f"subset-{number + 1}" if number else "subset"


def folders_of(subset: Path | Sequence[Path]) -> list[Path]:
    """Return the folders of one set or of several."""
    return [subset] if isinstance(subset, Path) else list(subset)


def find_inputs(
    subset: Path | Sequence[Path], config: FinetuneConfig, base: ModelFolder | None = None
) -> Inputs:
    """Find what a run reads; `base` is the model where it was found before."""
    base = base or BASES.find(config.model, config.revision)
    if base.base_name is not None and config.lora:
        config = _gone_on_with(base, config)
    held_out = None if config.eval_data is None else samples.find_samples(Path(config.eval_data))
    sources = [samples.find_samples(place) for place in folders_of(subset)]
    return Inputs(sources, held_out, base, config.within(base.context))


def _gone_on_with(base: ModelFolder, config: FinetuneConfig) -> FinetuneConfig:
    """Return the options of a run that trains an adapter further: its shape is its own."""
    own = adapter_options(base)
    unlike = [n for n in own if n in config.model_fields_set and getattr(config, n) != own[n]]
    if config.peft or unlike:
        which = f"peft.{next(iter(config.peft))}" if config.peft else unlike[0]
        has = "its own" if config.peft else f"{own[unlike[0]]:g}"
        raise UsageError(
            f"finetune: {base.name} is an adapter, and {which} is {has}; leave it out, or merge "
            "the adapter first (merge_adapter) to train a new one"
        )
    return config.model_copy(update=own)
