"""Take home what was found: a subset, an export, the settings, or the dial in one file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError
from sft_diversity.exploring.jobs import Job
from sft_diversity.exploring.reading import Reader
from sft_diversity.exploring.session import POSITIONS, Told
from sft_diversity.exploring.settings import NAMES, Asked, Refused, command
from sft_diversity.selection import stage as selection
from sft_diversity.stages import store

#: What can be taken home, and what its file's name ends in.
KINDS = {"subset": "", "export": "", "settings": ".yaml", "share": ".html"}
PAGE = Path(__file__).parent / "page"
_SHARED = 15_000_000  # bytes of a shared page, at most
_TEXT, _TOGETHER = 200, 500  # characters of a text in it; samples packed at a time
_COLUMNS = ("source", "instruction_tokens", "response_tokens")
_SHARE_S = 5e-5  # a guess: seconds a sample


def place_below(root: Path, work: Path, to: Any, ending: str) -> Path:
    """Return where to write; refuse what is there, hidden, of the work folder or outside the root.

    Raises
    ------
    Refused
    """
    if not isinstance(to, str) or not to.strip() or len(to) > 1_000 or not to.isprintable():
        raise Refused("name a file or folder to write", "to")
    try:
        place = (root / to).resolve()
    except (OSError, ValueError, RuntimeError):
        raise Refused(f"{to[:200]!r} is no path", "to") from None
    inside = place.is_relative_to(root) and place != root
    if not inside or place.is_relative_to(work.resolve()):
        raise Refused(f"{to[:200]!r} leads out of {root}; name a path in there", "to")
    if any(part.startswith(".") for part in place.relative_to(root).parts):
        raise Refused(f"{to[:200]!r} would be hidden; name another", "to")
    if ending and place.suffix != ending:
        raise Refused(f"name a file that ends in {ending}", "to")
    if place.exists():
        raise Refused(f"{to[:200]!r} is there already; name another", "to")
    return place


def keep(reader: Reader, settings: Any, what: Any, to: Any) -> Job:
    """Return the job that writes what settings come to."""
    session = reader.session
    if what not in KINDS:
        raise Refused(f"what is one of {', '.join(KINDS)}", "what")
    asked, place = session.asked(settings), place_below(session.root, session.work, to, KINDS[what])

    def written() -> Told:
        here = Path.cwd()
        path = str(place.relative_to(here) if place.is_relative_to(here) else place)
        words = (session.sources, session.work)
        told: Told = {"written": path, "digest": None, "command": command(asked, *words)}
        if what == "settings":
            text = yaml.safe_dump(asked.options, sort_keys=False, allow_unicode=True)
            _write_new(place, text.encode())
            told["command"] = command(Asked(asked.config, path), *words)
        elif what == "share":
            _write_new(place, shared_page(reader, asked))
        else:
            subset = store(session.work).get(
                selection.STAGE, asked.config, session.corpus,
                out=place if what == "subset" else None,
            ).path  # fmt: skip
            told["digest"] = folder.read_manifest(subset)["result"]["ids_key"]
            if what == "subset":
                told["command"] = command(asked, *words, path)
            else:
                told["command"] += (
                    f" && {shlex.join(['sftdiv', 'export', 'subset', f'--to={path}'])}"
                )
                from sft_diversity.verbs.data import export

                export(subset, to=str(place), work=session.work)
        return told

    seconds = round(session.n * _SHARE_S, 1) if what == "share" else 1.0
    return session.maker.submit(
        f"write {to}", written, key=("keep", what, str(place)), seconds=seconds
    )


def _write_new(place: Path, content: bytes) -> None:
    """Write a file that is not there yet."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with place.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise UsageError(f"explore: {place} is there already; name another") from None


# ---- the dial in one file ------------------------------------------------------------------------


