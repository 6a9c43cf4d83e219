"""Config files: YAML, safe-loaded, checked by pydantic, with errors that name the way out."""

from __future__ import annotations

import datetime
import difflib
import itertools
import re
import reprlib
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from sft_diversity.core.errors import UsageError

_MAX_CONFIG_BYTES = 4 << 20
_MAX_REPEATED = 100_000  # values of a file whose aliases are written out


# What options of several stages say of themselves.
ENCODER = "sentence encoder: folder or Hub id; default: the packaged MiniLM"
EMBEDDINGS = (
    "vectors of your own in the encoder's place: .npy in the order of the source file's rows, or "
    ".parquet with columns id and embedding"
)
TOKENIZER = "of the model to be trained: folder, tokenizer.json or Hub id; default: tiny-base's"
BAND = (
    "micro: samples that may hold a token type, LOW:HIGH; default: auto, 10:500 or wider where "
    "fewer than four fifths of the samples then hold a kind"
)

#: Heads under which help lists a config's options, and the options under each: `Config.GROUPS`.
OptionGroups: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]


class Config(BaseModel):
    """Base of every stage's config: unknown keys are refused, values never change.

    Numbers are finite, and `true` is none. No text is empty, but where that is the default.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
    GROUPS: ClassVar[OptionGroups] = ()
    #: Options that stand for each other: one that overrides a file takes the others' place too.
    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _no_truth_nor_nothing(cls, values: Any) -> Any:
        """Refuse truth values where the field takes none (pydantic makes 1 of `true`), and ""."""
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name) if value == "" or isinstance(value, bool) else None
            if field is None:
                continue
            if isinstance(value, bool) and not _takes_truth(field.annotation):
                raise ValueError(f"`{name}` is {str(value).lower()}, which it cannot be")
            if value == "" and field.default != "":
                raise ValueError(f"`{name}` is empty; give a value, or leave it out")
        return values


def _takes_truth(annotation: Any) -> bool:
    inner = get_args(annotation)
    return annotation in (Any, bool, object) or any(
        isinstance(one, bool) or _takes_truth(one) for one in inner
    )


C = TypeVar("C", bound=Config)


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


def read_yaml(path: Path, what: str = "config") -> dict[str, Any]:
    """Return the mapping that a YAML file holds; `what` it is, errors say.

    Raises
    ------
    UsageError
        If the file cannot be read, is not YAML, repeats a key, or holds no mapping.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{what} {path}: no regular file; name a YAML file")
        if found.st_size > _MAX_CONFIG_BYTES:
            raise UsageError(
                f"{what} {path}: over {_MAX_CONFIG_BYTES >> 20} MB; is it a data file?"
            )
        text = path.read_text("utf-8")
    except OSError as fault:
        raise UsageError(f"{what} {path}: {fault.strerror or fault}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{what} {path}: not UTF-8 text") from None
    except ValueError as fault:  # of the path
        raise UsageError(f"{what} {path}: {fault}") from None
    loaded = _parsed(text, f"{what} {path}")
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise UsageError(f"{what} {path}: must be a mapping of option names to values")
    return loaded


def read_value(text: str, where: str) -> Any:
    """Return what a value on a command line means: YAML, but for what no option means by it.

    `10:50` is no number of minutes, `no` no truth value and `2026-01-01` no date here: they are
    texts.

    Raises
    ------
    UsageError
        If it is no YAML.
    """
    value = _parsed(text, where)
    said = text.strip()
    odd = isinstance(value, datetime.date) or (isinstance(value, int | float) and ":" in said)
    return said if odd or (isinstance(value, bool) and said.lower() not in _TRUTH) else value


_TRUTH = ("true", "false")


def _parsed(text: str, where: str) -> Any:
    """Return what a YAML text holds.

    Raises
    ------
    UsageError
        If it is none.
    """
    try:
        return _loaded(text)
    except RecursionError:
        raise UsageError(f"{where}: not valid YAML: nested too deep") from None
    except yaml.YAMLError as fault:
        reason = " ".join(str(fault).split())
        raise UsageError(f"{where}: not valid YAML: {reason:.500}") from None
    except Exception as fault:  # whatever Python makes of a 13th month, or of !!int before a word
        why = f"a date, number or tagged value that is none ({_plainly(fault)})"
        raise UsageError(f"{where}: not valid YAML: {why:.500}") from None


