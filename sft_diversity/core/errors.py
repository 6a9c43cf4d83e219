"""Errors that a user can act on. Each is one line: stage, value, limit, way out."""

from __future__ import annotations


class SftdivError(Exception):
    """Base of all expected failures; `main()` prints it as `error: ...` and exits with its code."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message as one line that a terminal shows as it is, its middle left out."""
        said = printable(super().__str__())
        return said if len(said) <= 2 * _HALF else f"{said[:_HALF]} ... {said[-_HALF:]}"


_HALF = 2_000


def printable(text: str) -> str:
    """Return `text` with what a terminal would act on, or could not show, written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DataError(SftdivError):
    """The data or the machine would not do."""

    exit_code = 1


class UsageError(SftdivError):
    """Wrong usage or config."""

    exit_code = 2


class BadRowsError(SftdivError):
    """More rows went to quarantine than `max_bad_fraction` allows."""

    exit_code = 3


class Interrupted(SftdivError):
    """Stopped by a signal at a safe point; the same command resumes."""

    exit_code = 75
