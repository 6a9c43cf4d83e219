"""Errors that a user can act on. Each is one line: stage, value, limit, way out."""

from __future__ import annotations


class SftdivError(Exception):
    """Base of all expected failures; `main()` prints it as `error: ...` and exits with its code."""

    exit_code = 1


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
