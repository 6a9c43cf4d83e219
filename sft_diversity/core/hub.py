"""Talk with the Hugging Face Hub: no token in any text, and every fault as one line."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PREFIX = "hub:"
_TOKEN = re.compile(
    r"hf_\w{4,}|(?i:bearer)\s+[^\s'\",]+|(?i:token)=[^\s&'\"]+|(?<=://)[^/\s@]+(?=@)"
)
_MASK = "(token)"
_LOGIN = "log in with `hf auth login` or set HF_TOKEN"


@dataclass(frozen=True)
class Reason:
    """Why the Hub did not do it: what happened, the way out, the HTTP status (0: no answer)."""

    what: str
    way: str
    status: int = 0

    def __str__(self) -> str:
        """Return both as the end of a one-line message."""
        return f"{self.what}{f' ({self.status})' if self.status else ''}; {self.way}"


@contextlib.contextmanager
def talking(hide: Callable[[str], str] | None = None) -> Iterator[None]:
    """Keep the clients quiet meanwhile, and secrets out of the log records of any library.

    `hide` takes them out of a text, by default as `scrub` does.

    At DEBUG, HTTP libraries log what a server echoes. Bars show on a terminal only; that a client
    tries again is not said: what comes of it is.
    """
    from huggingface_hub.utils import logging as client_logging
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hide = hide or scrub
    plain = logging.getLogRecordFactory()
    verbosity, bars = client_logging.get_verbosity(), not are_progress_bars_disabled()

    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        record = plain(*args, **kwargs)
        record.msg, record.args = hide(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(factory)
    client_logging.set_verbosity(logging.ERROR)
    if bars and not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        logging.setLogRecordFactory(plain)
        client_logging.set_verbosity(verbosity)
        if bars:
            enable_progress_bars()


def scrub(text: str) -> str:
    """Return `text` without anything that is, or looks like, an access token."""
    from huggingface_hub import get_token

    held = get_token()
    if held:
        text = text.replace(held, _MASK)
    return _TOKEN.sub(_MASK, text)


def one_line(fault: BaseException, limit: int = 300) -> str:
    """Return what a fault says on one line, without tokens; its kind where it says nothing."""
    return scrub(" ".join(str(fault).split()))[:limit] or type(fault).__name__


def reason(fault: BaseException) -> Reason:
    """Say in plain words why a client of the Hub raised `fault`."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import OfflineModeIsEnabled

    chain = list(causes(fault))
    for one in chain:
        response = getattr(one, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int):
            code = response.headers.get("X-Error-Code") if response is not None else None
            return _of_status(status, code, fault, get_token() is not None)
    if any(isinstance(one, OfflineModeIsEnabled) for one in chain):
        return Reason("offline mode is set", "unset HF_HUB_OFFLINE and run the command again")
    network = next((one for one in chain if _is_network(one)), None)
    if network is not None:
        what = f"cannot reach {scrub(_endpoint())}: {one_line(network, 120)}"
        return Reason(what, "check the network (or HF_ENDPOINT), then run the command again")
    return Reason(one_line(fault), "mend that, then run the command again")


def _of_status(status: int, code: str | None, fault: BaseException, token: bool) -> Reason:
    if status == 401 and not token:
        return Reason("there is no such repository to see without a token", _LOGIN, status)
    if status == 401:
        return Reason("the Hub does not accept the token", _LOGIN, status)
    if status == 403:
        return Reason("the token has no right to this", "use one that may write there", status)
    if status == 404 and code == "RevisionNotFound":
        return Reason("no such revision", "name a branch, a tag or a commit that it has", status)
    if status == 404 and code == "EntryNotFound":
        return Reason("a file is not there", "check the revision", status)
    if status == 404:
        way = f"check the name; for a private one {_LOGIN}"
        return Reason("no such repository, or not for this token", way, status)
    if status in (409, 412):
        what = "somebody else wrote to it meanwhile"
        return Reason(what, "nothing was changed; run the command again", status)
    if status == 429 or status >= 500:
        what = "the Hub does not serve at the moment"
        return Reason(what, "run the command again later: it goes on where it was", status)
    return Reason(one_line(fault), "mend that, then run the command again", status)


def causes(fault: BaseException | None) -> Iterator[BaseException]:
    """Yield a fault, what it was raised from, and so on."""
    seen: set[int] = set()
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        yield fault
        fault = fault.__cause__ or fault.__context__


def _is_network(fault: BaseException) -> bool:
    import httpx2

    return isinstance(fault, httpx2.TransportError | ConnectionError | TimeoutError)


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
