"""Peak memory and processor time of the worst input that `ingest` accepts, by format.

    python benchmarks/worst_inputs.py [--only parquet]

Each file is made by a seed, just within the default limits (`max_row_mb` 16, `max_expanded_gb`) or
past one of them, and read by a command of its own. Memory is the largest sum of the anonymous
memory (without mapped files, which the system may drop) of the command and of what it started,
looked at every 20 ms. Writes
benchmarks/results/worst_inputs.json and prints the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from sft_diversity.core import folder, machine

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/worst_inputs.json"
MB = 1 << 20
LONG = 15 * MB  # characters of a row that is still read
ROWS = 24
_LOOK_EVERY_S = 0.02


def rows(count: int = ROWS, size: int = LONG) -> Iterator[dict[str, str]]:
    """Yield rows of one long text each, none like another."""
    for number in range(count):
        word = f"{number:07d} "
        yield {"instruction": f"Say {number}", "output": word * (size // len(word))}


def _lines(path: Path, given: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in given)


def _list(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, row in enumerate(rows()):
            file.write(("," if number else "") + json.dumps(row))
        file.write("]")


def _keys(path: Path) -> None:
    more = {f"key {number}": number for number in range(50_000)}
    _lines(path, ({**row, **more} for row in rows(20, 100)))


def _many_keys(path: Path) -> None:
    more = {f"{number:x}": 0 for number in range(1_100_000)}
    _lines(path, ({**row, **more} for row in rows(4, 100)))


def _deep(path: Path) -> None:
    inner = "[" * 240 + "]" * 240
    row = '{"instruction": "a", "output": "b%d", "x": [%s]}\n'
    text = ", ".join([inner] * 10_000)
    path.write_text("".join(row % (number, text) for number in range(4)), "utf-8")


def _escapes(path: Path) -> None:
    text = "\\u0041" * (LONG // 6)
    line = '{"instruction": "a%d", "output": "%s"}\n'
    path.write_text("".join(line % (number, text) for number in range(ROWS)), "utf-8")


def _one_line(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(1_000):
            file.write(b"x" * MB)


def _separated(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("instruction,output\n")
        for row in rows():
            text = row["output"].replace("1 ", '""\n')
            file.write(f'{row["instruction"]},"{text}"\n')


def _quotes(path: Path) -> None:
    """Every line opens a quote that is never closed."""
    path.write_text("instruction,output\n" + 'a,"b\n' * 300_000, "utf-8")


def _parquet(path: Path) -> None:
    _table(path, pa.Table.from_pylist(list(rows())), use_dictionary=False)


def _repeated(path: Path) -> None:
    """A text of 15 MB once, and 100 rows that mean it."""
    given = next(rows(1))["output"]
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array([given]))
    table = pa.table({"instruction": [f"Say {i}" for i in range(100)], "output": column})
    _table(path, table, use_dictionary=["output"])


def _table(path: Path, table: pa.Table, **options: Any) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path, compression="zstd", row_group_size=1_024, **options)
        return
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def _packed(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        plain = path.with_name("plain")
        write(plain)
        with plain.open("rb") as source, path.open("wb") as target:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1) as packed:
                    shutil.copyfileobj(source, packed, MB)
            else:
                zstandard.ZstdCompressor().copy_stream(source, target)
        plain.unlink()

    return make


def _wide(path: Path) -> None:
    """A window of 128 MB, the largest that is taken."""
    options = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    plain = path.with_name("plain")
    _lines(plain, rows())
    with plain.open("rb") as source, path.open("wb") as target:
        zstandard.ZstdCompressor(compression_params=options).copy_stream(source, target)
    plain.unlink()


#: Name of the file -> what it is, and how it is written.
INPUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "rows.jsonl": (f"{ROWS} rows of 15 MB", lambda path: _lines(path, rows())),
    "keys.jsonl": ("20 rows of 50,000 keys", _keys),
    "many-keys.jsonl": ("4 rows of 1,100,000 keys", _many_keys),
    "deep.jsonl": ("4 rows of 10,000 lists, each 240 deep", _deep),
    "escapes.jsonl": (f"{ROWS} rows of 15 MB, every letter escaped", _escapes),
    "line.jsonl": ("one line of 1,000 MB", _one_line),
    "rows.json": (f"a list of {ROWS} rows of 15 MB", _list),
    "rows.csv": (f"{ROWS} fields of 15 MB with quotes and line breaks", _separated),
    "quotes.csv": ("300,000 lines that open a quote and never close it", _quotes),
    "rows.parquet": (f"{ROWS} rows of 15 MB in one group", _parquet),
    "repeated.parquet": ("100 rows that repeat a text of 15 MB", _repeated),
    "rows.arrow": (f"{ROWS} rows of 15 MB in one batch", _parquet),
    "repeated.arrow": ("100 rows that repeat a text of 15 MB", _repeated),
    "line.jsonl.gz": ("one line of 1,000 MB", _packed(_one_line)),
    "line.jsonl.zst": ("one line of 1,000 MB", _packed(_one_line)),
    "rows.jsonl.zst": (f"{ROWS} rows of 15 MB, a window of 128 MB", _wide),
}


def main() -> None:
    """Make each input, read it, write the figures, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="inputs whose name holds this")
    only = parser.parse_args().only
    before = json.loads(RESULT.read_text("utf-8"))["inputs"] if only and RESULT.exists() else []
    figures = {one["file"]: one for one in before}
    for name in INPUTS:
        if only in name:
            figures[name] = _measured(name)
            inputs = [figures[one] for one in INPUTS if one in figures]
            report = {"benchmark": "worst_inputs", "machine": machine.measured_on()}
            RESULT.write_text(folder.dump_json(report | {"inputs": inputs}), "utf-8")
    print(table([figures[name] for name in INPUTS if name in figures]))