def _loaded(text: str) -> Any:
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        known: dict[int, int] = {}
        if _size(node, known) > max(_MAX_REPEATED, len(known)):
            raise yaml.YAMLError(f"its aliases repeat it to more than {_MAX_REPEATED:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node holds, each alias written out; `known` has those met before.

    YAML makes one object of a node and its aliases; whoever walks over it meets it every time.
    """
    before = known.get(id(node))
    if before is not None:  # an alias; one of itself never ends
        return before
    known[id(node)] = _MAX_REPEATED + 1
    pairs = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
    inner = [] if isinstance(node, yaml.ScalarNode) else [_size(one, known) for one in pairs]
    known[id(node)] = 1 + sum(inner)
    return known[id(node)]


def _plainly(fault: Exception) -> str:
    """Say what Python says of a value, but for its own ways out."""
    if "integer string conversion" in str(fault):
        return "a whole number of more than 4,300 digits"
    return str(fault)


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
    merged = merge(model, values, overrides or {})
    try:
        return model.model_validate(merged)
    except ValidationError as fault:
        raise UsageError(f"{where}: {faults_of(fault, model, merged)}") from None


def merge(
    model: type[Config], values: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return `values` with what `overrides` gives in its own and its alternatives' place."""
    given = {name: value for name, value in overrides.items() if value is not None}
    replaced = {name for names in model.ALTERNATIVES if {*names} & {*given} for name in names}
    return {name: value for name, value in values.items() if name not in replaced} | given


def load(
    path: Path | None,
    model: type[C],
    overrides: Mapping[str, Any] | None = None,
    what: str = "config",
) -> C:
    """Return `model` from a YAML file (or from defaults), options overriding the file."""
    if path is None:
        return build(model, {}, "options", overrides)
    return build(model, read_yaml(path, what), f"{what} {path}", overrides)


def part_of(model: type[C], asked: Config, **further: Any) -> C:
    """Return `model` with what it shares with `asked`; `further` are fields that it has besides."""
    shared = {name: getattr(asked, name) for name in model.model_fields if name not in further}
    return model(**shared, **further)


def faults_of(fault: ValidationError, model: type[BaseModel], values: Any) -> str:
    """Say each fault as key, value, what is allowed; a misspelt key with the nearest known one.

    What one value could have been is said together; no more faults than a reader will mend at once.
    """
    errors = fault.errors(include_url=False)
    errors.sort(key=lambda error: error["type"] != "extra_forbidden")  # may explain what is missing
    by_key: dict[str, list[ErrorDetails]] = {}
    for error in errors:
        by_key.setdefault(_key(error, values), []).append(error)
    told = set[str]()
    said = [_said(key, by_key[key], model, told) for key in itertools.islice(by_key, _MOST_FAULTS)]
    if len(by_key) > _MOST_FAULTS:
        said.append(f"and {len(by_key) - _MOST_FAULTS:,} more")
    return "; ".join(said)


def _key(error: ErrorDetails, values: Any) -> str:
    """Return where in the config an error is; pydantic's names of types are left out."""
    key = []
    for part in error["loc"]:
        last = part is error["loc"][-1] and error["type"] == "missing"
        if isinstance(values, dict) and (part in values or last):
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
        else:
            continue
        key.append(f"{part:.{_LONGEST}}" if isinstance(part, str) else str(part))
    return ".".join(key)


def _said(key: str, errors: Sequence[ErrorDetails], model: type[BaseModel], told: set[str]) -> str:
    """Say what is wrong with one key; `told` are the lists of known keys that were given before."""
    error = errors[0]
    if error["type"] == "missing":
        return f"`{key}` is required"
    if error["type"] == "extra_forbidden":
        hint = _near(key, _fields_at(model, error["loc"][:-1]))
        if hint in told:
            hint = ""
        told.add(hint)
        return f"unknown key `{key}`{hint}"
    reasons = [one["msg"].removeprefix("Value error, ") for one in errors]
    further = dict.fromkeys(reason.removeprefix("Input should be ") for reason in reasons[1:])
    reason = _MODEL.sub("a mapping of keys to values", " or ".join([reasons[0], *further]))
    if isinstance(error["input"], dict | list | BaseModel) and error["type"] == "value_error":
        return f"`{key}`: {reason}" if key else reason
    return f"`{key}` is {_VALUES.repr(error['input'])}: {reason}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, with the nearest known one, or all."""
    return f"unknown key `{key}`{_near(key, known)}"


def _near(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(key.rpartition(".")[2], names, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(names)}"


class _Values(reprlib.Repr):
    """Shows values of configs, none longer than a reader reads."""

    def repr_int(self, value: int, level: int) -> str:
        """Return the number, or what it is like: Python writes out no more than 4,300 digits."""
        return str(value) if value.bit_length() < 256 else "a number of very many digits"


_MODEL = re.compile(r"a valid dictionary( or instance of \w+)?")
_LONGEST, _MOST_FAULTS = 80, 8
_VALUES = _Values()
_VALUES.maxstring = _VALUES.maxother = 200


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
