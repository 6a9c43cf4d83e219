"""Keep tokens out of job files and of the environment that a scheduler stores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sft_diversity.core.errors import UsageError

_NAMES = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|_KEY$|AUTHORI[SZ]ATION|COOKIE",
    re.I,
)
_HARMLESS = {"TOKENIZERS_PARALLELISM", "HF_TOKEN_PATH", "SSH_AUTH_SOCK"}
_VALUES = re.compile(
    r"\bhf_[A-Za-z0-9]{10,}|\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bAKIA[A-Z0-9]{16}\b"
    r"|\bBearer\s+\S{8,}"
)
#: A password in a URL, or what signs one.
_IN_URLS = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@|[?&](X-Amz-Signature|X-Goog-Signature|sig|signature|token)=[^&\s]+"
)


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables whose name or value does not look like a token."""
    return {
        name: value
        for name, value in environment.items()
        if not is_secret(name) and not _VALUES.search(value)
    }


def is_secret(name: str) -> bool:
    """Whether a variable's name says that it holds a token."""
    return name not in _HARMLESS and _NAMES.search(name) is not None


def refuse(texts: Iterable[str], names: Iterable[str] = ()) -> None:
    """Refuse what would put a token into a job's files.

    Raises
    ------
    UsageError
        It names where the token stands, never the token.
    """
    for name in names:
        if is_secret(name):
            raise UsageError(
                f"submit: environment.{name} looks like a token, and a profile is stored with the "
                "job; have a `setup` line read it from a file of yours"
            )
    if any(_VALUES.search(text) or _IN_URLS.search(text) for text in texts):
        raise UsageError(
            "submit: the command or the profile holds a token, and both are stored with the job; "
            "take it out (`hf auth login` keeps it in your home)"
        )
