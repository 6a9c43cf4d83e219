"""What verbs share: their options, and what they return of an output or of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sft_diversity.core import config as configs
from sft_diversity.core import folder
from sft_diversity.core.config import Config
from sft_diversity.core.stage import Made
from sft_diversity.core.store import Store

Result = dict[str, Any]
C = TypeVar("C", bound=Config)


def options_from(model: type[C], config: str | Path | None, options: Mapping[str, Any]) -> C:
    """Return a verb's options: those given over those of a YAML file over defaults."""
    return configs.load(Path(config) if config else None, model, options)


def made(by: Store, output: Made) -> Result:
    """Return the figures of an output, or the plan of a dry run."""
    if by.dry:
        return {"plan": by.plan}
    return folder.figures(folder.read_manifest(output.path), output.path)
