"""The page's server: routes over a session, and who may ask.

It listens on this machine alone. Who does not know the token, or comes by another name of the
machine (a page elsewhere whose name was pointed here), gets nothing; what changes something must
not come from a page of another origin. Texts of the data go out as data, never as markup.
"""

from __future__ import annotations

import json
import mimetypes
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sft_diversity.core.errors import SftdivError
from sft_diversity.exploring import questions
from sft_diversity.exploring.jobs import Job, Superseded, said
from sft_diversity.exploring.keeping import PAGE, keep
from sft_diversity.exploring.reading import Reader
from sft_diversity.exploring.session import Answer, Session
from sft_diversity.exploring.settings import Refused

BODY = 32 << 20  # bytes of a request, at most
_PATIENCE = 2.0, 0.5  # seconds until a job is named instead of its answer: of the dial, of others
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Awaitable[Response]]


class Guard:
    """Lets through who knows the token and speaks to this machine by its own name.

    Parameters
    ----------
    token : str
        First part of every path.
    port : int
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode(), self._token)
        if not known or not slash or len(hosts) != 1 or hosts[0] not in self._hosts:
            await Response(status_code=404)(scope, receive, send)
            return
        origins = [value for name, value in headers if name == b"origin"]
        if scope["method"] != "GET" and any(one != f"http://{hosts[0]}" for one in origins):
            await Response(status_code=403)(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower().encode(): value.encode() for name, value in _HEADERS.items()}
                message["headers"] = [*message["headers"], *own.items()]
            await send(message)

        await self._app({**scope, "path": "/" + rest, "root_path": ""}, receive, sent)


def told(value: Any, status: int = 200) -> Response:
    """Return JSON; characters that could end a script or a line of one are escaped."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return Response(text, status, media_type="application/json")


def binary(values: npt.NDArray[Any], **headers: str) -> Response:
    """Return an array as little-endian bytes."""
    flat = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return Response(flat.tobytes(), 200, headers, "application/octet-stream")


def _waiting(job: Job) -> Response:
    return told({"job": job.id, "what": job.what, "seconds": job.seconds}, 202)


def _answered(answer: Answer) -> Response:
    head = json.dumps(answer.told, ensure_ascii=True, allow_nan=False).encode()
    head += b" " * (-len(head) % 4)
    size = len(head).to_bytes(4, "little")
    rows = answer.rows.astype("<u4", copy=False).tobytes()
    return Response(size + head + rows, media_type="application/octet-stream")


async def body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises
    ------
    Refused
        If it is none, or too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused("the body must be application/json")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY:
            raise Refused(f"the body is over {BODY >> 20} MB")
        parts.append(part)
    try:
        found = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        raise Refused("the body is no JSON") from None
    if not isinstance(found, dict):
        raise Refused("the body is no JSON object")
    return found


