"""Chat templates of others, rendered within bounds of time and of size.

transformers renders them in jinja2's sandbox, which keeps them from Python and from files; how long
they take and how much they make it does not bound. Nothing here changes what is rendered.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sft_diversity.core.errors import DataError, SftdivError

#: Seconds that one dialogue may take, and characters that it, and any value on the way, may have.
LIMIT_S, LIMIT_CHARACTERS = 10.0, 1 << 26
_WIDTH = re.compile(r"\d{6,}|\*")  # of a format: no template pads so far
_BYTES = 16  # that an element of a list counts for, and a bit of a power
_rendering = threading.local()


class TooDear(SftdivError):
    """A template that would not end, or would fill the memory; no fault of a single row."""


def bound() -> None:
    """Bound all templates that transformers compiles in this process from now on.

    Notes
    -----
    Looked at wherever a template calls, looks up an attribute, computes (`+ * ** %`), filters or
    writes. Loops that do nothing of it, nested over data, are not bounded in time.
    """
    from transformers.utils import chat_template_utils

    theirs: Any = chat_template_utils
    with _lock:
        if not hasattr(theirs._compile_jinja_template, "bounded"):
            theirs._compile_jinja_template = _bounded(theirs._compile_jinja_template)


_lock = threading.Lock()


def _bounded(compiled: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a compiler of templates in the environment of another, with bounds."""
    environment: Any = compiled("").environment
    environment.intercepted_binops = frozenset(["+", "*", "**", "%"])
    for name, wrapped in (("call_binop", _operator), ("call", _call), ("getattr", _attribute)):
        setattr(environment, name, wrapped(getattr(environment, name)))
    environment.getitem = _attribute(environment.getitem)
    for name, function in environment.filters.items():
        environment.filters[name] = _filter(function)

    @functools.lru_cache
    def compile_bounded(text: str) -> Any:
        template = environment.from_string(text)
        template.root_render_func = _written(template.root_render_func)
        return template

    compile_bounded.bounded = True  # type: ignore[attr-defined]
    return compile_bounded


def _written(root: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
    """Count what a rendering writes, from its beginning on."""

    @functools.wraps(root)
    def chunks(context: Any) -> Iterator[str]:
        _rendering.until = time.monotonic() + LIMIT_S
        written = 0
        try:
            for chunk in root(context):
                written += len(chunk)
                _check(None, written)
                yield chunk
        finally:
            _rendering.until = None

    return chunks


def _check(value: Any, size: int = 0) -> Any:
    """Return a value unless the time is over, or it (or `size`) is too large."""
    until = getattr(_rendering, "until", None)
    if until is not None and time.monotonic() > until:
        raise TooDear(
            f"chat: the tokenizer's chat template takes over {LIMIT_S:g} s for one dialogue; "
            "use another tokenizer, or one without a template (it gets ours)"
        )
    if isinstance(value, str):
        size = len(value)
    elif isinstance(value, list | tuple | dict):
        size = _BYTES * len(value)
    if size > LIMIT_CHARACTERS:
        raise TooDear(
            f"chat: the tokenizer's chat template makes over {LIMIT_CHARACTERS:,} characters of "
            "one dialogue; use another tokenizer, or one without a template (it gets ours)"
        )
    return value


def _given(values: Iterable[Any]) -> None:
    """Look at what a call or a filter is given; numbers there are widths, counts and indents."""
    for value in values:
        _check(value, abs(value) if isinstance(value, int) else 0)


def _format(text: Any) -> None:
    """Refuse a format that pads to a width which no template needs, or which data decides."""
    if isinstance(text, str) and _WIDTH.search(text):
        _check(None, LIMIT_CHARACTERS + 1)


def _operator(plain: Callable[..., Any]) -> Callable[..., Any]:
    def operated(context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 0) if operator == "**" else 0
            _check(None, _BYTES * bits)
        elif operator == "*":
            _check(None, _length(left) * _length(right))
        elif operator == "%":
            _format(left)
        return _check(plain(context, operator, left, right))

    return operated


def _length(value: Any) -> int:
    """Return how often a value repeats another, or how much there is to be repeated."""
    if isinstance(value, int):
        return max(value, 0)
    return (
        len(value) * (1 if isinstance(value, str) else _BYTES) if hasattr(value, "__len__") else 1
    )


def _call(plain: Callable[..., Any]) -> Callable[..., Any]:
    def called(context: Any, function: Any, /, *given: Any, **named: Any) -> Any:
        if getattr(function, "__name__", "") != "safe_range":  # the sandbox bounds that itself
            _given((*given, *named.values()))
        return _check(plain(context, function, *given, **named))

    return called


def _attribute(plain: Callable[..., Any]) -> Callable[..., Any]:
    def looked_up(value: Any, name: Any) -> Any:
        if name in ("format", "format_map"):
            _format(value)
        return _check(plain(value, name))

    return looked_up


def _filter(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)  # with what jinja2 notes on it
    def filtered(*given: Any, **named: Any) -> Any:
        _given((*given, *named.values()))
        if plain.__name__ == "do_format":
            _format(given[0])
        return _check(plain(*given, **named))

    return filtered


_LARGE = 3  # exit code of a template that wants too much
#: Limits for a template and three short turns: seconds of processor, bytes, characters.
_TEMPLATE_S, _TEMPLATE_MEMORY, _TEMPLATE_LENGTH = 2, 1 << 30, 16 << 20
_TRIAL = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({_TEMPLATE_S}, {_TEMPLATE_S}))
resource.setrlimit(resource.RLIMIT_AS, ({_TEMPLATE_MEMORY}, {_TEMPLATE_MEMORY}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from jinja2.sandbox import ImmutableSandboxedEnvironment
template, turns = json.load(sys.stdin)
written = 0
try:
    made = ImmutableSandboxedEnvironment().from_string(template)
    for piece in made.generate(messages=turns, bos_token="", eos_token="", pad_token=""):
        written += len(piece)
        if written > {_TEMPLATE_LENGTH}:
            sys.exit({_LARGE})
except MemoryError:
    sys.exit({_LARGE})
except Exception:
    pass  # the library has more to offer than this; it says itself what is wrong
"""


@functools.cache
def try_out(template: str) -> None:
    """Render a short dialogue in a process of few means, so that an endless template ends there.

    `bound` sees no loop that does nothing; this does. Costs a process, once for each template.

    Raises
    ------
    DataError
        If the template takes more than these means.
    """
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    given = json.dumps([_TAGS.sub("", template), turns])
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TRIAL], input=given.encode(), capture_output=True, check=False
    )
    if done.returncode == _LARGE or done.returncode < 0:
        raise DataError(
            "chat: the tokenizer's chat template takes more than "
            f"{_TEMPLATE_S} s or {_TEMPLATE_MEMORY >> 30} GB for three short turns; mend it"
        )


_TAGS = re.compile(r"{%-?\s*(end)?generation\s*-?%}")
