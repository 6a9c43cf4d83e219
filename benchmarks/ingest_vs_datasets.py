"""Time `ingest` against `datasets` on the reference corpus, side by side in one run.

    python benchmarks/ingest_vs_datasets.py [--root ../shared/data/sources] [--rounds 2] [--bare]

Both read the same 18 sources in their native formats, bring them to one schema (first exchange of
dialogues, end markers and literal line breaks mended), drop empty rows and exact duplicates, fill
up to 117,000 and write Parquet; both must keep the same number of rows of every source. The peer
does it the way its documentation teaches: `load_dataset`, `map`, `filter` with a set,
`concatenate_datasets`, `to_parquet`, with an empty cache. Each runs in a process of its own, in
turns; wall time, CPU time (children included) and peak resident memory are that process's.
With `--bare` a third side does what no reader can leave out, by the libraries that `ingest` calls
and nothing around them: no row is checked, placed or accounted for, none is kept to resume from.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve()
_CONFIG = _HERE.parents[1] / "configs" / "ingest" / "reference-117k.yaml"


def ours(root: Path, out: Path) -> dict[str, int]:
    """Ingest the reference corpus; return rows kept of each source."""
    from sft_diversity import ingest

    made = ingest(config=_CONFIG, root=str(root), out=out)
    return {s["name"]: s["rows"]["kept"] for s in made.figures["sources"]}


def peer(root: Path, out: Path) -> dict[str, int]:
    """Do the same work with `datasets`; return rows kept of each source."""
    import csv

    import datasets
    import yaml

    datasets.disable_progress_bars()
    cache = str(out / "cache")
    sources = yaml.safe_load(_CONFIG.read_text("utf-8"))["sources"]
    seen: set[tuple[str, str, str]] = set()
    kept: list[Any] = []
    for source in sources:
        files = sorted(str(path) for path in root.glob(source["path"]))
        if source["format"] == "mapping":
            columns = source["table"]["columns"]
            rows = datasets.load_dataset(
                "csv", data_files=files, split="train", cache_dir=cache, delimiter="\t",
                quoting=csv.QUOTE_NONE, column_names=columns, keep_default_na=False,
                features=datasets.Features({c: datasets.Value("string") for c in columns}),
            )  # fmt: skip
        else:
            rows = datasets.load_dataset("json", data_files=files, split="train", cache_dir=cache)
        rows = rows.map(
            _canonical,
            fn_kwargs={"format": source["format"], "name": source["name"]},
            remove_columns=rows.column_names,
        )
        # without a fingerprint of ours `datasets` would hash the whole set at each call
        rows = rows.filter(lambda row: _is_new(row, seen), new_fingerprint=f"new-{len(kept)}")
        kept.append(rows.remove_columns("key"))
    room = 117_000 - sum(len(rows) for rows in kept[:-1])
    kept[-1] = kept[-1].shuffle(seed=0).select(range(room))
    datasets.concatenate_datasets(kept).to_parquet(str(out / "corpus.parquet"))
    return {s["name"]: len(rows) for s, rows in zip(sources, kept, strict=True)}


def bare(root: Path, out: Path) -> dict[str, int]:
    """Unpack, parse, hash and write, no more: this way's floor; return rows kept of each source."""
    import hashlib
    import zlib

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    from sft_diversity.core import arrow
    from sft_diversity.core.schema import MESSAGES
    from sft_diversity.ingestion.runs import whole_messages
    from sft_diversity.ingestion.text import digests_of_exchanges, normal_digests

    sources = yaml.safe_load(_CONFIG.read_text("utf-8"))["sources"]
    seen: set[bytes] = set()
    kept: list[list[tuple[bytes, bytes, bytes, bytes]]] = []
    for source in sources:
        kept.append([])
        for path in sorted(root.glob(source["path"])):
            packed = path.read_bytes()
            hashlib.sha256(packed).digest()
            rows = _exchanges(zlib.decompress(packed, 31), source["format"])
            texts = [text.encode() for row in rows for text in row]
            keys, empty = normal_digests(texts, 3)
            nothing = (empty[:, 2] | (empty[:, 0] & empty[:, 1])).tolist()
            asked = [
                b"%b\n\n%b" % (task, given) if given else task
                for task, given in zip(texts[::3], texts[1::3], strict=True)
            ]
            ids = digests_of_exchanges(asked, texts[2::3])
            for key, none, *row in zip(keys, nothing, ids, asked, texts[2::3], strict=True):
                if not none and key not in seen:
                    seen.add(key)
                    kept[-1].append((*row, source["name"].encode()))
    room = 117_000 - sum(map(len, kept[:-1]))
    kept[-1] = sorted(kept[-1])[:room]
    whole = zip(*(row for rows in kept for row in rows), strict=True)
    keys, requests, answers, names = map(list, whole)
    table = pa.table(
        {
            "id": arrow.hex_ids(pa.chunked_array([arrow.fixed(keys)])),
            "source": arrow.texts(names),
            "messages": pa.nulls(len(keys), MESSAGES),
            "instruction": arrow.texts(requests),
            "response": arrow.texts(answers),
        }
    )
    order = np.argsort(arrow.halves(pa.chunked_array([arrow.fixed(keys)]))[0])
    out.mkdir()
    for number, some in enumerate(np.array_split(order, 16)):
        rows = table.take(arrow.numbers(some)).combine_chunks()
        rows = rows.set_column(2, "messages", whole_messages(rows, MESSAGES))
        pq.write_table(rows, out / f"{number}.parquet", compression="zstd")
        hashlib.sha256((out / f"{number}.parquet").read_bytes()).digest()
    return {s["name"]: len(rows) for s, rows in zip(sources, kept, strict=True)}