class Routes:
    """What the page asks, of a session."""

    def __init__(self, session: Session) -> None:
        self._session, self._reader = session, Reader(session)

    def app(self, token: str, port: int) -> ASGIApp:
        """Return the server as an ASGI application."""
        get = {
            "api/corpus": self.corpus,
            "api/strategies": self.strategies,
            "api/map": self.map,
            "api/column/{name:path}": self.column,
            "api/job/{id}": self.job,
            "api/samples": self.samples,
            "api/sample": self.sample,
            "api/search": self.search,
            "api/nearest": self.nearest,
            "{name:path}": self.file,
        }
        post = {
            "api/select": self.select,
            "api/curve": self.curve,
            "api/explain": self.explain,
            "api/keep": self.keep,
        }
        routes = [Route(f"/{path}", _safe(of), methods=["POST"]) for path, of in post.items()]
        routes += [Route(f"/{path}", _safe(of), methods=["GET"]) for path, of in get.items()]
        return Guard(Starlette(routes=routes), token, port)

    async def file(self, request: Request) -> Response:
        """Send a file of the page; there are no folders in it."""
        name = request.path_params["name"] or "index.html"
        files = {one.name: one for one in PAGE.iterdir() if one.is_file()} if PAGE.exists() else {}
        if name not in files:
            return Response(status_code=404)
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
        return Response(files[name].read_bytes(), media_type=kind)

    async def corpus(self, request: Request) -> Response:
        """Say what there is."""
        return told(await run_in_threadpool(self._reader.corpus))

    async def strategies(self, request: Request) -> Response:
        """Say what making each strategy takes."""
        return told(await run_in_threadpool(self._session.strategies))

    async def map(self, request: Request) -> Response:
        """Send the places of all samples."""
        found = await run_in_threadpool(self._reader.places)
        return _waiting(found) if isinstance(found, Job) else binary(found)

    async def column(self, request: Request) -> Response:
        """Send a column, a value for each row."""
        name = request.path_params["name"]
        found = await run_in_threadpool(self._reader.column, name)
        if found is None:  # what the first selection reads
            first = await run_in_threadpool(self._session.select, {})
            if isinstance(first, Job) and not await _over(first, 1):
                return _waiting(first)
            found = await run_in_threadpool(self._reader.column, name)
        if found is None:
            raise Refused(f"there is no column {name[:60]!r} of this strategy", "name")
        return binary(found)

    async def job(self, request: Request) -> Response:
        """Say how far a job is."""
        job = self._session.jobs.get(request.path_params["id"])
        return told({"error": "there is no such job"}, 404) if job is None else told(job.told())

    async def samples(self, request: Request) -> Response:
        """Send samples for a table."""
        rows = _numbers(request.query_params.get("rows", ""))
        strategy = request.query_params.get("strategy")
        return told(await run_in_threadpool(self._reader.samples, rows, strategy))

    async def sample(self, request: Request) -> Response:
        """Send one sample whole."""
        row, strategy = _number(request, "row"), request.query_params.get("strategy")
        return told(await run_in_threadpool(self._reader.sample, row, strategy))

    async def search(self, request: Request) -> Response:
        """Send the rows that hold a text."""
        text, where = (request.query_params.get(name, "") for name in ("q", "in"))
        rows, total = await run_in_threadpool(self._reader.search, text, where or "both")
        return binary(rows, **{"X-Total": str(total)})

    async def nearest(self, request: Request) -> Response:
        """Send the rows most like one."""
        row, many = _number(request, "row"), min(_number(request, "many", 20), 200)
        strategy = request.query_params.get("strategy")
        settings = {} if strategy is None else {"strategy": strategy}
        job = await run_in_threadpool(questions.nearest, self._session, settings, row, many)
        return binary(job.result) if await _over(job, 1) else _waiting(job)

    async def select(self, request: Request) -> Response:
        """Select, and send the rows with their figures."""
        given = await body(request)
        lane = str(given.get("lane", "dial"))[:20]
        found = await run_in_threadpool(self._session.select, given.get("settings"), lane)
        if isinstance(found, Job):
            if not await _over(found, int(found.seconds > 0)):
                return _waiting(found)
            found = found.result
        return _answered(found)

    async def curve(self, request: Request) -> Response:
        """Send the figures over the whole dial."""
        settings = (await body(request)).get("settings")
        found = await run_in_threadpool(self._session.curve, settings)
        if isinstance(found, Job):
            return told(found.result) if await _over(found, 1) else _waiting(found)
        return told(found)

    async def explain(self, request: Request) -> Response:
        """Say why a sample is picked, or is not."""
        given = await body(request)
        row: Any = given.get("row")
        job = await run_in_threadpool(questions.explain, self._session, given.get("settings"), row)
        return told(job.result) if await _over(job, 0) else _waiting(job)

    async def keep(self, request: Request) -> Response:
        """Write a subset, an export, the settings or a page to share."""
        given = await body(request)
        asked = [given.get(name) for name in ("settings", "what", "to")]
        job = await run_in_threadpool(keep, self._reader, *asked)
        return told(job.result) if await _over(job, 1) else _waiting(job)


async def _over(job: Job, patience: int) -> bool:
    return await run_in_threadpool(job.wait, _PATIENCE[patience])


def _number(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name, "" if default is None else str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise Refused(f"{name} is a whole number", name)
    return int(text)


def _numbers(text: str) -> list[int]:
    parts = text.split(",") if text else []
    if len(parts) > 200 or not all(p.isascii() and p.isdigit() and len(p) <= 12 for p in parts):
        raise Refused("rows are at most 200 whole numbers, a comma between", "rows")
    return [int(part) for part in parts]


def _safe(handler: Handler) -> Handler:
    """Let whatever fails become one line of JSON."""

    async def call(request: Request) -> Response:
        try:
            return await handler(request)
        except Superseded as fault:
            return told({"error": str(fault)}, 409)
        except Refused as fault:
            return told({"error": str(fault), "field": fault.name}, 422)
        except SftdivError as fault:
            return told({"error": str(fault), "field": None}, 422)
        except Exception as fault:
            return told({"error": said(fault)}, 500)

    return call
