"""A stand-in for the Hub's HTTP API, in a thread: what huggingface_hub and datasets ask of it.

It keeps what a push can get wrong: who may do what, private repositories, the parent of a commit,
checksums of large files, blobs that are there already, branches, tags, pages of a listing, ranges.
Faults come on demand. Requests are kept, so that a test can count uploads. Not played: Xet storage
(clients set HF_HUB_DISABLE_XET=1), pull requests, multi-part uploads, quotas.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

from tests.hub.store import Entry, Refused, Repository, Store, User, entry_of

_LARGE = (".parquet", ".safetensors", ".arrow", ".bin", ".zst", ".gz")
_REGULAR_BYTES = 10_000_000
_API = re.compile(
    r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
    r"(?:/(?P<action>[a-z-]+)(?:/(?P<revision>[^/]+)(?:/(?P<rest>.*))?)?)?"
)
_RESOLVE = re.compile(
    r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)
_LFS = re.compile(
    r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch"
)
_STORAGE = re.compile(r"/storage/(?P<kind>\w+)/(?P<name>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})")


@dataclass
class Fault:
    """What goes wrong with requests whose method and path match, `skip` of them spared.

    `how`: `drop` reads half of the body and hangs up; `lost` does the work and hangs up before the
    answer; `hang` never answers; a number is the status of the answer; a function is called first,
    and all goes well.
    """

    method: str
    path: str
    how: str | int | Callable[[], object]
    skip: int = 0
    times: int | None = None

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is hit; counts it."""
        if method != self.method or not re.search(self.path, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


@dataclass
class Request:
    """One request that came in; `status` is 0 where no answer went out."""

    method: str
    path: str
    status: int = 0
    authorization: str | None = None


@dataclass
class Hub:
    """The running stand-in: its address, what it holds, what came in, what shall go wrong."""

    store: Store = field(default_factory=Store)
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    page: int = 1000
    endpoint: str = ""
    storage: str = ""  # the same server under another name: clients send it no token

    def count(self, method: str, path: str, status: int | None = None) -> int:
        """Return how many requests matched."""
        return sum(
            r.method == method
            and re.search(path, r.path) is not None
            and status in (None, r.status)
            for r in self.requests
        )

    def repository(self, name: str, kind: str = "datasets") -> Repository:
        """Return a repository by its name."""
        return self.store.repositories[kind, name]


@contextmanager
def running(*users: User) -> Iterator[Hub]:
    """Serve a Hub with these users on a free port of this machine."""
    hub = Hub(Store(list(users)))
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    hub.storage = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Hangup(Exception):
    """The connection is to break without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.query = parse_qs(parts.query)
        self.seen = Request(self.command, path, 0, self.headers.get("Authorization"))
        with self.hub.store.lock:
            self.hub.requests.append(self.seen)
            struck = [f.how for f in self.hub.faults if f.strikes(self.command, path)]
        how = struck[0] if struck else None
        try:
            if how == "hang":
                time.sleep(600)
            self.body = self._read(half=how == "drop")
            if isinstance(how, int):
                raise Refused(how, f"fault on demand for {self.seen.authorization}")
            if callable(how):
                how()
            self.lose = how == "lost"
            with self.hub.store.lock:
                self._route(path, parts.path)
        except Refused as refused:
            self._refuse(refused)
        except _Hangup:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = _serve

    def _read(self, half: bool) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            read = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                read += self.rfile.read(size)
                self.rfile.readline()
                if half:
                    raise _Hangup
            self.rfile.readline()
            return read
        size = int(self.headers.get("Content-Length") or 0)
        read = self.rfile.read(size // 2 if half else size)
        if half:
            raise _Hangup
        return read

    def _route(self, path: str, raw: str) -> None:
        user = self.hub.store.user(self.seen.authorization)
        if path == "/api/whoami-v2":
            if user is None:
                raise Refused(401, "Invalid username or password.")
            return self._json({"type": "user", "name": user.name, "orgs": []})
        if path == "/api/repos/create":
            return self._create(user)
        if path == "/api/validate-yaml":
            return self._validate()
        # names of revisions may hold a quoted slash: matched before unquoting
        if found := _API.fullmatch(raw):
            return self._api({k: v and unquote(v) for k, v in found.groupdict().items()}, user)
        if found := _LFS.fullmatch(path):
            kind = found["kind"] or "models"
            return self._batch(self.hub.store.find(kind, found["name"], user, write=True))
        if found := _STORAGE.fullmatch(path):
            return self._storage(found["kind"], found["name"], found["oid"])
        if found := _RESOLVE.fullmatch(raw):
            where = {k: v and unquote(v) for k, v in found.groupdict().items()}
            repository = self.hub.store.find(where["kind"] or "models", where["name"], user)
            return self._resolve(repository, where["revision"], where["path"])
        raise Refused(404, f"Not played here: {self.command} {path}")

    # -- repositories

    def _create(self, user: User | None) -> None:
        asked = json.loads(self.body)
        kind = (asked.get("type") or "model") + "s"
        owner = asked.get("organization") or (user.name if user else "")
        private = asked.get("visibility") == "private"
        made = self.hub.store.create(kind, f"{owner}/{asked['name']}", private, user)
        self._json({"url": self._url(made), "name": made.name, "id": made.name})

    def _validate(self) -> None:
        text = json.loads(self.body)["content"]
        loaded = _card_data(text)
        errors = []
        for name in ("license", "size_categories", "tags", "configs"):
            if name in loaded and not isinstance(loaded[name], str | list):
                errors.append({"message": f'"{name}" must be a string or an array'})
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _api(self, where: dict[str, str | None], user: User | None) -> None:
        action, verb = where["action"] or "revision", self.command
        writes = action in ("preupload", "commit", "branch", "tag")
        repository = self.hub.store.find(str(where["kind"]), str(where["name"]), user, write=writes)
        revision, rest = where["revision"] or "main", where["rest"] or ""
        if action == "revision":
            return self._info(repository, revision)
        if action == "tree":
            return self._tree(repository, revision, rest)
        if action == "paths-info":
            return self._paths(repository, revision)
        if action == "refs":
            return self._refs(repository)
        if action == "commits":
            return self._commits(repository, revision)
        if action == "preupload":
            return self._preupload(repository, revision)
        if action == "commit":
            return self._commit(repository, revision, user)
        if action == "branch":
            return self._set(repository.branches, revision, repository, "startingPoint")
        if action == "tag":
            if verb == "DELETE":
                return self._set(repository.tags, revision, repository, "")
            asked = json.loads(self.body)["tag"]
            return self._set(repository.tags, asked, repository, revision)
        raise Refused(404, f"Not played here: {verb} {action}")

    def _set(self, refs: dict[str, str], name: str, repository: Repository, start: str) -> None:
        """Make or delete a branch or a tag."""
        if self.command == "DELETE":
            if name not in refs:
                raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
            del refs[name]
            return self._json({})
        if name in refs:
            raise Refused(409, f"Reference already exists: {name}")
        if start == "startingPoint":
            start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        refs[name] = repository.resolve(start)
        return self._json({})

    def _info(self, repository: Repository, revision: str) -> None:
        files = repository.files(revision)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
        if "blobs" in self.query:
            for one in siblings:
                entry = _described(one["rfilename"], files[one["rfilename"]])
                one |= {"size": entry["size"], "blobId": entry["oid"]}
                if "lfs" in entry:
                    one["lfs"] = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}
        self._json(
            {
                "_id": "0" * 24, "id": repository.name, "author": repository.namespace,
                "sha": repository.resolve(revision), "private": repository.private,
                "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": [],
                "siblings": siblings, "lastModified": "2026-01-01T00:00:00.000Z",
                "createdAt": "2026-01-01T00:00:00.000Z",
                "cardData": _card_data(self._readme(repository, revision)),
            }
        )  # fmt: skip

    @staticmethod
    def _readme(repository: Repository, revision: str) -> str:
        has = "README.md" in repository.files(revision)
        return repository.read("README.md", revision).decode() if has else ""

    def _tree(self, repository: Repository, revision: str, folder: str) -> None:
        files = repository.files(revision)
        prefix = f"{folder.rstrip('/')}/" if folder else ""
        inside = sorted(path for path in files if path.startswith(prefix))
        if folder and not inside:
            raise Refused(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {
            prefix + "/".join(path[len(prefix) :].split("/")[:depth])
            for path in inside
            for depth in range(1, path[len(prefix) :].count("/") + 1)
            if deep or depth == 1
        }
        listed = [{"type": "directory", "path": p, "size": 0, "oid": "0" * 40} for p in folders]
        listed += [_described(p, files[p]) for p in inside if deep or "/" not in p[len(prefix) :]]
        listed.sort(key=lambda entry: str(entry["path"]))
        start = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if start + self.hub.page < len(listed):
            query = f"recursive={deep}&cursor={start + self.hub.page}"
            headers["Link"] = f'<{self.hub.endpoint}{self.path.split("?")[0]}?{query}>; rel="next"'
        self._json(listed[start : start + self.hub.page], headers=headers)

    def _paths(self, repository: Repository, revision: str) -> None:
        files = repository.files(revision)
        if "json" in (self.headers.get("Content-Type") or ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        listed = []
        for path in wanted:
            if path in files:
                listed.append(_described(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                listed.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        self._json(listed)

    def _refs(self, repository: Repository) -> None:
        def listed(refs: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}
                for name, sha in refs.items()
            ]

        branches, tags = listed(repository.branches, "heads"), listed(repository.tags, "tags")
        self._json({"branches": branches, "tags": tags, "converts": []})

    def _commits(self, repository: Repository, revision: str) -> None:
        self._json(
            [
                {
                    "id": commit.sha, "title": commit.title, "message": "",
                    "authors": [{"user": commit.author}], "date": "2026-01-01T00:00:00.000Z",
                }
                for commit in repository.history(revision)
            ]
        )  # fmt: skip

    # -- writing

    def _preupload(self, repository: Repository, revision: str) -> None:
        files = repository.files(revision)
        answers = []
        for asked in json.loads(self.body)["files"]:
            large = asked["path"].endswith(_LARGE) or asked["size"] > _REGULAR_BYTES
            held = files.get(asked["path"])
            oid = None
            if held is not None:
                oid = held.sha256 if held.content is None else held.blob
            answers.append(
                {
                    "path": asked["path"], "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": False, "oid": oid,
                }
            )  # fmt: skip
        self._json({"files": answers, "commitOid": repository.resolve(revision)})

    def _batch(self, repository: Repository) -> None:
        objects = []
        for asked in json.loads(self.body)["objects"]:
            answer: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in repository.large:
                place = f"/storage/{repository.kind}/{repository.name}/{asked['oid']}"
                answer["actions"] = {"upload": {"href": f"{self.hub.storage}{place}"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _storage(self, kind: str, name: str, oid: str) -> None:
        """Take or give a large file. The address is the right to it, as a signed one's is."""
        repository = self.hub.store.repositories[kind, name]
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                raise Refused(400, "The checksum of the upload is not the one announced")
            repository.large[oid] = self.body
            return self._json({})
        if oid not in repository.large:
            raise Refused(404, "No such object")
        return self._bytes(repository.large[oid], {"ETag": f'"{oid}"'})

    def _commit(self, repository: Repository, branch: str, user: User | None) -> None:
        assert user is not None
        put: dict[str, Entry] = {}
        delete, title, parent = [], "", None
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                title, parent = value["summary"], value.get("parentCommit")
            elif key == "file":
                put[value["path"]] = entry_of(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                held = repository.large.get(value["oid"], b"")
                put[value["path"]] = Entry(None, value["oid"], len(held))
            elif key in ("deletedFile", "deletedFolder"):
                delete.append(value["path"].rstrip("/"))
        sha = repository.commit(branch, put, delete, title, user.name, parent)
        self._json(
            {
                "success": True, "commitOid": sha,
                "commitUrl": f"{self._url(repository)}/commit/{sha}",
            }
        )  # fmt: skip

    # -- reading

    def _resolve(self, repository: Repository, revision: str, path: str) -> None:
        sha = repository.resolve(revision)
        content = repository.read(path, sha)
        entry = repository.files(sha)[path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{entry.blob}"'}
        if entry.content is not None:
            return self._bytes(content, headers)
        place = f"/storage/{repository.kind}/{quote(repository.name)}/{entry.sha256}"
        headers |= {
            "X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size),
            "Location": f"{self.hub.storage}{place}",
        }  # fmt: skip
        return self._answer(302, b"", headers)

    def _bytes(self, content: bytes, headers: dict[str, str]) -> None:
        headers = {"Accept-Ranges": "bytes", **headers}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return self._answer(200, content, headers)
        start, end = int(asked[1]), int(asked[2] or len(content) - 1)
        if start >= len(content):
            headers["Content-Range"] = f"bytes */{len(content)}"
            return self._answer(416, b"", headers)
        piece = content[start : end + 1]
        headers["Content-Range"] = f"bytes {start}-{start + len(piece) - 1}/{len(content)}"
        return self._answer(206, piece, headers)

    # -- answering

    def _url(self, repository: Repository) -> str:
        kind = "" if repository.kind == "models" else f"{repository.kind}/"
        return f"{self.hub.endpoint}/{kind}{repository.name}"

    def _refuse(self, refused: Refused) -> None:
        # the token comes back in the text: a client that prints what it got would leak it
        said = f"{refused.message} ({self.seen.authorization or 'no token'})"
        headers = {"X-Error-Message": refused.message}
        if refused.code:
            headers["X-Error-Code"] = refused.code
        self._json({"error": said}, refused.status, headers)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Type": "application/json", **(headers or {})}
        self._answer(status, json.dumps(value).encode(), headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        if getattr(self, "lose", False):
            raise _Hangup
        self.seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _card_data(text: str) -> dict[str, Any]:
    """Return the metadata at the head of a card."""
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    return dict(yaml.safe_load(head[1])) if head else {}


def _described(path: str, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": entry.size, "oid": entry.blob}
    if entry.content is None:
        size = len(entry.pointer)
        found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
    return found
