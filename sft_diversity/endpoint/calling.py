"""One answer from an endpoint. The SDK asks, waits and tries again; this is what it leaves to us.

- No header leaves but those of `_HEADERS` and the key that the config names: the SDK would take
  keys, an organisation and further headers from the environment, for whatever URL is given.
- A 200 without a completion may pass, as a dropped connection may; a 500 rarely does.
- A JSON schema is left out where the endpoint takes none.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from sft_diversity.core import progress
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.endpoint.answers import Answer, Failure, Messages, Outcome
from sft_diversity.endpoint.config import (
    CallOptions,
    EndpointConfig,
    check_endpoint,
    completions_url,
    read_key,
)

if TYPE_CHECKING:
    import httpx2
    from openai.types.chat import ChatCompletion

_DETAIL = 300  # characters of an endpoint's words that a message repeats
_CONNECT_S = 20.0
_MOST_BYTES = 16 << 20  # of an answer: a book
_GRACE_S = 60.0
_TRIES_AT_500 = 4  # the server's own error on this request: rarely passes, unlike 429 and 503
_AGAIN = frozenset({408, 409, 425, 429})
_MAYBE_SCHEMA = frozenset({400, 422, 500, 501})  # what servers say to a field they do not know
_HERE = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_RETRY = "x-stainless-retry-count"  # the SDK's header: 0 at a request's first call
_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length",
     "user-agent", _RETRY}
)  # fmt: skip
_WRONG_SETUP = {
    401: "refuses the key; check api_key_env",
    402: "asks for payment",
    403: "does not allow this; check the key and the model",
    404: "knows no such model or address; check the model and the URL",
    405: "takes no chat completions at this address; check the URL",
}


@dataclass
class Tally:
    """What asking has taken so far: fields as in a manifest's `run` block, and failures."""

    answers_kept_from_before: int = 0
    answers_new: int = 0
    calls: int = 0
    retries: int = 0
    tokens_in_new: int = 0
    tokens_out_new: int = 0
    failed: int = 0

    def as_json(self, config: CallOptions) -> dict[str, Any]:
        """Return the figures for the `run` block of a manifest."""
        said = asdict(self) | {"cost_new": round(self._cost(config), 6)}
        return {name: value for name, value in said.items() if name != "failed"}

    def line(self, config: CallOptions) -> str:
        """Say the figures, for the end of a progress line."""
        cost = f", cost {self._cost(config):,.2f}" if config.price_in or config.price_out else ""
        counts = (
            (self.answers_kept_from_before, "kept"),
            (self.retries, "tried again"),
            (self.failed, "failed"),
        )
        rest = "".join(f", {number:,} {what}" for number, what in counts if number)
        return f"{self.tokens_in_new:,} tokens in, {self.tokens_out_new:,} out{cost}{rest}"

    def _cost(self, config: CallOptions) -> float:
        return config.cost(self.tokens_in_new, self.tokens_out_new)


