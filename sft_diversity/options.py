"""A command's options are the fields of its stage's config: name, type and help stand there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


def options_of(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for every plain field of `model`; the rest is for YAML files."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        extra = [
            parameter
            for name, field in model.model_fields.items()
            if name not in signature.parameters and (parameter := _option(name, field))
        ]
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in [*own, *extra]]

        def call(**values: Any) -> None:
            command(**values)

        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def _option(name: str, field: FieldInfo) -> inspect.Parameter | None:
    kind = _plain_type(field.annotation)
    if kind is None:
        return None
    text = (field.description or name).rstrip(".")
    if field.default not in (None, PydanticUndefined):
        text += f" [default: {str(field.default).lower() if kind is bool else field.default}]"
    flag = "--" + name.replace("_", "-")
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    annotation = Annotated[kind | None, typer.Option(*names, help=text, show_default=False)]  # type: ignore[valid-type]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _plain_type(annotation: Any) -> type | None:
    """Return int, float, bool or str for a field one flag can hold, else None."""
    options = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is Literal:
        kinds = {type(value) for value in get_args(annotation)}
        return kinds.pop() if len(kinds) == 1 else str
    if annotation in (int, float, bool, str):
        return annotation  # type: ignore[no-any-return]
    if annotation is Path:
        return str
    if get_origin(annotation) is Annotated:
        return _plain_type(get_args(annotation)[0])
    if options and get_origin(annotation) not in (list, dict, tuple):
        inner = {_plain_type(option) for option in options}
        return inner.pop() if len(inner) == 1 else (str if inner <= {int, float, str} else None)
    return None
