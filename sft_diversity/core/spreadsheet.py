"""Texts in tables that a spreadsheet may open: none of them is a formula there."""

from __future__ import annotations

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def quoted(value: Any) -> Any:
    """Return a cell as it is written: before a text that would be a formula stands an apostrophe.

    Numbers are left alone, as texts too. So that `unquoted` gives every text back, one that begins
    with apostrophes before such a text gets another.
    """
    if not isinstance(value, str) or not value.lstrip("'").startswith(_FORMULA):
        return value
    return value if _is_number(value) else f"'{value}"


def unquoted(text: str) -> str:
    """Return what `quoted` was given."""
    if text.startswith("'") and text.lstrip("'").startswith(_FORMULA):
        return text[1:]
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