class Caller:
    """Asks one endpoint; used by many threads at a time. The key is in no message and no answer."""

    def __init__(
        self, config: EndpointConfig, stage: str, schema: Mapping[str, Any] | None
    ) -> None:
        check_endpoint(config, stage)
        import httpx2
        import openai

        address = urlsplit(completions_url(config.url, stage))
        self._config, self._stage, self.host = config, stage, address.netloc
        self._key = read_key(config, stage)
        self._schema, self._takes_schema = schema, False  # as long as no answer has shown it
        self._counting = threading.Lock()
        self._since: dict[int, float] = {}  # thread -> when its call under way began
        self.tally = Tally()
        timeout = httpx2.Timeout(config.timeout_s, connect=min(_CONNECT_S, config.timeout_s))
        self._sdk = openai.OpenAI(
            api_key="none",  # it must have one; `_before` sends ours
            base_url=address._replace(query="").geturl().removesuffix("/chat/completions"),
            default_query=dict(parse_qsl(address.query)),
            max_retries=config.tries - 1,
            timeout=timeout,
            http_client=httpx2.Client(
                timeout=timeout,
                limits=httpx2.Limits(
                    max_connections=config.concurrency, max_keepalive_connections=config.concurrency
                ),
                follow_redirects=False,  # the key goes to the named host only
                mounts=dict.fromkeys(_HERE),  # no proxy stands before this machine itself
                event_hooks={"request": [self._before], "response": [self._after]},
            ),
        )

    def close(self) -> None:
        """Close all connections."""
        self._sdk.close()

    def ask(self, messages: Messages) -> Outcome:
        """Return the outcome of a request.

        Raises
        ------
        UsageError, DataError
            If no request could do better: the key, the model or the address is wrong.
        """
        import openai

        try:
            completion = self._complete(messages)
        except openai.APIStatusError as fault:
            return self._refusal(fault.response)
        except openai.APIConnectionError as fault:
            cause = fault.__cause__ or fault
            return self._gave_up(fault.request, f"{type(cause).__name__} {cause}")
        finally:
            with self._counting:
                self._since.pop(threading.get_ident(), None)
        choice = completion.choices[0]
        text: Any = choice.message.content  # nothing holds an endpoint to its type
        if not isinstance(text, str) or not text.strip():
            return Failure("empty", f"finish_reason {choice.finish_reason}")
        if self._key:
            text = text.replace(self._key, "[key]")
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character
        sizes = (getattr(completion.usage, f"{one}_tokens", 0) for one in ("prompt", "completion"))
        tokens = [size if isinstance(size, int) and size > 0 else 0 for size in sizes]
        return Answer(text, str(choice.finish_reason or "stop"), *tokens)

    def _complete(self, messages: Messages) -> ChatCompletion:
        """Return a completion, held to the schema unless the endpoint turns out to take none."""
        import openai

        parameters = self._config.parameters()
        ask: Callable[..., ChatCompletion] = functools.partial(
            self._sdk.chat.completions.create,
            model=self._config.model,
            messages=[dict(message) for message in messages],
            extra_body=parameters,
        )
        schema = self._schema
        if schema is None or "response_format" in parameters:
            return ask()
        try:
            held = ask(response_format={"type": "json_schema", "json_schema": schema})
        except openai.APIStatusError as fault:
            if self._takes_schema or fault.status_code not in _MAYBE_SCHEMA:
                raise
            plain = ask()  # raises as well where the schema is not to blame
            if self._schema is not None:
                progress.say(f"{self._stage}: {self.host} takes no JSON schema; going on without")
            self._schema = None
            return plain
        self._takes_schema = True
        return held

    def _before(self, request: httpx2.Request) -> None:
        """Count a call, and let no header go but those that are meant."""
        with self._counting:
            self._since[threading.get_ident()] = time.monotonic()
            self.tally.calls += 1
            self.tally.retries += _number(request) > 1
        for name in set(request.headers) - _HEADERS:
            del request.headers[name]
        request.headers["accept-encoding"] = "identity"  # what is packed may be a bomb
        if self._key:
            request.headers["authorization"] = f"Bearer {self._key}"

    def _after(self, response: httpx2.Response) -> None:
        """Read a response, and tell the SDK whether to try again where its rule is not ours."""
        import httpx2

        with self._counting:
            began = self._since.pop(threading.get_ident(), time.monotonic())
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.DecodingError("a packed answer, which was not asked for")
        response.stream = _bounded(response.stream, began + self._config.answer_s)
        response.read()
        if response.status_code == 200 and not _is_completion(response.content):
            raise httpx2.DecodingError("HTTP 200 without a completion", request=response.request)
        own_error = response.status_code == 500 and _number(response.request) >= _TRIES_AT_500
        if own_error or _is_spent(response):
            response.headers["x-should-retry"] = "false"

    def overdue(self) -> bool:
        """Whether a call takes longer than any answer may: its head has not come, bit by bit."""
        allowed = self._config.answer_s
        late = time.monotonic() - allowed - min(_GRACE_S, allowed)
        with self._counting:
            return any(since < late for since in self._since.values())

    def _refusal(self, response: httpx2.Response) -> Failure:
        """Say what a status other than 200 means: this request fails, or all of them would."""
        status, said = response.status_code, self.clean(response.text)
        if _is_spent(response):
            raise DataError(f"{self._stage}: {self.host} says the quota is used up: {said}")
        if status in _WRONG_SETUP:
            raise UsageError(
                f"{self._stage}: {self.host} {_WRONG_SETUP[status]} (HTTP {status}: {said})"
            )
        if 300 <= status < 400:
            raise UsageError(
                f"{self._stage}: {self.host} sends us elsewhere (HTTP {status}); "
                "give the final address as URL"
            )
        if status < 500 and status not in _AGAIN:
            return Failure("refused", f"HTTP {status}: {said}")
        wait = response.headers.get("retry-after")
        return self._gave_up(
            response.request, f"HTTP {status} {said}" + (f", Retry-After {wait}" if wait else "")
        )

    def _gave_up(self, request: httpx2.Request, why: str) -> Failure:
        return Failure("gave-up", f"call {_number(request)}, the last: {self.clean(why)}")

    def clean(self, text: str) -> str:
        """Return the beginning of what the endpoint said, on one line and without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        return " ".join(text.split())[:_DETAIL]


def _bounded(stream: Any, until: float) -> Any:
    """Return the stream of a body that ends in an error when it is too long, in bytes or time."""
    import httpx2

    class Bounded(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in stream:
                size += len(chunk)
                if size > _MOST_BYTES or time.monotonic() > until:
                    what = f"over {_MOST_BYTES >> 20} MB" if size > _MOST_BYTES else "over answer_s"
                    raise httpx2.ReadError(f"the answer does not end: {what}")
                yield chunk

        def close(self) -> None:
            stream.close()

    return Bounded()


def _number(request: httpx2.Request) -> int:
    """Return which call for its answer a call is, from 1."""
    return 1 + int(request.headers.get(_RETRY, 0))


def _is_spent(response: httpx2.Response) -> bool:
    return response.status_code == 429 and "insufficient_quota" in response.text


def _is_completion(content: bytes) -> bool:
    try:
        return isinstance(orjson.loads(content)["choices"][0]["message"], dict)
    except (ValueError, KeyError, IndexError, TypeError):
        return False
