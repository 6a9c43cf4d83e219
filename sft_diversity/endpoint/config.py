"""Where a model answers, and how it is asked. What changes no answer is left out of every key."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from sft_diversity.core import extras
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError

_PARAMETERS = ("temperature", "top_p", "max_tokens", "seed")


class CallOptions(Config):
    """How a model is asked; fields marked `exclude` change no answer and no content key."""

    model: str = Field(min_length=1, description="model name, as the endpoint knows it")
    temperature: float | None = Field(
        default=0.0, ge=0, description="of the model's sampling; none leaves it to the endpoint"
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="of the model's sampling; none: not sent"
    )
    max_tokens: int | None = Field(
        default=1_024, ge=1, description="most tokens of an answer; none: not sent"
    )
    seed: int | None = Field(default=None, description="of the model's sampling; none: not sent")
    extra: dict[str, Any] = Field(
        default={}, description="further fields of the request, such as response_format"
    )
    api_key_env: str | None = Field(
        default=None,
        exclude=True,
        description="environment variable that holds the key; none sends no key",
    )
    concurrency: int = Field(
        default=16, ge=1, le=1_024, exclude=True, description="requests under way at a time"
    )
    insecure_key: bool = Field(
        default=False,
        exclude=True,
        description="send the key over plain http, to a machine that is not this one",
    )
    timeout_s: float = Field(
        default=300.0, gt=0, exclude=True, description="longest silence of the endpoint, in seconds"
    )
    answer_s: float = Field(
        default=1_800.0,
        gt=0,
        exclude=True,
        description="longest wait for a whole answer, in seconds",
    )
    tries: int = Field(
        default=16, ge=1, exclude=True, description="calls for one answer, the first included"
    )
    price_in: float = Field(
        default=0.0, ge=0, exclude=True, description="money per million tokens read"
    )
    price_out: float = Field(
        default=0.0, ge=0, exclude=True, description="money per million tokens written"
    )

    def parameters(self) -> dict[str, Any]:
        """Return the fields of a request besides model and messages."""
        sent = {name: getattr(self, name) for name in _PARAMETERS}
        return {name: value for name, value in sent.items() if value is not None} | self.extra

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Return what so many tokens cost, in the money of the prices."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


class EndpointConfig(CallOptions):
    """Any OpenAI-compatible endpoint: a block `endpoint` of a stage's config."""

    url: str = Field(
        exclude=True, description="base URL, such as http://127.0.0.1:8000/v1", min_length=1
    )


def is_url(name: str | Path) -> bool:
    """Whether a model is named by an endpoint's URL, and not by a folder or a Hub id."""
    return str(name).startswith(("http:", "https:"))


def check_endpoint(config: EndpointConfig, stage: str) -> None:
    """Refuse an endpoint that is not asked: no URL, no SDK to ask it with, a key for all to see."""
    _check_key(config, stage)
    extras.require("openai", f"{stage}: a model behind an endpoint")


def _check_key(config: EndpointConfig, stage: str) -> None:
    """Refuse to send a key without encryption to another machine, unless that is asked for."""
    address = urlsplit(completions_url(config.url, stage))
    if config.api_key_env is None or config.insecure_key or address.scheme == "https":
        return
    if not _is_here(str(address.hostname)):
        raise UsageError(
            f"{stage}: the key would go to {address.hostname} over plain http:, for all on the way "
            "to read; use https, a tunnel to 127.0.0.1 (ssh -L), or allow it with insecure_key"
        )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def completions_url(url: str, stage: str) -> str:
    """Return the address of chat completions under a base URL; a bare host gets `/v1`.

    Raises
    ------
    UsageError
        If `url` is none, or carries a name and password (they would end up in logs).
    """
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as fault:
        raise UsageError(f"{stage}: endpoint {url!r:.80} is no URL: {fault}") from None
    if parts.username or parts.password:  # not repeated in the message: it may be a secret
        raise UsageError(
            f"{stage}: the endpoint's URL carries credentials; put the key into an environment "
            "variable and name that with api_key_env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{stage}: endpoint {url!r:.80} is no URL; it looks like http://127.0.0.1:8000/v1"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return parts._replace(path=f"{path}/chat/completions", fragment="").geturl()


def read_key(config: EndpointConfig, stage: str) -> str | None:
    """Return the key from the environment variable that the config names, or None if it names none.

    Raises
    ------
    UsageError
        If the name is no name of a variable (perhaps the key itself), the variable is not set, it
        holds what no header takes, or the key would be sent for all to read.
    """
    _check_key(config, stage)
    name = config.api_key_env
    if name is None:
        return None
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UsageError(
            f"{stage}: api_key_env must name an environment variable, not hold the key itself"
        )
    key = os.environ.get(name, "").strip()
    if not key:
        raise UsageError(f"{stage}: the environment variable {name} of api_key_env is not set")
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"{stage}: what {name} holds is no key (line breaks, quotes?); set it anew"
        )
    return key
