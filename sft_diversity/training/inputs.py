"""What a run is made from: the samples it trains on, those it is measured on, the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft_diversity.core import machine
from sft_diversity.core.drafts import Work
from sft_diversity.training import samples
from sft_diversity.training.models import BASES

if TYPE_CHECKING:
    from sft_diversity.core.models import ModelFolder
    from sft_diversity.training.config import FinetuneConfig

VERSION = 6

#: Options that change where or how fast, but not what is made; places count by their content.
_NO_RESULT = {
    "model", "revision", "eval_data", "checkpoint_steps", "report_to", "run_name",
    "max_bad_fraction",
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """The samples and the model of a run, and its options as the model bounds them."""

    source: samples.Source
    held_out: samples.Source | None
    base: ModelFolder
    config: FinetuneConfig

    @property
    def work(self) -> Work:
        """What the output depends on."""
        options = self.config.model_dump(mode="json", exclude=_NO_RESULT)
        options["dtype"] = machine.precision_for(self.config.dtype, machine.device_for("finetune"))
        keys = {"subset": self.source.key, "model": self.base.key}
        if self.held_out is not None:
            keys["evaluation"] = self.held_out.key
        return Work("finetune", VERSION, keys, options)

    @property
    def dtype(self) -> str:
        """Precision of products."""
        return str(self.work.config["dtype"])


def find_inputs(subset: Path, config: FinetuneConfig, base: ModelFolder | None = None) -> Inputs:
    """Find what a run reads; `base` is the model where it was found before."""
    base = base or BASES.find(config.model, config.revision)
    held_out = None if config.eval_data is None else samples.find_samples(Path(config.eval_data))
    return Inputs(samples.find_samples(subset), held_out, base, config.within(base.context))
