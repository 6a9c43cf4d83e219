"""Config files: YAML, safe-loaded, checked by pydantic, with errors that name the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sft_diversity.core.errors import UsageError

_MAX_CONFIG_BYTES = 4 << 20


# What options of several stages say of themselves.
ENCODER = "sentence encoder: folder or Hub id; default: the packaged MiniLM"
TOKENIZER = "of the model to be trained: folder, tokenizer.json or Hub id; default: tiny-base's"
BAND = (
    "micro: samples that may hold a token type, LOW:HIGH; default: auto, 10:500 or wider where "
    "fewer than four fifths of the samples then hold a kind"
)


class Config(BaseModel):
    """Base of every stage's config: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


C = TypeVar("C", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error and not a silent overwrite."""


def _mapping_once(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, str | int | float | bool) and key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice", key_node.start_mark
            )
        if isinstance(key, str | int | float | bool):
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_once)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises
    ------
    UsageError
        If the file cannot be read, is not YAML, repeats a key, or holds no mapping.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise UsageError(
                f"config {path}: over {_MAX_CONFIG_BYTES >> 20} MB; is it a data file?"
            )
        loaded = yaml.load(path.read_text("utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506  (safe)
    except OSError as fault:
        raise UsageError(f"config {path}: {fault.strerror or fault}") from None
    except UnicodeDecodeError:
        raise UsageError(f"config {path}: not UTF-8 text") from None
    except (yaml.YAMLError, RecursionError) as fault:
        reason = " ".join(str(fault).split()) or "nested too deep"
        raise UsageError(f"config {path}: not valid YAML: {reason}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise UsageError(f"config {path}: must be a mapping of option names to values")
    return loaded


def build(
    model: type[C],
    values: Mapping[str, Any],
    where: str,
    overrides: Mapping[str, Any] | None = None,
) -> C:
    """Return `model` made of `values`, with those of `overrides` that are not None on top.

    Parameters
    ----------
    where : str
        Named in errors: a file, or "options".
    """
    merged = dict(values) | {k: v for k, v in (overrides or {}).items() if v is not None}
    try:
        return model.model_validate(merged)
    except ValidationError as fault:
        raise UsageError(f"{where}: {_explain(fault, model)}") from None


def load(path: Path | None, model: type[C], overrides: Mapping[str, Any] | None = None) -> C:
    """Return `model` from a YAML file (or from defaults), options overriding the file."""
    if path is None:
        return build(model, {}, "options", overrides)
    return build(model, read_yaml(path), f"config {path}", overrides)


def part_of(model: type[C], asked: Config, **further: Any) -> C:
    """Return `model` with what it shares with `asked`; `further` are fields that it has besides."""
    shared = {name: getattr(asked, name) for name in model.model_fields if name not in further}
    return model(**shared, **further)


def _explain(fault: ValidationError, model: type[BaseModel]) -> str:
    """Say each fault as key, value, what is allowed; a misspelt key with the nearest known one."""
    said = []
    errors = fault.errors(include_url=False)
    errors.sort(key=lambda error: error["type"] != "extra_forbidden")  # may explain what is missing
    for error in errors:
        key = ".".join(str(part) for part in error["loc"]) or "(whole)"
        if error["type"] == "extra_forbidden":
            known = sorted(_fields_at(model, error["loc"][:-1]))
            near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
            hint = f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}"
            said.append(f"unknown key `{key}`{hint}")
        elif error["type"] == "missing":
            said.append(f"`{key}` is required")
        else:
            reason = error["msg"].removeprefix("Value error, ")
            said.append(f"`{key}` is {error['input']!r:.200}: {reason}")
    return "; ".join(said)


def _fields_at(model: type[BaseModel], loc: Iterable[int | str]) -> set[str]:
    """Return the field names of the (nested) model at `loc`."""
    current: Any = model
    for part in loc:
        if isinstance(part, int) or not hasattr(current, "model_fields"):
            continue
        if part in current.model_fields:
            current = _inner_model(current.model_fields[part].annotation)
    return set(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    """Return the first pydantic model inside an annotation such as `list[Source] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _inner_model(inner)
        if found is not None:
            return found
    return None
