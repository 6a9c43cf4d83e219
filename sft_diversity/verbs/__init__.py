"""The verbs: one row each, of which the command line, `sft_diversity.VERB` and batch jobs are made.

A verb is a typed function; what it does stands there, its options in its config. A row says where
the function is, in which order people meet it, and how its result is shown.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


def _never(result: Mapping[str, Any]) -> bool:
    return False


@dataclass(frozen=True)
class Verb:
    """A row of the table; nothing is imported until it is asked for.

    Attributes
    ----------
    help : str
        One line.
    home, options, show : str
        `module:name` of the function, of its config (further keyword arguments), and of what turns
        its result into text; the config may be missing.
    least : int
        Sources that must be named, where it takes any number.
    failed : callable
        Whether a result means exit code 1.
    """

    name: str
    help: str
    home: str
    show: str
    options: str = ""
    least: int = 1
    failed: Callable[[Mapping[str, Any]], bool] = _never

    def function(self) -> Callable[..., Any]:
        """Return the function."""
        found: Callable[..., Any] = _load(self.home)
        return found

    def arguments(self) -> tuple[str, ...]:
        """Return the names of the function's own arguments, without its config's options."""
        parameters = inspect.signature(self.function()).parameters.values()
        return tuple(one.name for one in parameters if one.kind is not one.VAR_KEYWORD)

    def config(self) -> Any:
        """Return the class of its further options, or None."""
        return _load(self.options) if self.options else None

    def shown(self, result: Any) -> str:
        """Return what people see of a result."""
        if isinstance(result.get("plan"), list):  # a study's has figures of its own
            return str(_load("core.show:plan_text")(result))
        return str(_load(self.show)(result))


def _load(home: str) -> Any:
    module, _, name = home.partition(":")
    return getattr(import_module(f"sft_diversity.{module}"), name)


_FIGURES = "core.show:plain_figures"
_ROWS = (
    Verb(
        "ingest", "Make a corpus of raw files in any known format.",
        "verbs.data:ingest", "ingestion.show:ingested", "ingestion.config:IngestOptions", least=0,
    ),
    Verb(
        "embed", "Embed both components of a corpus.",
        "verbs.data:embed", _FIGURES, "embedding.stage:EmbedConfig",
    ),
    Verb(
        "index", "Make the incidence of one strategy: which kinds each sample holds.",
        "verbs.data:index", _FIGURES, "levels.stage:IndexConfig",
    ),
    Verb(
        "select", "Select exactly N samples at a chosen diversity, or a grid of such subsets.",
        "verbs.selecting:select", "selection.show:selected", "selection.config:SelectConfig",
    ),
    Verb(
        "explain", "Say why a sample is in a subset, or why it is not.",
        "verbs.selecting:explain", "selection.show:explained",
    ),
    Verb(
        "diff", "Say how two subsets differ: rows, kinds, sources, figures.",
        "verbs.selecting:diff", "selection.show:differences",
    ),
    Verb(
        "map", "Write a map of a subset's corpus as a table, for tools that draw such tables.",
        "verbs.looking:map", _FIGURES, "verbs.looking:MapOptions",
    ),
    Verb(
        "explore",
        "Turn the dial in a page of your browser: see what a selection picks, read it, take it "
        "home.",
        "verbs.looking:explore", _FIGURES, "verbs.looking:ExploreOptions",
    ),
    Verb(
        "measure",
        "Measure diversity: all metrics of one or many data sets, side by side, by component.",
        "verbs.measuring:measure", "metrics.show:measured", "verbs.measuring:MeasureOptions",
    ),
    Verb(
        "schedule",
        "Print or draw a learning-rate schedule beside cosine, linear, WSD, step and constant.",
        "verbs.training:schedule", "training.show:scheduled", "training.curves:ScheduleOptions",
    ),
    Verb(
        "finetune", "Fine-tune a model on a subset: TRL, AdamW or LION, the UBA schedule.",
        "verbs.training:finetune", "training.show:finetuned", "training.config:FinetuneConfig",
        least=0,
    ),
    Verb(
        "score",
        "Score a model: likelihood of references, rules kept by answers, a judge, lm-eval's tasks.",
        "verbs.training:score", "scoring.show:scored", "scoring.suites:ScoreOptions",
    ),
    Verb(
        "study", "Train and score a model on every subset of a grid; fit what diversity pays.",
        "studies.stage:study", "studies.show:studied", "studies.config:StudyConfig",
        failed=lambda result: bool(result.get("failures")),
    ),
    Verb(
        "fit", "Fit a table of scores: slopes, best levels, comparisons with random, a verdict.",
        "verbs.training:fit", "fitting.show:fitted", "fitting.config:FitConfig",
    ),
    Verb(
        "advise",
        "Say how many samples, which strategy, when to stop: predict scores at larger sizes.",
        "verbs.training:advise", "fitting.advice_words:advised", "fitting.config:AdviseConfig",
    ),
    Verb(
        "report",
        "Show a study, a subset or the difference of two as one HTML page that needs no network.",
        "verbs.measuring:report", "reporting.show:reported", "verbs.measuring:ReportOptions",
    ),
    Verb(
        "clean",
        "Take near-duplicates and overlap with evaluation sets out of a corpus, each with its "
        "twin.",
        "verbs.data:clean", "cleaning.show:cleaned", "cleaning.config:CleanConfig",
    ),
    Verb(
        "rewrite",
        "Make a corpus whose responses one model wrote; the originals stay in `meta`.",
        "verbs.data:rewrite", _FIGURES, "rewriting.stage:RewriteConfig",
    ),
    Verb(
        "export",
        "Export as Parquet shards with a data card, or a model, to a folder or the Hub.",
        "verbs.data:export", _FIGURES, "exporting.stage:ExportConfig",
    ),
    Verb(
        "mcp", "Serve describe, select, explain, diff and measure to an assistant, over MCP.",
        "verbs.serving:mcp", "",
    ),
    Verb(
        "config",
        "Print the options of a verb as files, variables and settings make them, or the schema of "
        "its config files.",
        "verbs.configuring:config", "verbs.configuring:options_shown",
    ),
    Verb(
        "verify", "Check a folder against its manifest; exit code 1 if anything differs.",
        "verbs.data:verify", "core.show:verified", failed=lambda result: bool(result["faults"]),
    ),
    Verb(
        "doctor",
        "Say what this machine has for each part of the job, and what to do where it lacks.",
        "verbs.data:doctor", "core.show:examined", failed=lambda result: not result["ok"],
    ),
    Verb(
        "submit", "Run a command as batch jobs on Slurm, or as the same tasks here.",
        "cluster.stage:submit", "cluster.show:submitted",
    ),
    Verb(
        "status", "Say what waits, runs, is finished and failed, and why.",
        "cluster.stage:status", "cluster.show:states",
    ),
    Verb(
        "cancel", "End a job's tasks; what is finished stays.",
        "cluster.stage:cancel", "cluster.show:ended",
    ),
    Verb(
        "retry", "Submit again what failed, was cancelled or is lost, and what comes after it.",
        "cluster.stage:retry", "cluster.show:ended",
    ),
)  # fmt: skip

#: The verbs under the heads of help, in the order in which it lists them.
PANELS = {
    "Data": ("ingest", "clean", "rewrite", "embed", "index", "export"),
    "Select": ("select", "explain", "diff", "measure", "map", "explore"),
    "Train": ("schedule", "finetune"),
    "Judge": ("score", "study", "fit", "advise", "report"),
    "Batch": ("run", "submit", "status", "cancel", "retry"),
    "House": ("config", "verify", "doctor", "mcp"),
}

#: By name.
VERBS = {verb.name: verb for verb in _ROWS}
