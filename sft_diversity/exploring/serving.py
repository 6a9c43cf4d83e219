"""Serve the page on this machine until it is stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Iterator
from typing import Any

from sft_diversity.core.errors import UsageError
from sft_diversity.exploring.app import Routes
from sft_diversity.exploring.session import Session

HOST = "127.0.0.1"


def serve(session: Session, port: int, open_browser: bool, tell: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `tell` is given the address, which has the token.

    Raises
    ------
    UsageError
        If nothing can listen there.
    """
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # ours are set below, and are not raised again at the end

    # named a TCP socket: of others asyncio lets small answers wait for what the browser confirms
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        try:
            listening.bind((HOST, port))
            listening.listen(128)
        except OSError as why:
            raise UsageError(f"explore: port {port}: {why.strerror}; take another --port") from None
        port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        options: dict[str, Any] = {"access_log": False, "log_level": "error", "lifespan": "off"}
        options |= {"server_header": False, "ws": "none", "timeout_graceful_shutdown": 2}
        server = Server(uvicorn.Config(Routes(session).app(token, port), **options))

        def leave(number: int, frame: Any) -> None:
            server.should_exit = True

        before = {one: signal.signal(one, leave) for one in (signal.SIGINT, signal.SIGTERM)}
        address = f"http://{HOST}:{port}/{token}/"
        tell(f"explore: {address} (interrupt to end)")
        if open_browser and _has_browser():
            webbrowser.open(address)
        try:
            server.run(sockets=[listening])
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _has_browser() -> bool:
    """Whether a person sits here who could be shown a window."""
    screen = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return screen and sys.stderr is not None and sys.stderr.isatty()