def table(found: list[dict[str, Any]]) -> str:
    """Return the figures as a table for a page."""
    lines = [
        "| file | what it holds | MB | outcome | peak MB | CPU s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{one['file']}` | {one['holds']} | {one['mb']:,.0f} | {one['outcome']} | "
        f"{one['peak_mb']:,.0f} | {one['cpu_s']:.1f} |"
        for one in found
    ]  # fmt: skip
    return "\n".join(lines)


def _measured(name: str) -> dict[str, Any]:
    holds, write = INPUTS[name]
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / name
        write(path)
        size = path.stat().st_size
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "sft_diversity", "ingest", str(path), "--out", f"{home}/o"]
        command += ["--max-bad-fraction", "1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        peak = _peak(process)
        assert process.stderr is not None
        said = process.stderr.read().decode("utf-8", "replace")
        outcome = f"exit {process.wait()}: {said.strip().rpartition(chr(10))[2][:150]}"
        if process.returncode == 0:
            account = folder.read_manifest(Path(home) / "o")["rows"]
            dropped = sum(account["dropped"].values())
            outcome = f"{account['kept']:,} kept, {dropped:,} dropped, "
            outcome += f"{account['quarantined']:,} in quarantine"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    figures = {"mb": size / MB, "peak_mb": peak / MB, "cpu_s": cpu_s}
    return {"file": name, "holds": holds, "outcome": outcome} | {
        key: round(value, 1) for key, value in figures.items()
    }


def _peak(process: subprocess.Popen[bytes]) -> int:
    """Wait for a command; return the most memory of it and its children, in bytes."""
    most, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in [parent, *parent.children(recursive=True)]:
                total += _anonymous(one.pid)
        except (psutil.NoSuchProcess, OSError):
            pass
        most = max(most, total)
        time.sleep(_LOOK_EVERY_S)
    return most


def _anonymous(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return int(value.split()[0]) << 10
    return 0


if __name__ == "__main__":
    main()