def _exchanges(text: bytes, format: str) -> list[tuple[str, str, str]]:
    """Return instruction, input and response of every row of a file."""
    import jiter

    if format == "mapping":
        fields = [
            line.replace("\\n", "\n").split("\t") for line in text.decode().splitlines() if line
        ]
        return [(task, "", f"{why}\nThe answer is {answer}") for task, answer, why in fields]
    whole = text if text.lstrip()[:1] == b"[" else b"[%b]" % b",".join(text.splitlines())
    rows = jiter.from_json(whole, cache_mode="keys", catch_duplicate_keys=True)
    if format == "sharegpt":
        made = [_canonical(row, format, "") for row in rows]
        return [(row["instruction"], "", row["response"]) for row in made]
    if format == "prompt-completion":
        return [(r["prompt"], "", r["completion"].removesuffix("<|endoftext|>")) for r in rows]
    if format == "question-answer":
        return [(row["question"], "", row["answer"]) for row in rows]
    answer = "response" if format == "gpteacher" else "output"
    return [(row["instruction"], row.get("input") or "", row[answer]) for row in rows]


def _canonical(row: dict[str, Any], format: str, name: str) -> dict[str, Any]:
    given = ""
    if format == "sharegpt":
        turns = row["conversations"]
        task = answer = ""
        for one, other in itertools.pairwise(turns):
            if one["from"] == "human" and other["from"] == "gpt":
                task, answer = one["value"], other["value"]
                break
    elif format == "mapping":
        texts = [row[column].replace("\\n", "\n") for column in ("prompt", "answer", "rationale")]
        task, answer = texts[0], f"{texts[2]}\nThe answer is {texts[1]}"
    elif format == "prompt-completion":
        task, answer = row["prompt"], row["completion"].removesuffix("<|endoftext|>")
    elif format == "question-answer":
        task, answer = row["question"], row["answer"]
    else:
        task, given = row["instruction"], row.get("input") or ""
        answer = row["response"] if format == "gpteacher" else row["output"]
    instruction = f"{task}\n\n{given}" if given.strip() else task
    return {
        "source": name,
        "messages": [
            {"role": "user", "content": instruction},
            {"role": "assistant", "content": answer},
        ],
        "instruction": instruction,
        "response": answer,
        "key": [_normalise(task), _normalise(given), _normalise(answer)],
    }


def _normalise(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_new(row: dict[str, Any], seen: set[tuple[str, str, str]]) -> bool:
    instruction, given, response = row["key"]
    if not response or not (instruction or given):
        return False
    before = len(seen)
    seen.add((instruction, given, response))
    return len(seen) > before


def _measured(which: str, root: Path) -> dict[str, Any]:
    """Run one side in a process of its own; return its figures."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, str(_HERE), "--root", str(root), "--side", which]
        env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as when installed
        done = subprocess.run(
            [*command, "--out", scratch], stdout=subprocess.PIPE, env=env, check=True, text=True
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _side(which: str, root: Path, out: Path) -> None:
    start = time.perf_counter()
    kept = {"ours": ours, "peer": peer, "bare": bare}[which](root, out / which)
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures = {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in used), 2),
        "peak_mb": round(sum(u.ru_maxrss for u in used) / 1024),
        "kept": kept,
    }
    print(json.dumps(figures))


def main() -> None:
    """Run both sides in turns, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/sources"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help="and by the libraries alone")
    parser.add_argument("--side", choices=("ours", "peer", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        _side(args.side, args.root, args.out)
        return
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    runs |= {"bare": []} if args.bare else {}
    for _ in range(args.rounds):
        for which, done in runs.items():
            done.append(_measured(which, args.root))
            print(which, {k: v for k, v in done[-1].items() if k != "kept"}, flush=True)
    kept = [run.pop("kept") for done in runs.values() for run in done]
    assert all(one == kept[0] for one in kept), "the sides kept different rows"
    best = {which: min(run["seconds"] for run in done) for which, done in runs.items()}
    cpu = {which: min(run["cpu_seconds"] for run in done) for which, done in runs.items()}
    result = {
        "benchmark": "ingest_vs_datasets",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_cpu_name()}, {os.cpu_count()} cores",
        "load_before": [round(x, 1) for x in os.getloadavg()],
        "versions": _versions(),
        "rows_kept": sum(Counter(kept[0]).values()),
        "runs": runs,
        "best_seconds": best,
        "ratio_wall": round(best["peer"] / best["ours"], 2),
        "ratio_cpu": round(cpu["peer"] / cpu["ours"], 2),
    }
    target = _HERE.parent / "results" / "ingest_vs_datasets.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"ours {best['ours']} s, datasets {best['peer']} s: {result['ratio_wall']}x wall, "
          f"{result['ratio_cpu']}x CPU")  # fmt: skip


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _versions() -> dict[str, str]:
    from sft_diversity.core.folder import versions

    names = ("sft-diversity", "datasets", "pyarrow", "polars", "numpy")
    return {"python": platform.python_version()} | {
        name: version for name, version in versions().items() if name in names
    }


if __name__ == "__main__":
    main()
