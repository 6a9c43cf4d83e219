"""Malformed input of every format that `ingest` reads: every row accounted for, or one line."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from tests.faults.case import Case, Group, Place, decent, require, sound
from tests.faults.world import World

#: Mutations of each format's file.
MUTATIONS = 28
LIMIT_S = 30.0
CODES = (0, 1, 2, 3)


def groups(world: World) -> dict[str, Group]:
    """Return mutated files by format, rows that are wrong in a known way, and crafted files."""
    found = {name: partial(_mutated, name) for name in FORMATS}
    return found | {"rows": _rows, "keys": _keys, "crafted": _crafted, "packed": _packed_cases}


# ---- files, whole ---------------------------------------------------------------------------


def texts(number: int = 9) -> list[tuple[str, str]]:
    """Return questions and answers, none like another."""
    return [
        (f"Say {i}, naïvely.", f"It is {i}: “{'東京 ' * (i % 3)}{i * 7}”.") for i in range(number)
    ]


def alpaca() -> list[dict[str, Any]]:
    return [{"instruction": a, "input": "", "output": b, "score": i} for i, (a, b) in
            enumerate(texts())]  # fmt: skip


def dialogues() -> list[dict[str, Any]]:
    """Return rows of turns, some of which call tools."""
    found: list[dict[str, Any]] = []
    for i, (ask, answer) in enumerate(texts()):
        turns: list[dict[str, Any]] = [{"role": "user", "content": ask}]
        if i % 3 == 0:
            turns.append({"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]})
            turns.append({"role": "tool", "content": "1"})
        found.append({"messages": [*turns, {"role": "assistant", "content": answer}]})
    return found


def _lines(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _separated(mark: str) -> bytes:
    head = mark.join(["instruction", "output"])
    body = [f'{a}{mark}"{b}"' if mark == "," else f"{a}{mark}{b}" for a, b in texts()]
    return "\n".join([head, *body, ""]).encode()


def _table() -> pa.Table:
    return pa.Table.from_pylist(alpaca())


def _parquet(**how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(), sink, row_group_size=4, **how)
    return sink.getvalue()


def arrow(table: pa.Table, stream: bool = False, **how: Any) -> bytes:
    """Return a table as an Arrow file, or stream."""
    sink = io.BytesIO()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(**how)) as writer:
        writer.write_table(table, max_chunksize=4)
    return sink.getvalue()


FORMATS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "jsonl": ("a.jsonl", lambda: _lines(alpaca())),
    "turns": ("a.jsonl", lambda: _lines(dialogues())),
    "json": ("a.json", lambda: json.dumps(alpaca(), ensure_ascii=False, indent=1).encode()),
    "csv": ("a.csv", lambda: _separated(",")),
    "tsv": ("a.tsv", lambda: _separated("\t")),
    "parquet": ("a.parquet", lambda: _parquet(compression="snappy")),
    "parquet-zstd": ("a.parquet", lambda: _parquet(compression="zstd", use_dictionary=False)),
    "parquet-plain": ("a.parquet", lambda: _parquet(compression="none", data_page_version="2.0")),
    "arrow": ("a.arrow", lambda: arrow(_table())),
    "arrow-lz4": ("a.arrow", lambda: arrow(_table(), compression="lz4")),
    "arrow-stream": ("a.arrow", lambda: arrow(_table(), stream=True)),
    "jsonl-gz": ("a.jsonl.gz", lambda: gzip.compress(_lines(alpaca()), mtime=0)),
    "jsonl-zst": ("a.jsonl.zst", lambda: zstandard.compress(_lines(alpaca()))),
    "json-gz": ("a.json.gz", lambda: gzip.compress(json.dumps(alpaca()).encode(), mtime=0)),
    "csv-zst": ("a.csv.zst", lambda: zstandard.compress(_separated(","))),
    "saved": ("saved/data-00000-of-00001.arrow", lambda: arrow(_table(), stream=True)),
}


# ---- mutations ------------------------------------------------------------------------------


def _flip(raw: bytearray, dice: random.Random) -> bytes:
    for _ in range(dice.choice([1, 1, 1, 4, 32])):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return bytes(raw)


def _number(raw: bytearray, dice: random.Random) -> bytes:
    """Put a telling number where lengths and offsets may lie."""
    size = dice.choice([4, 8])
    value = dice.choice(
        [0, 1, -1, 2**31 - 1, -(2**31), 255, 1 << 20, len(raw), dice.getrandbits(30)]
    )
    at = dice.randrange(max(len(raw) - size, 1)) // 4 * 4
    raw[at : at + size] = value.to_bytes(size, "little", signed=True)
    return bytes(raw)


def _cut(raw: bytearray, dice: random.Random) -> bytes:
    return bytes(raw[: dice.choice([0, 1, 3, len(raw) - 1, dice.randrange(len(raw))])])


def _insert(raw: bytearray, dice: random.Random) -> bytes:
    at = dice.randrange(len(raw) + 1)
    marks = [b"\0", b"\n", b"\r", b"\r\n", b'"', b"\\", b"{", b"}", b"[", b",", b"\xff"]
    marks += [b"\xed\xa0\x80", "\u2028".encode(), "\ufeff".encode(), b"\x1b[31m"]
    what = dice.choice([*marks, dice.randbytes(dice.randint(1, 60))])
    return bytes(raw[:at]) + what + bytes(raw[at:])


def _remove(raw: bytearray, dice: random.Random) -> bytes:
    at = dice.randrange(len(raw))
    del raw[at : at + dice.choice([1, 1, 2, 8, 200])]
    return bytes(raw)


def _again(raw: bytearray, dice: random.Random) -> bytes:
    low, high = sorted(dice.randrange(len(raw) + 1) for _ in range(2))
    return bytes(raw[:high] + raw[low:high] + raw[high:])


def _zeros(raw: bytearray, dice: random.Random) -> bytes:
    at, size = dice.randrange(len(raw)), dice.choice([4, 16, 300])
    raw[at : at + size] = bytes(min(size, len(raw) - at))
    return bytes(raw)


def _more(raw: bytearray, dice: random.Random) -> bytes:
    more = dice.choice([b"\0" * 8, b"garbage", dice.randbytes(99), bytes(raw), b"\n\n \n"])
    return dice.choice([bytes(raw) + more, more + bytes(raw)])


def _encoded(raw: bytearray, dice: random.Random) -> bytes:
    text = bytes(raw).decode("utf-8", "replace")
    name = dice.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "utf-7", "cp037"])
    made = text.encode(name, "replace")
    return dice.choice([made, codecs.BOM_UTF8 + made, made[:-1]])


def _ends(raw: bytearray, dice: random.Random) -> bytes:
    return bytes(raw).replace(b"\n", dice.choice([b"\r\n", b"\r", b"\n\n", b"\n\r", b"\0\n", b" "]))


MUTATIONS_OF: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    _flip, _flip, _flip, _number, _number, _cut, _insert, _insert, _remove, _again, _zeros, _more,
    _encoded, _ends,
)  # fmt: skip


def _mutated(name: str, dice: random.Random) -> Iterator[Case]:
    for number in range(MUTATIONS):
        yield Case(
            f"{number}",
            "exit code 0 and every row in the account, no whole row lost; or one line",
            partial(_mutate, name, MUTATIONS_OF[number % len(MUTATIONS_OF)]),
        )


def _mutate(name: str, mutate: Callable[[bytearray, random.Random], bytes], place: Place) -> None:
    file, make = FORMATS[name]
    whole = make()
    raw = mutate(bytearray(whole), place.dice)
    path = place.home / "raw" / file
    path.parent.mkdir(parents=True)
    if name == "saved":
        state = {"_data_files": [{"filename": path.name}]}
        (path.parent / "state.json").write_text(json.dumps(state))
    path.write_bytes(raw)
    account = _ingest(place, "raw/saved" if name == "saved" else f"raw/{file}")
    if account is not None and name in ("jsonl", "turns") and raw[:2] not in _MARKED:
        lines = [line for line in raw.removeprefix(codecs.BOM_UTF8).split(b"\n") if line.strip()]
        require(account["in"] == len(lines), f"{len(lines)} lines, the account has {account}")
        _none_lost(place, set(whole.split(b"\n")) & set(lines), account)


_MARKED = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\0\0", b"\x1f\x8b", b"\x28\xb5")


def _none_lost(place: Place, intact: set[bytes], account: Any) -> None:
    """Require the responses of rows that are as they were."""
    wanted = set()
    for line in intact:
        row = json.loads(line)
        wanted.add(row["output"] if "output" in row else row["messages"][-1]["content"])
    said = " ".join(corpora.read(place.home / "out")["response"].to_pylist())
    lost = [text for text in wanted if text not in said]
    require(not lost, f"lost, though whole: {lost}; the account has {account}")


def _ingest(place: Place, source: str, *more: str) -> Any:
    """Ingest; return the account of rows, or None where it was refused."""
    argv = ("ingest", source, "--max-bad-fraction", "1", "--out", "out", *more)
    ended = decent(place.run(*argv, limit_s=LIMIT_S), CODES)
    if ended.code:
        require(not (place.home / "out").exists(), "refused, but there is an output", ended)
        return None
    sound(place.home / "out")
    account = folder.read_manifest(place.home / "out")["rows"]
    listed = (place.home / "out" / "quarantine.jsonl").read_bytes().count(b"\n")
    require(listed == account["quarantined"], f"{listed} rows in quarantine, {account}", ended)
    whole = account["kept"] + sum(account["dropped"].values()) + account["quarantined"]
    require(account["in"] == whole, f"rows are lost: {account}", ended)
    return account


# ---- rows that are wrong in a known way -------------------------------------------------------

_DEEP = "[" * 3_000 + "]" * 3_000
_LONG = "9" * 5_000
#: JSON of a row -> whether it is kept; None: either, but it is in the account.
ROWS: dict[str, bool | None] = {
    '{"instruction": "a", "output": "b"}': True,
    '{"instruction": "a", "output": "b", "n": 1e999}': None,
    f'{{"instruction": "a", "output": "b", "n": {_LONG}}}': None,
    f'{{"instruction": "a", "output": "b", "n": -0.{_LONG}e-{_LONG}}}': None,
    '{"instruction": "a", "output": "b", "n": NaN}': True,
    '{"instruction": "a", "output": NaN}': False,
    f'{{"instruction": "a", "output": {_LONG}}}': False,
    f'{{"instruction": "a", "output": "b", "n": {_DEEP}}}': False,
    f'{{"instruction": {_DEEP}, "output": "b"}}': False,
    '{"instruction": "a", "output": "\\ud800"}': False,
    '{"instruction": "a", "output": "\\ud83d\\ude00"}': True,
    '{"instruction": "a", "output": "b\\u0000c"}': None,
    '{"instruction": "a", "output": "\\u001b[31mred\\u202e"}': None,
    '{"instruction": "a", "output": "b",}': False,
    "{'instruction': 'a', 'output': 'b'}": False,
    '{"instruction": "a", "output": "b"} {"instruction": "c", "output": "d"}': None,
    '{"instruction": "a", "output": "b"} // why': None,
    '{"instruction": "a", "output": tru}': False,
    '{"instruction": "a"}': False,
    '{"instruction": "", "output": ""}': None,
    '{"instruction": null, "output": "b"}': False,
    '{"instruction": ["a"], "output": "b"}': False,
    '{"instruction": "a", "output": {"b": "c"}}': False,
    '{"instruction": "a", "output": true}': False,
    '{"messages": [], "instruction": "a", "output": "b"}': None,
    '{"instruction": "a", "output": "b", "history": [["x"]]}': False,
    '{"instruction": "a", "output": "b", "history": "x"}': False,
    '{"instruction": "a", "output": "b", "system": 7}': False,
    '{"": "", "instruction": "a", "output": "b"}': None,
    '{"__class__": "os.system", "instruction": "a", "output": "b"}': None,
    "[]": False,
    "7": False,
    '"text"': False,
    "null": False,
    "{}": False,
    "{": False,
    "\x00": False,
    "\ufffe": False,
    f'{{"instruction": "a", "output": "{"b" * 3_000_000}"}}': None,
}


def _rows(dice: random.Random) -> Iterator[Case]:
    for number, (text, kept) in enumerate(ROWS.items()):
        for kind in ("jsonl", "json"):
            expects = {True: "kept", False: "in quarantine", None: "in the account"}[kept]
            yield Case(
                f"{kind}-{number}", f"the row is {expects}, its neighbours are kept",
                partial(_row, kind, text, kept),
            )  # fmt: skip


def _row(kind: str, text: str, kept: bool | None, place: Place) -> None:
    before, after = (json.dumps(row) for row in alpaca()[:2])
    mark, whole = ("\n", "{}\n") if kind == "jsonl" else (",\n", "[{}]\n")
    (place.home / f"a.{kind}").write_text(whole.replace("{}", mark.join([before, text, after])))
    account = _ingest(place, f"a.{kind}", "--max-row-mb", "2")
    require(account is not None, "the whole file is refused")
    if kept is not None:
        require(account["in"] == 3, f"three rows, the account has {account}")
        right = account["kept"] == (3 if kept else 2)
        require(right, f"the row should {'' if kept else 'not '}be kept: {account}")
    _none_lost(place, {before.encode(), after.encode()}, account)


#: Objects with a key given twice, in all forms: the row cannot be known.
TWICE = (
    '{"instruction": "a", "output": "b", "output": "c"}',
    '{"instruction": "a", "output": "b", "\\u006futput": "c"}',
    '{"instruction": "a", "output": "b", "output": "b"}',
    '{"instruction": "a", "output": "b", "x": {"k": 1, "k": 1}}',
    '{"instruction": "a", "output": "b", "x": [{"k": 1, "k": 2}]}',
    '{"instruction": "a", "output": "b", "x": [[[{"y": {"k": 1, "\\u006b": 2}}]]]}',
    '{"instruction": "a", "output": "b", "": 1, "": 2}',
    '{"instruction": "a", "output": "b", "\\ud83d\\ude00": 1, "\U0001f600": 2}',
    '{"instruction": "a", "output": "b", "k\\/": 1, "k/": 2}',
    '{"instruction": "a", "output": "b", "k\\t": 1, "k\\u0009": 2}',
    '{"messages": [{"role": "user", "content": "a"}, '
    '{"role": "assistant", "content": "b", "content": "c"}]}',
    '{"messages": [{"role": "user", "content": "a"}, '
    '{"role": "assistant", "content": "", "content": "x", "tool_calls": [{"n": 1}]}, '
    '{"role": "tool", "content": "1"}, {"role": "assistant", "content": "b"}]}',
    '{"messages": [{"role": "user", "content": "a"}, '
    '{"role": "assistant", "content": "", "tool_calls": [{"n": 1, "n": 2}]}, '
    '{"role": "tool", "content": "1"}, {"role": "assistant", "content": "b"}]}',
    '{"messages": [{"role": "user", "role": "user", "content": "a"}, '
    '{"role": "assistant", "content": "b"}]}',
    '{"messages": [], "messages": [{"role": "user", "content": "a"}, '
    '{"role": "assistant", "content": "b"}]}',
)  # fmt: skip


def _keys(dice: random.Random) -> Iterator[Case]:
    expects = "the row is in quarantine, for `duplicate-key`"
    for number, text in enumerate(TWICE):
        for kind in ("jsonl", "json"):
            yield Case(f"{kind}-{number}", expects, partial(_twice, kind, text))
    for many in (1_000, 50_000):
        yield Case(f"many-{many}", "an object of many keys takes seconds", partial(_many, many))


def _twice(kind: str, text: str, place: Place) -> None:
    turns = text.startswith('{"messages"')
    before, after = (json.dumps(row) for row in (dialogues if turns else alpaca)()[1:3])
    mark, whole = ("\n", "{}\n") if kind == "jsonl" else (",\n", "[{}]\n")
    (place.home / f"a.{kind}").write_text(whole.replace("{}", mark.join([before, text, after])))
    account = _ingest(place, f"a.{kind}")
    require(account is not None and account["quarantined"] == 1, f"the account has {account}")
    entry = json.loads((place.home / "out" / "quarantine.jsonl").read_text("utf-8"))
    require(entry["reason"] == "duplicate-key", f"the reason is {entry['reason']}")


def _many(keys: int, place: Place) -> None:
    more = {f"k{i}": i for i in range(keys)}
    (place.home / "a.jsonl").write_bytes(_lines([alpaca()[0] | more, alpaca()[1]]))
    account = _ingest(place, "a.jsonl")
    require(place.ran[-1].wait().seconds < 10, f"it takes {place.ran[-1].wait().seconds:.0f} s")
    require(account is None or account["in"] == 2, f"the account has {account}")


# ---- files crafted to mislead -----------------------------------------------------------------


def _replaced(table: pa.Table, old: bytes, new: bytes, **how: Any) -> bytes:
    """Return an Arrow file in which the first such bytes are others, of the same size."""
    raw = arrow(table, **how)
    assert raw.count(old) >= 1
    assert len(old) == len(new)
    return raw.replace(old, new, 1)


def _offsets(kind: str, stream: bool) -> bytes:
    """Return an Arrow file whose text offsets lead elsewhere."""
    table = pa.table({"instruction": ["aaaa", "bbbb", "cccc"], "output": ["d", "ee", "fff"]})
    old = struct.pack("<4i", 0, 4, 8, 12)
    new = {
        "past": (0, 4, 8, 1 << 30), "negative": (0, -4, 8, 12), "falling": (0, 8, 4, 12),
        "far": (1 << 20, 1 << 21, 1 << 22, 1 << 23), "least": (-(2**31), 4, 8, 12),
    }[kind]  # fmt: skip
    return _replaced(table, old, struct.pack("<4i", *new), stream=stream)


def _indices() -> bytes:
    """Return an Arrow file whose dictionary indices are none."""
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1], pa.int32()), ["xxxx", "yyyy"])
    table = pa.table({"instruction": ["a", "b", "c", "d"], "output": codes})
    return _replaced(table, struct.pack("<4i", 0, 1, 0, 1), struct.pack("<4i", 0, 1 << 28, -5, 1))


def _lists() -> bytes:
    turns = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]] * 3
    table = pa.table({"messages": turns})
    return _replaced(table, struct.pack("<4i", 0, 2, 4, 6), struct.pack("<4i", 0, 2, 1 << 27, 6))


def _with(**columns: Any) -> pa.Table:
    """Return a table of three good rows, and columns that nobody reads."""
    return pa.table({"instruction": ["a", "b", "c"], "output": ["x", "y", "z"], **columns})


def _unread() -> dict[str, pa.Table]:
    far = pa.array([2**62, -(2**62), None], pa.int64())
    made = {
        "date-far": _with(when=far.cast(pa.timestamp("s"), safe=False)),
        "date-zone": _with(when=pa.array([1, 2, 3], pa.timestamp("us", "Mars/Phobos"))),
        "date32": _with(when=pa.array([2**31 - 1, -(2**31), 0], pa.int32()).cast(pa.date32())),
        "time": _with(when=pa.array([10**13, -1, 0], pa.int64()).cast(pa.time64("ns"))),
        "duration": _with(when=far.cast(pa.duration("s"))),
        "decimal": _with(n=pa.array([1, 2, 3], pa.decimal256(76, 0))),
        "binary": _with(n=pa.array([b"\xff\xfe", b"", None], pa.binary())),
        "large": _with(n=pa.array(["a", None, "b"], pa.large_string())),
        "view": _with(n=pa.array(["a" * 40, None, "b"], pa.string_view())),
        "null": _with(n=pa.nulls(3)),
        "nested": _with(n=pa.array([[[{"k": [1]}]], [], None])),
        "map": _with(n=pa.array([[("k", 1), ("k", 2)], [], None], pa.map_(pa.string(), pa.int8()))),
        "halves": _with(n=pa.array(np.array([1, np.nan, np.inf], np.float16))),
        "huge-int": _with(n=pa.array([2**64 - 1, 0, 1], pa.uint64())),
        "keys-of-python": _with(**{"__class__": ["a", "b", "c"], "": ["", "", ""]}),
        "metadata": _with().replace_schema_metadata({b"pandas": b"\xff{", b"huggingface": b"{"}),
    }
    names, same = ["instruction", "output", "output"], [pa.array(["a", "b", "c"])] * 3
    made["column-twice"] = pa.Table.from_arrays(same, names)
    return made | {"no-rows": _with().slice(0, 0), "no-columns": pa.table({})}


def _crafted(dice: random.Random) -> Iterator[Case]:
    """Yield Arrow and Parquet files of columns that lead elsewhere, or mean nothing."""
    files: dict[str, Callable[[], bytes]] = {}
    for kind in ("past", "negative", "falling", "far", "least"):
        for stream in (False, True):
            files[f"offsets-{kind}{'-stream' * stream}"] = partial(_offsets, kind, stream)
    files |= {"indices": _indices, "lists": _lists}
    for name, make in files.items():
        expects = "refused by one line, or the rows that are meant; never memory of others"
        yield Case(name, expects, partial(_file, "a.arrow", make, None))
    for name in _unread():
        for kind in ("arrow", "parquet"):
            fine = name not in ("column-twice", "no-rows", "no-columns")
            expects = "no row is lost to a column that nobody reads" if fine else "one line"
            make = partial(_written, name, kind)
            yield Case(f"{name}-{kind}", expects, partial(_file, f"a.{kind}", make, fine))


def _written(name: str, kind: str) -> bytes:
    table = _unread()[name]
    if kind == "arrow":
        return arrow(table)
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except (pa.ArrowException, ValueError):
        return arrow(table)  # Parquet has no such type: then a file of another kind than its name
    return sink.getvalue()


def _file(name: str, make: Callable[[], bytes], fine: bool | None, place: Place) -> None:
    (place.home / name).write_bytes(make())
    account = _ingest(place, name)
    if fine and place.home.joinpath(name).read_bytes()[:4] in (b"PAR1", b"ARRO"):
        parquet = name.endswith("parquet")
        if parquet and place.home.joinpath(name).read_bytes()[:4] != b"PAR1":
            return
        require(account is not None and account["kept"] == 3, f"the account has {account}")


# ---- packed -----------------------------------------------------------------------------------


def _packs() -> dict[str, tuple[str, bytes, bool | None]]:
    """Return name -> file name, bytes, and whether all rows are to be kept (None: one line too)."""
    plain = _lines(alpaca())
    gz, zst = gzip.compress(plain, mtime=0), zstandard.compress(plain)
    skip = struct.pack("<II", 0x184D2A50, 5) + b"hello"
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=29, enable_ldm=True)
    ).compressobj()
    return {
        "skippable-first": ("a.jsonl.zst", skip + zst, True),
        "skippable-between": ("a.jsonl.zst", zst + skip + zst, True),
        "skippable-last": ("a.jsonl.zst", zst + skip, True),
        "skippable-alone": ("a.jsonl.zst", skip, None),
        "skippable-huge": ("a.jsonl.zst", struct.pack("<II", 0x184D2A50, 2**31) + b"x", None),
        "window": ("a.jsonl.zst", wide.compress(plain * 50) + wide.flush(), None),
        "several-gz": ("a.jsonl.gz", gz + gz, True),
        "gz-then-garbage": ("a.jsonl.gz", gz + b"garbage", None),
        "gz-then-zeros": ("a.jsonl.gz", gz + bytes(512), None),
        "gz-crc": ("a.jsonl.gz", gz[:-8] + bytes(4) + gz[-4:], None),
        "gz-empty": ("a.jsonl.gz", gzip.compress(b""), None),
        "gz-of-gz": ("a.jsonl.gz", gzip.compress(gz), None),
        "gz-of-nothing": ("a.jsonl.gz", b"", None),
        "gz-magic-alone": ("a.jsonl.gz", b"\x1f\x8b", None),
        "zst-magic-alone": ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", None),
        "gz-without-name": ("a.jsonl", gz, True),
        "zst-named-gz": ("a.jsonl.gz", zst, True),
        "plain-named-gz": ("a.jsonl.gz", plain, True),
        "bomb-gz": ("a.jsonl.gz", gzip.compress(bytes(60 << 20), mtime=0), None),
        "bomb-zst": ("a.jsonl.zst", zstandard.compress(bytes(60 << 20)), None),
        "bomb-line": ("a.jsonl.zst", zstandard.compress(b"x" * (60 << 20)), None),
        "parquet-gz": ("a.parquet.gz", gzip.compress(_parquet()), None),
        "arrow-zst": ("a.arrow.zst", zstandard.compress(arrow(_table())), None),
    }


def _packed_cases(dice: random.Random) -> Iterator[Case]:
    for name, (file, raw, kept) in _packs().items():
        expects = "all rows are kept" if kept else "one line, or rows in the account"
        yield Case(name, expects, partial(_packed, file, raw, kept))


def _packed(file: str, raw: bytes, kept: bool | None, place: Place) -> None:
    (place.home / file).write_bytes(raw)
    account = _ingest(place, file, "--max-expanded-gb", "0.03")
    if kept:
        require(account is not None and account["quarantined"] == 0, f"the account is {account}")
        require(account["kept"] == len(alpaca()), f"the account has {account}")