def shared_page(reader: Reader, asked: Asked) -> bytes:
    """Return one HTML file in which the dial moves over the positions of a curve, without a server.

    Everything of it that the samples' texts leave room for is whole; of these as many as fit, cut,
    those that a position picks first.
    """
    session = reader.session
    store(session.work).prepare(selection.STAGE, asked.config, session.corpus)
    places = reader.lay_out()
    curve = session.curve_of(asked)
    answers = [session.answer_of(asked.at(position)) for position in POSITIONS]
    rows = [np.sort(answer.rows) for answer in answers]
    said = asked.config.model_dump(mode="json")
    corpus = reader.corpus()
    columns = {n: one for n in _COLUMNS if (one := reader.column(n)) is not None}
    corpus["columns"] = [one for one in corpus["columns"] if one["name"] in columns]
    whole = {
        "corpus": corpus,
        "settings": {name: said[name] for name in NAMES},
        "positions": list(POSITIONS),
        "select": [answer.told for answer in answers],
        "curve": curve,
        "picks": packed(np.concatenate([np.diff(one, prepend=0) for one in rows]).astype("<u4")),
        "map": packed(places),
        "columns": {name: packed(columns[name]) for name in columns},
    }
    first = np.unique(np.concatenate(rows))
    others = np.setdiff1d(np.arange(session.n), first)
    used = len(assembled(PAGE, {**whole, "samples": ""}))
    room = (_SHARED - used) * 3 // 4 - 100  # base64 makes four bytes of three; the end of the list
    whole["samples"] = _texts(reader, np.concatenate([first, others]), room)
    return assembled(PAGE, whole)


def packed(values: npt.NDArray[Any]) -> str:
    """Return an array as little-endian bytes, gzipped, in base64."""
    flat = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return base64.b64encode(gzip.compress(flat.tobytes(), mtime=0)).decode()


def _texts(reader: Reader, rows: npt.NDArray[np.int64], room: int) -> str:
    """Return samples as a packed JSON list, as many as fit into `room` bytes."""
    press = zlib.compressobj(9, wbits=31)
    parts, size, comma = [press.compress(b"[")], 0, ""
    for start in range(0, len(rows), _TOGETHER):
        some = reader.brief(rows[start : start + _TOGETHER], _TEXT)
        text = comma + json.dumps(some, ensure_ascii=False)[1:-1]
        before = press.copy()
        new = press.compress(text.encode("utf-8", "replace")) + press.flush(zlib.Z_SYNC_FLUSH)
        if size + len(new) > room:
            press = before
            break
        parts.append(new)
        size, comma = size + len(new), ","
    parts += [press.compress(b"]"), press.flush()]
    return base64.b64encode(b"".join(parts)).decode()


def _embedded(whole: Mapping[str, Any]) -> str:
    return json.dumps(whole, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


_IMPORT = re.compile(r'^import (?:.* from )?"\./([\w.-]+)";\n', re.MULTILINE)


def modules(page: Path, name: str = "main.js", seen: Sequence[str] = ()) -> dict[str, str]:
    """Return the modules of the page in the order in which they run, without what joins them."""
    text, found = (page / name).read_text("utf-8"), dict[str, str]()
    for other in _IMPORT.findall(text):
        if other not in (*seen, name):
            inner = modules(page, other, (*seen, *found, name))
            found |= {key: inner[key] for key in inner if key not in found}
    return found | {name: re.sub(r"^export ", "", _IMPORT.sub("", text), flags=re.MULTILINE)}


def assembled(page: Path, whole: Mapping[str, Any]) -> bytes:
    """Return the page with its style, its modules and the data in it, closed to all else."""
    style, script = (page / "page.css").read_text("utf-8"), "".join(modules(page).values())
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src blob: data:; base-uri 'none'; form-action 'none'"
    )
    text = (page / "index.html").read_text("utf-8")
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    data = f'<script type="application/json" id="embedded">{_embedded(whole)}</script>'
    for old, new in (
        ('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}'),
        ('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>"),
        (
            '<script type="module" src="main.js"></script>',
            f'{data}\n<script type="module">{script}</script>',
        ),
    ):
        if text.count(old) != 1:
            raise UsageError(f"explore: the page has not just one {old}; install it again")
        text = text.replace(old, new)
    return text.encode("utf-8", "replace")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
