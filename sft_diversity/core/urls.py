"""What a URL names, on any file system that fsspec knows; no credential in any text.

Names on the other side are not trusted: none leads out of the place that was asked for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from sft_diversity.core import hub
from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.hub import Reason

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_USER = re.compile(r"(?<=://)[^/\s?#]+@")  # a password may hold an `@`
_SECRET = re.compile(r"(://[^\s'\"<>?#]*)[?#][^\s'\"<>]*")
_WEB = ("http", "https")
_PLAIN = 3  # letters of a value that says nothing, and stands in other words
#: Protocol: the package that serves it.
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp",
    "https": "aiohttp", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "sftp": "paramiko",
    "ssh": "paramiko", "webdav": "webdav4", "oss": "ossfs", "smb": "smbprotocol",
}  # fmt: skip
#: What a file system may say of a file that changes with its content.
_MARKS = (
    "ETag", "etag", "Content-MD5", "content_md5", "Digest", "md5Hash", "md5", "crc32c", "sha",
    "sha256", "blob_id", "xet_hash", "VersionId", "generation", "Last-Modified", "LastModified",
    "last_modified", "updated", "mtime", "modify", "modificationTime", "modified", "created",
)  # fmt: skip

#: From the paths in a folder to those that are read.
Wanted = Callable[[Iterable[str]], Sequence[str]]


def is_remote(text: object) -> bool:
    """Whether a source or a place is named by a URL rather than by a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def public_url(url: str) -> str:
    """Return a URL without user, password, query and fragment: what others may read."""
    return re.split(r"[?#]" if protocol_of(url) in _WEB else r"\?", _USER.sub("", url))[0]


def scrub(text: str) -> str:
    """Return a text without what `public_url` leaves out of the URLs in it, and without tokens."""
    return hub.scrub(_SECRET.sub(r"\1", _USER.sub("", text)))


@dataclass(frozen=True)
class Found:
    """A file on the other side.

    Attributes
    ----------
    path : str
        As the file system names it, which may hold credentials.
    bytes : int or None
        None where the other side does not say.
    mark : str or None
        Hash of what changes with the content; None where the other side says nothing of it.
    """

    path: str = field(repr=False)
    bytes: int | None
    mark: str | None


@dataclass(frozen=True)
class RemotePlace:
    """A URL, opened: a file, a folder or a pattern on a file system of fsspec.

    Nothing is asked of the other side before a method is called. Each raises UsageError where
    nothing is there, and DataError where the other side refuses or cannot be reached.
    """

    url: str = field(repr=False)
    stage: str
    fs: Any = field(repr=False)
    path: str = field(repr=False)

    def __str__(self) -> str:
        return public_url(self.url)

    @property
    def protocol(self) -> str:
        """What the URL begins with."""
        return protocol_of(self.url)

    @property
    def name(self) -> str:
        """Last name of the path."""
        return public_url(self.url).rstrip("/").rpartition("/")[2] or self.protocol

    @property
    def is_pattern(self) -> bool:
        """Whether it has wildcards; in a web address `?` begins the query."""
        named = public_url(self.url) if self.protocol in _WEB else self.url
        return any(sign in named for sign in "*?[")

    def at_file(self) -> Found | None:
        """Return the file that the URL names; None where it is a folder.

        Of a web server's folder a `/` at the end tells: to ask would fetch its page.
        """
        if self.protocol in _WEB and self.url.endswith("/"):
            return None
        with self.talking():
            info = self.fs.info(self.path)
        return None if info["type"] == "directory" else _found(info)

    def below(self, wanted: Wanted) -> dict[str, Found]:
        """Return the files in a folder, at any depth, that are wanted, by their path in it."""
        with self.talking():
            listed = self.fs.find(self.path, detail=True)
            return self._placed(listed, self.path.rstrip("/") + "/", wanted)

    def matching(self) -> dict[str, Found]:
        """Return the files of a pattern by their path behind the last folder without wildcards."""
        plain = re.match(r"[^*?\[]*/", self.path)
        with self.talking():
            listed = self.fs.glob(self.path, detail=True)
            return self._placed(listed, plain[0] if plain else "", list)

    def fetch(self, file: Found, to: Path, arrived: Callable[[int], None]) -> None:
        """Copy a file to a path of this machine; `arrived` is told the bytes of every piece."""
        from fsspec.callbacks import Callback

        class Watch(Callback):  # type: ignore[misc]
            def relative_update(self, inc: int = 1) -> None:
                arrived(inc)

        with self.talking():
            self.fs.get_file(file.path, str(to), callback=Watch())

    def _placed(
        self, listed: Mapping[str, Mapping[str, Any]], base: str, wanted: Wanted
    ) -> dict[str, Found]:
        web, inside = self.protocol in _WEB, {}
        for path, info in sorted(listed.items()):
            if info["type"] == "directory" or (web and not _is_below(path, base)):
                continue  # a page has links to elsewhere
            name = path[len(base) :] if path.startswith(base) else path
            inside[self.plain(name)] = info
        # pages name files, and say nothing of them
        return {
            name: _found(self.fs.info(inside[name]["name"]) if web else inside[name])
            for name in wanted(inside)
        }

    def plain(self, name: str) -> str:
        """Return the path of a file below this place if it is one that cannot lead out of it.

        Raises
        ------
        DataError
            If it has `..`, a root, a backslash or a sign that no name should have.
        """
        parts = name.split("/")
        if name.isprintable() and "\\" not in name and not {"", ".", ".."} & {*parts}:
            return name
        raise DataError(
            f"{self.stage}: {self}: {name!r:.80} is no plain path below it, and could lead "
            "outside; rename it there"
        )

    @contextlib.contextmanager
    def talking(self) -> Iterator[None]:
        """Keep credentials out of log records meanwhile, and make every fault one line."""
        with hub.talking(self._hidden):
            try:
                yield
            except SftdivError:
                raise
            except Exception as fault:  # each file system raises kinds of its own
                kind, why = self._reason(fault)
                raise kind(f"{self.stage}: {self}: {why}") from None

    def _hidden(self, text: str) -> str:
        """Return a text without credentials, those of this URL also where they stand alone."""
        parts = urlsplit(self.url)
        values = [parts.username, parts.password, *(value for _, value in parse_qsl(parts.query))]
        for secret in (parts.query, *(one for one in values if one and len(one) > _PLAIN)):
            for form in (secret, unquote(secret), quote(secret, safe="")):
                text = text.replace(form, "(hidden)") if form else text
        return scrub(text)

    def _reason(self, fault: Exception) -> tuple[type[SftdivError], Reason]:
        if self.protocol == "hf":
            return DataError, hub.reason(fault)
        chain = list(hub.causes(fault))
        statuses = [status for one in chain if (status := _status(one)) is not None]
        status = statuses[-1] if statuses else 0  # of the first cause
        names = {type(one).__name__ for one in chain}
        if status in (401, 403) or names & _REFUSED or isinstance(fault, PermissionError):
            way = "give the credentials where its client looks for them: see docs/remote.md"
            return DataError, Reason("access is denied", way, status)
        if status == 404 or (isinstance(fault, FileNotFoundError) and len(chain) == 1):
            return UsageError, Reason("no such file or folder", "check the name", status)
        what = self._hidden(hub.one_line(chain[-1]))[:200]
        if names & _NETWORK or any(
            isinstance(one, ConnectionError | TimeoutError) for one in chain
        ):
            return DataError, Reason(
                f"cannot be reached: {what}",
                "check the network, then run the command again",
                status,
            )
        return DataError, Reason(what, "mend that, then run the command again", status)


