"""sft-diversity: select, fine-tune, score and export diverse subsets of SFT data.

    from sft_diversity import select
    select("pool.jsonl", strategy="micro-response", size=10_000, diversity=67, out="subset")

The verbs of the command line are functions here, with the same names and options.
"""

# A verb and its stage's folder share a name. The folders are bound first, while `workflow` loads
# them, and the functions after, so `sft_diversity.select` is the verb and
# `from sft_diversity.select.engine import choose` finds the folder.
from typing import TYPE_CHECKING, Any

from sft_diversity.cluster.stage import cancel, retry, status, submit
from sft_diversity.finetune.schedules import Phase
from sft_diversity.finetune.uba import uba_factor
from sft_diversity.study.stage import study
from sft_diversity.workflow import (
    clean,
    diff,
    doctor,
    embed,
    explain,
    export,
    finetune,
    fit,
    index,
    ingest,
    measure,
    report,
    rewrite,
    schedule,
    score,
    select,
    verify,
)

if TYPE_CHECKING:
    from sft_diversity.finetune.lr_scheduler import UBALR


def __getattr__(name: str) -> Any:
    """Load torch with the one name here that needs it."""
    if name == "UBALR":
        from sft_diversity.finetune.lr_scheduler import UBALR

        return UBALR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "UBALR",
    "Phase",
    "cancel",
    "clean",
    "diff",
    "doctor",
    "embed",
    "explain",
    "export",
    "finetune",
    "fit",
    "index",
    "ingest",
    "measure",
    "report",
    "retry",
    "rewrite",
    "schedule",
    "score",
    "select",
    "status",
    "study",
    "submit",
    "uba_factor",
    "verify",
]
