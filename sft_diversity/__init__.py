"""sft-diversity: select, fine-tune, score and export diverse subsets of SFT data.

    import sft_diversity as sd
    picked = sd.select(dataset, size=10_000, strategy="micro-response", diversity=67)
    picked.to_dataset(), picked.rows, picked.figures

`select`, `measure`, `clean`, `ingest`, `fit` and `advise` take data in memory or a path. The other
verbs of the command line are functions here too, with the same names and options. Each name is
loaded when it is asked for (PEP 562): importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sft_diversity.cluster.stage import cancel, retry, status, submit
    from sft_diversity.library import advise, clean, fit, ingest, measure, select
    from sft_diversity.results import Advice, Cleaned, Corpus, Fit, Measures, Selection, Subset
    from sft_diversity.selection.dial import Dial
    from sft_diversity.selection.estimator import DiversitySelector
    from sft_diversity.studies.stage import study
    from sft_diversity.training.callbacks import GradientTheory
    from sft_diversity.training.lr_scheduler import UBALR, get_uba_schedule_with_warmup
    from sft_diversity.training.schedules import Phase
    from sft_diversity.training.uba import uba_factor
    from sft_diversity.verbs.data import doctor, embed, export, index, rewrite, verify
    from sft_diversity.verbs.looking import map
    from sft_diversity.verbs.measuring import report
    from sft_diversity.verbs.selecting import diff, explain
    from sft_diversity.verbs.training import finetune, schedule, score

_HOMES = {
    "library": ("advise", "clean", "fit", "ingest", "measure", "select"),
    "results": ("Advice", "Cleaned", "Corpus", "Fit", "Measures", "Selection", "Subset"),
    "selection.dial": ("Dial",),
    "selection.estimator": ("DiversitySelector",),
    "training.callbacks": ("GradientTheory",),
    "training.lr_scheduler": ("UBALR", "get_uba_schedule_with_warmup"),
    "training.schedules": ("Phase",),
    "training.uba": ("uba_factor",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "UBALR",
    "Advice",
    "Cleaned",
    "Corpus",
    "Dial",
    "DiversitySelector",
    "Fit",
    "GradientTheory",
    "Measures",
    "Phase",
    "Selection",
    "Subset",
    "advise",
    "cancel",
    "clean",
    "diff",
    "doctor",
    "embed",
    "explain",
    "export",
    "finetune",
    "fit",
    "get_uba_schedule_with_warmup",
    "index",
    "ingest",
    "map",
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


def __getattr__(name: str) -> Any:
    from sft_diversity.verbs import VERBS

    try:
        if name in _HOME_OF:
            value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        elif name in VERBS:
            value = VERBS[name].function()
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    except ModuleNotFoundError as fault:
        from sft_diversity.core import extras

        why = extras.missing_package(fault)
        raise ImportError(f"{name} needs {why}") if why else fault from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
