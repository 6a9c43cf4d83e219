"""The suites of `score`: one config each, chosen by its key `suite`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, create_model

from sft_diversity.core import config as configs
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.scoring.generate.config import GenerateConfig
from sft_diversity.scoring.harness.running import HarnessConfig
from sft_diversity.scoring.pairwise.config import PairwiseConfig
from sft_diversity.scoring.stage import ScoreConfig

Suite: TypeAlias = Literal["heldout", "generate", "pairwise", "harness"]
AnyConfig: TypeAlias = ScoreConfig | GenerateConfig | PairwiseConfig | HarnessConfig
CONFIGS: dict[str, type[AnyConfig]] = {
    "heldout": ScoreConfig,
    "generate": GenerateConfig,
    "pairwise": PairwiseConfig,
    "harness": HarnessConfig,
}


def config_of(file: Path | None, options: Mapping[str, Any]) -> AnyConfig:
    """Return the config of the suite that options, or the file, name; heldout where none does.

    Raises
    ------
    UsageError
        If there is no such suite, or an option belongs to another one.
    """
    given = configs.read_yaml(file) if file is not None else {}
    suite = options.get("suite") or given.get("suite", "heldout")
    model = CONFIGS.get(suite) if isinstance(suite, str) else None
    if model is None:
        raise UsageError(f"score: suite is {suite!r:.40}; it must be one of {', '.join(CONFIGS)}")
    for name in (*given, *(name for name, value in options.items() if value is not None)):
        others = [s for s, one in CONFIGS.items() if name in one.model_fields]
        if others and suite not in others:
            raise UsageError(
                f"score: {name} is an option of suite {' and '.join(others)}, not of {suite}; "
                "name the suite with --suite"
            )
    where = f"config {file}" if file is not None else "options"
    return configs.build(model, given, where, {**options, "suite": suite})


def _options() -> type[Config]:
    """Return one model with the options of all suites, for a command's flags."""
    fields: dict[str, Any] = {
        "suite": (Suite, Field(default="heldout", description="what the model is asked"))
    }
    groups: dict[str, list[str]] = {}
    names = dict.fromkeys(name for model in CONFIGS.values() for name in model.model_fields)
    for name in (name for name in names if name != "suite"):
        holders = {s: m.model_fields[name] for s, m in CONFIGS.items() if name in m.model_fields}
        first = next(iter(holders.values()))
        kind: Any = str if name == "tasks" else first.annotation  # commas on the command line
        said = dict.fromkeys(one.description for one in holders.values())
        text = "; ".join(str(one) for one in said)
        if len(holders) == 1:
            groups.setdefault(f"Suite {next(iter(holders))}", []).append(name)
        elif len(holders) < len(CONFIGS):
            text = f"{', '.join(holders)}: {text}"
        defaults = {repr(one.default) for one in holders.values()}
        default = first.default if len(defaults) == 1 and first.default != () else None
        fields[name] = (kind | None, Field(default=default, description=text))
    made = create_model("ScoreOptions", __base__=Config, **fields)
    heads = sorted(groups.items())
    made.GROUPS = tuple((head, tuple(names)) for head, names in heads)
    return made


ScoreOptions = _options()
