"""A real HTTP server on this machine that answers as a script says, OpenAI-compatible or not."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with a call."""

    text: str | None = "ok"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    finish: str = "stop"
    raw: bytes | None = None  # a body in place of a completion
    drop: bool = False  # close the connection without a word
    cut: bool = False  # close it in the middle of the body


@dataclass
class Call:
    """A call as the server got it."""

    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def said(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


Script = Callable[[Call, int], Reply]


@dataclass
class Server:
    """`script(call, n)` gives the reply to the n-th call with the same last message, from 0."""

    url: str
    script: Script
    calls: list[Call] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    most_under_way: int = 0

    def said(self) -> list[str]:
        """The last messages of all calls."""
        return [call.said for call in self.calls]


@contextlib.contextmanager
def serving(script: Script) -> Iterator[Server]:
    """Run the server in a thread."""
    server = Server("", script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = Call(time.monotonic(), self.path, headers, body)
            with server.lock:
                number = server.said().count(call.said)
                server.calls.append(call)
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.reply(server.script(call, number), body)
            finally:
                with server.lock:
                    server.under_way -= 1

        def reply(self, reply: Reply, body: dict[str, Any]) -> None:
            time.sleep(reply.delay_s)
            if reply.drop:
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.close_connection = True
                self.connection.close()
                return
            raw = completion(reply, body) if reply.raw is None else reply.raw
            self.send_response(reply.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw) + 100 * reply.cut))
            if reply.status != 200 and "retry-after" not in reply.headers:
                self.send_header("retry-after-ms", "10")  # tests need not wait as long as users
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)
            self.close_connection = reply.cut or self.close_connection

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:  # a dropped connection is no error here
            pass

    http = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def completion(reply: Reply, body: dict[str, Any]) -> bytes:
    """Return a chat completion; a token is a word."""
    if reply.status != 200:
        return json.dumps({"error": {"message": reply.text}}).encode()
    asked = sum(len(m["content"].split()) for m in body["messages"])
    answered = len((reply.text or "").split())
    return json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": reply.text},
                    "finish_reason": reply.finish,
                }
            ],
            "usage": {"prompt_tokens": asked, "completion_tokens": answered},
        }
    ).encode()
