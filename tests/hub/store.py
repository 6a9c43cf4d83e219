"""What the stand-in for the Hub holds: users, repositories, commits, refs, large files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

MAIN = "main"


class Refused(Exception):
    """An answer that is an error: status, message, and the Hub's code for it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class User:
    """Somebody with one token; `writes`: the token's role. `orgs` may be written to as well."""

    name: str
    token: str
    writes: bool = True
    orgs: tuple[str, ...] = ()

    def may_write(self, namespace: str) -> bool:
        """Whether the token may write to repositories of a namespace."""
        return self.writes and namespace in (self.name, *self.orgs)

    def may_read(self, namespace: str) -> bool:
        """Whether the token may see private repositories of a namespace."""
        return namespace in (self.name, *self.orgs)


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its bytes, or the SHA-256 and size of a large file's."""

    content: bytes | None
    sha256: str
    size: int

    @property
    def pointer(self) -> bytes:
        """What git holds: the content, or the pointer to a large file."""
        if self.content is not None:
            return self.content
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
        return f"{text}size {self.size}\n".encode()

    @property
    def blob(self) -> str:
        """The id of the git object."""
        return hashlib.sha1(b"blob %d\0" % len(self.pointer) + self.pointer).hexdigest()


def entry_of(content: bytes) -> Entry:
    """Return an entry that holds its bytes itself."""
    return Entry(content, hashlib.sha256(content).hexdigest(), len(content))


@dataclass(frozen=True)
class Commit:
    """A state of a repository; `sha` follows from all the rest."""

    parent: str | None
    files: dict[str, Entry]
    title: str
    author: str

    @property
    def sha(self) -> str:
        """40 hex digits."""
        tree = sorted((path, entry.blob) for path, entry in self.files.items())
        whole = json.dumps([self.parent, tree, self.title, self.author])
        return hashlib.sha1(whole.encode()).hexdigest()


@dataclass
class Repository:
    """One repository. `kind` is models, datasets or spaces; a new one has one commit."""

    kind: str
    name: str
    private: bool = True
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = Commit(None, {".gitattributes": entry_of(b"*.parquet lfs\n")}, "initial", "hub")
        self.commits[first.sha] = first
        self.branches[MAIN] = first.sha

    @property
    def namespace(self) -> str:
        """The user or organisation it belongs to."""
        return self.name.split("/")[0]

    def resolve(self, revision: str) -> str:
        """Return the commit that a branch, a tag or the beginning of a commit id stands for."""
        revision = revision.removeprefix("refs/heads/")
        for refs in (self.branches, self.tags):
            if revision in refs:
                return refs[revision]
        found = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        if len(found) != 1:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    def files(self, revision: str = MAIN) -> dict[str, Entry]:
        """Return the files at a revision."""
        return self.commits[self.resolve(revision)].files

    def read(self, path: str, revision: str = MAIN) -> bytes:
        """Return the bytes of a file."""
        files = self.files(revision)
        if path not in files:
            raise Refused(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        held = files[path].content
        return self.large[files[path].sha256] if held is None else held

    def history(self, revision: str = MAIN) -> list[Commit]:
        """Return the commits of a revision, newest first."""
        found = []
        sha: str | None = self.resolve(revision)
        while sha is not None:
            found.append(self.commits[sha])
            sha = self.commits[sha].parent
        return found

    def commit(
        self,
        branch: str,
        put: dict[str, Entry],
        delete: Iterable[str] = (),
        title: str = "edit",
        author: str = "somebody",
        parent: str | None = None,
    ) -> str:
        """Add a commit to a branch, all of it or nothing; return its id."""
        if branch not in self.branches:
            raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.branches[branch]
        if parent is not None and not head.startswith(parent):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(self.files(branch))
        for path in delete:
            gone = [name for name in files if name == path or name.startswith(f"{path}/")]
            if not gone:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]
        for entry in put.values():
            if entry.content is None and entry.sha256 not in self.large:
                raise Refused(400, f"LFS pointer pointed to a file that does not exist: {entry}")
        files |= put
        made = Commit(head, files, title, author)
        self.commits[made.sha] = made
        self.branches[branch] = made.sha
        return made.sha

    def edit(self, path: str, content: bytes, branch: str = MAIN) -> str:
        """Write a file as somebody else would; return the commit."""
        return self.commit(branch, {path: entry_of(content)})


@dataclass
class Store:
    """Everything: users by token, repositories by kind and name."""

    users: list[User] = field(default_factory=list)
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def user(self, authorization: str | None) -> User | None:
        """Return who is asking, None for nobody."""
        if authorization is None:
            return None
        token = authorization.removeprefix("Bearer ")
        for user in self.users:
            if user.token == token:
                return user
        raise Refused(401, "Invalid credentials in Authorization header")

    def create(self, kind: str, name: str, private: bool, user: User | None) -> Repository:
        """Make an empty repository with its first commit."""
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if not user.may_write(name.split("/")[0]):
            raise Refused(
                403, f"You don't have the rights to create a {kind[:-1]} under that namespace"
            )
        if (kind, name) in self.repositories:
            raise Refused(409, f"You already created this {kind[:-1]} repo: {name}")
        self.repositories[kind, name] = Repository(kind, name, private)
        return self.repositories[kind, name]

    def find(self, kind: str, name: str, user: User | None, write: bool = False) -> Repository:
        """Return a repository that `user` may see, or write to."""
        found = self.repositories.get((kind, name))
        hidden = found is None or (
            found.private and (user is None or not user.may_read(found.namespace))
        )
        if found is None or hidden:
            status = 401 if user is None else 404
            raise Refused(status, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise Refused(401, "Invalid username or password.")
        if write and user is not None and not user.may_write(found.namespace):
            if not user.writes:
                raise Refused(403, "you must use a write token to upload to a repository.")
            raise Refused(403, "Authorization error.")
        return found