_REFUSED = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_NETWORK = {"ClientConnectionError", "ClientConnectorError", "EndpointConnectionError",
            "ConnectTimeoutError", "ServerTimeoutError", "ClientPayloadError"}  # fmt: skip


def protocol_of(url: str) -> str:
    """Return what a URL begins with."""
    begin = _URL.match(url)
    assert begin is not None
    return begin[1].lower()


def open_url(url: str, stage: str) -> RemotePlace:
    """Return the place of a URL; nothing is asked of the other side.

    Raises
    ------
    UsageError
        If fsspec knows no such protocol, its package is not installed, or it is of this machine.
    """
    protocol, where = protocol_of(url), f"{stage}: {public_url(url)}"
    if "::" in url:
        raise UsageError(f"{where}: URLs in a chain are not read; name one URL")
    if protocol in ("file", "local"):
        raise UsageError(f"{where}: name the path itself, without {protocol}://")
    from fsspec import get_filesystem_class
    from fsspec.core import url_to_fs

    try:
        get_filesystem_class(protocol)
    except ImportError:
        package = _PACKAGES.get(protocol)
        way = f"pip install {package}" if package else "install the one that fsspec names for it"
        what = f"{protocol}:// needs a package that is not installed"
        raise UsageError(f"{where}: {what}; {way}") from None
    except ValueError:
        raise UsageError(
            f"{where}: {protocol}:// is nothing that fsspec knows; name a path, or one of s3://, "
            "gs://, hf://, https://"
        ) from None
    place = RemotePlace(url, stage, None, url)
    with place.talking():
        fs, path = url_to_fs(url, **_options(protocol, url))
        fs.invalidate_cache()  # of listings: another command may have written meanwhile
    return RemotePlace(url, stage, fs, path)


def _options(protocol: str, url: str) -> dict[str, Any]:
    if protocol not in _WEB:
        return {}
    import aiohttp

    # a file takes as long as it takes, as long as something comes
    patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120)
    return {"client_kwargs": {"timeout": patience, "trust_env": True}, "encoded": "%" in url}


def _is_below(path: str, base: str) -> bool:
    return path.startswith(base) and not {"?", "#"} & {*path[len(base) :]}


def _found(info: Mapping[str, Any]) -> Found:
    marks = {name: str(info[name]) for name in _MARKS if info.get(name)}
    size = info.get("size")
    mark = content_key([size, marks]) if marks else None
    return Found(info["name"], None if size is None else int(size), mark)


def _status(fault: BaseException) -> int | None:
    """Return the HTTP status of a fault of aiohttp, botocore or a client like requests."""
    response = getattr(fault, "response", None)
    if isinstance(response, dict):
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for found in (getattr(fault, "status", None), response, getattr(response, "status_code", None)):
        if isinstance(found, int):
            return found
    return None
