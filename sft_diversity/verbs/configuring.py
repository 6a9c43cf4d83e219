"""The verb `config`: a verb's options as they are settled, or the schema of its config files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from pydantic_core import PydanticUndefined

from sft_diversity.core import config as configs
from sft_diversity.core.errors import UsageError
from sft_diversity.verbs import VERBS
from sft_diversity.verbs.options import ConfigFile
from sft_diversity.verbs.settings import settled


def config(
    what: Annotated[
        Literal["show", "schema"],
        typer.Argument(help="The options as they are settled, or the JSON schema of a file."),
    ],
    verb: Annotated[str, typer.Argument(help="A verb that has options of its own.")],
    *,
    config: ConfigFile = None,
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="As with that verb; repeatable."),
    ] = None,
) -> dict[str, Any]:
    """Return the options of a verb as file, environment and settings make them, or their schema.

    The schema is JSON Schema, for editors that complete and check YAML files.
    """
    if verb not in VERBS or VERBS[verb].config() is None:
        known = ", ".join(name for name, one in VERBS.items() if one.options)
        raise UsageError(f"config: {verb!r} has no config; known: {known}")
    model = VERBS[verb].config()
    if what == "schema":
        return dict(model.model_json_schema())
    file = configs.read_yaml(Path(config)) if config else {}
    values = settled(VERBS[verb], {"config": config, "set": set})
    given = {name: value for name, value in values.items() if name in model.model_fields}
    return {"verb": verb, "options": resolved(model, file, given)}


def resolved(model: Any, file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options with their values; None for a required one that nobody gave."""
    merged = configs.merge(model, file, given)
    required = [
        name
        for name, field in model.model_fields.items()
        if field.is_required() and name not in merged
    ]
    if not required:
        built = configs.build(model, merged, "options")
        said = built.model_dump(mode="json")  # without what changes no row
        return {name: said.get(name, getattr(built, name)) for name in model.model_fields}
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
    }
    plain = {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        for name, value in defaults.items()
    }
    plain = {name: None if value is PydanticUndefined else value for name, value in plain.items()}
    unknown = [name for name in merged if name not in model.model_fields]
    if unknown:
        raise UsageError(f"options: {configs.unknown_key(unknown[0], model.model_fields)}")
    return {**plain, **merged}


def options_shown(result: Mapping[str, Any]) -> str:
    """Return what `config` prints: a YAML file of the options, or the schema."""
    if "options" not in result:
        return json.dumps(result, indent=2, ensure_ascii=False)
    options = _plain(result["options"])
    text: str = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    return text.rstrip()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
