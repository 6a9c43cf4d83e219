"""File systems behind URLs that need no network: memory, a web server, a stand-in of S3."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on a port of this machine; yield its URL and the list of requests so far."""
    seen: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            seen.append(f"{self.command} {self.path}")

        def log_error(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if "sig=wrong" in self.path:
                self.send_error(403)
            else:
                super().do_GET()

        do_HEAD_plain = http.server.SimpleHTTPRequestHandler.do_HEAD

        def do_HEAD(self) -> None:
            if "sig=wrong" in self.path:
                self.send_error(403)
            else:
                self.do_HEAD_plain()

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def in_memory() -> Iterator[str]:
    """Yield the URL of a folder that is empty before and after."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    try:
        yield "memory://bucket/place"
    finally:
        fs.store.clear()


@contextmanager
def on_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URL of a folder in a bucket of moto's server; skip where it or s3fs is not."""
    s3fs = pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-no-worth")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}", "use_ssl": False}
    )
    try:
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket/place"
        fsspec.filesystem("s3").rm("bucket", recursive=True)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def put(url: str, folder: Path) -> None:
    """Copy the files of a folder to a URL."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        with fsspec.open(f"{url}/{name}", "wb") as handle:
            handle.write(path.read_bytes())


def names(url: str) -> set[str]:
    """Return the files below a URL."""
    fs, path = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {os.path.relpath(name, path) for name in fs.find(path)}
