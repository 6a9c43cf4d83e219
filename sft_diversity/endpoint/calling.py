"""One answer from an endpoint: the HTTP call, its faults, waits and tries."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.endpoint.base import Answer, Failure, Outcome, Request
from sft_diversity.endpoint.config import EndpointConfig, completions_url, read_key

_DETAIL = 300  # characters of an endpoint's words that a message repeats
_CONNECT_S = 20.0
_TRIES_AT_500 = 4  # the server's own error on this request: rarely passes, unlike 429 and 503
_AGAIN = frozenset({408, 409, 425, 429})
_WRONG_SETUP = {
    401: "refuses the key; check api_key_env",
    402: "asks for payment",
    403: "does not allow this; check the key and the model",
    404: "knows no such model or address; check the model and the URL",
    405: "takes no chat completions at this address; check the URL",
}


class TryAgain(Exception):
    """The call failed in a way that may pass; `wait_s` is what the endpoint asks for."""

    def __init__(self, why: str, wait_s: float = 0.0, status: int = 0) -> None:
        super().__init__(why)
        self.why, self.wait_s, self.status = why, wait_s, status


class Caller:
    """Asks one endpoint; used by many threads at a time. The key is in no message and no answer."""

    def __init__(self, config: EndpointConfig, stage: str) -> None:
        import httpx2

        self._config, self._stage = config, stage
        self._url = completions_url(config.url, stage)
        self._key = read_key(config, stage)
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(config.timeout_s, connect=min(_CONNECT_S, config.timeout_s)),
            limits=httpx2.Limits(
                max_connections=config.concurrency, max_keepalive_connections=config.concurrency
            ),
            follow_redirects=False,  # the key goes to the named host only
            trust_env=not _is_loopback(self._url),  # no proxy stands before this machine itself
        )
        self._faults = httpx2.TransportError, httpx2.DecodingError
        self._gate = threading.Lock()
        self._not_before = 0.0  # monotonic; a limit that one call meets holds for all
        self.host = urlsplit(self._url).netloc

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ask(
        self, request: Request, key: str, stop: threading.Event, again: Callable[[], None]
    ) -> tuple[Outcome, int]:
        """Return the outcome of a request and how many calls it took.

        `again` is told before each further try; `stop` ends a wait.

        Raises
        ------
        UsageError, DataError
            If no request could do better: the key, the model or the address is wrong.
        """
        body = orjson.dumps(
            {
                **self._config.parameters(),
                "model": self._config.model,
                "messages": [dict(message) for message in request.messages],
            }
        )
        number = own_errors = 0
        while True:
            if not self._pass_gate(stop):
                return Failure("gave-up", "stopped"), number
            number += 1
            try:
                return self._call(body), number
            except TryAgain as fault:
                own_errors += fault.status == 500
                if fault.wait_s > self._config.max_wait_s:
                    why = f"{fault.why}, asks to wait {fault.wait_s:,.0f} s, over max_wait_s"
                    return Failure("gave-up", why), number
                if number >= self._config.tries or own_errors >= _TRIES_AT_500:
                    why = f"call {number}, the last: {fault.why}"
                    return Failure("gave-up", why), number
                self._hold_back(fault.wait_s)
                stop.wait(max(fault.wait_s, self._backoff(key, number - 1)))
                again()

    def _backoff(self, key: str, number: int) -> float:
        """Return the wait after a failed call: doubled each time, spread by the request's key."""
        spread = 0.5 + int(key[number % 24 : number % 24 + 8], 16) / 2**33  # 0.5 to 1
        wait: float = self._config.backoff_s * 2.0**number * spread
        return min(wait, self._config.max_wait_s)

    def _hold_back(self, wait_s: float) -> None:
        if wait_s > 0:
            with self._gate:
                self._not_before = max(self._not_before, time.monotonic() + wait_s)

    def _pass_gate(self, stop: threading.Event) -> bool:
        """Wait while the endpoint wants no calls; return whether to go on."""
        while not stop.is_set():
            with self._gate:
                left = self._not_before - time.monotonic()
            if left <= 0:
                return True
            stop.wait(left)
        return False

    def _call(self, body: bytes) -> Outcome:
        try:
            response = self._http.post(self._url, content=body)
        except self._faults as fault:
            raise TryAgain(self._clean(f"{type(fault).__name__} {fault}".strip())) from None
        status = response.status_code
        if status == 200:
            return self._read(response.content)
        said = self._clean(response.text)
        if status == 429 and "insufficient_quota" in response.text:
            raise DataError(f"{self._stage}: {self.host} says the quota is used up: {said}")
        if status in _AGAIN or status >= 500:
            raise TryAgain(f"HTTP {status} {said}".strip(), retry_after(response.headers), status)
        if status in _WRONG_SETUP:
            raise UsageError(
                f"{self._stage}: {self.host} {_WRONG_SETUP[status]} (HTTP {status}: {said})"
            )
        if 300 <= status < 400:
            raise UsageError(
                f"{self._stage}: {self.host} sends us elsewhere (HTTP {status}); "
                "give the final address as URL"
            )
        return Failure("refused", f"HTTP {status}: {said}")

    def _read(self, content: bytes) -> Outcome:
        """Return the answer of a 200; a body that is no completion is a fault that may pass."""
        try:
            body = orjson.loads(content)
            choice = body["choices"][0]
            text = choice["message"].get("content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise TryAgain("HTTP 200 without a completion in it") from None
        if not isinstance(text, str) or not text.strip():
            return Failure("empty", f"finish_reason {choice.get('finish_reason')}")
        if self._key:
            text = text.replace(self._key, "[key]")
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character
        usage = body.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return Answer(
            text,
            str(choice.get("finish_reason") or "stop"),
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
        )

    def _clean(self, text: str) -> str:
        """Return the beginning of what the endpoint said, on one line and without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        return " ".join(text.split())[:_DETAIL]


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a `Retry-After` header asks for (a number or a date), else 0."""
    said = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(said)) if said else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
