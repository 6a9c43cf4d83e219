"""Draw `data/sample/` from the source files: real records, native formats, free licences only.

    python data/make_sample.py ../shared/data

The draw is seeded and the archives carry no time, so that the same files come out everywhere.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

SEED = 20240501
FREE = ("MIT", "Apache-2.0", "CC-BY-SA-3.0")
OUT = Path(__file__).resolve().parent / "sample"

#: Source, file, rows to draw. The T0 templates are those over ConceptNet, QASC and Commonsense QA
#: data; news and reviews have terms of their own and stay out. ChatDoctor's README limits use.
DRAWS = [
    ("alpaca_en_demo", "alpaca_en_demo.json", 180),
    ("dolly_3k", "dolly_3k.json", 350),
    ("gpteacher_codegen", "codegen-instruct.json", 350),
    ("gpteacher_roleplay", "roleplay-simple-deduped-roleplay-dataset.json", 250),
    ("gpteacher_toolformer", "toolformer-dedupe-only-dataset.json", 250),
    ("glaive_toolcall_en_demo", "glaive_toolcall_en_demo.json", 70),
    ("vicuna_identity_dummy", "dummy_conversation.json", 50),
    ("gsm8k_train", "train.jsonl", 400),
    ("flan_cot", "creak_train.tsv", 150),
    ("flan_cot", "qasc_train.tsv", 100),
    ("flan_cot", "strategyqa_train.tsv", 150),
    ("t0_p3_per_template", "commonsense_qa_most_suitable_answer.jsonl", 50),
    ("t0_p3_per_template", "common_gen_Put_together.jsonl", 50),
    ("t0_p3_per_template", "qasc_qa_with_separated_facts_1.jsonl", 50),
]
EVAL_DRAWS = [
    ("heldout_2000", "heldout_2000.jsonl", 100),
    ("gsm8k_test", "gsm8k_test.jsonl", 40),
    ("self_instruct_user_oriented", "self_instruct_user_oriented_instructions.jsonl", 60),
]


def main() -> None:
    """Write the sample and its manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with `sources` and `eval`")
    data: Path = parser.parse_args().data
    shutil.rmtree(OUT, ignore_errors=True)
    known = yaml.safe_load((data / "sources" / "MANIFEST.yaml").read_text("utf-8"))["sources"]
    by_name = {source["name"]: source for source in known}
    drawn = [
        _draw(i, data / "sources" / name / file, Path(name) / file, rows, by_name[name])
        for i, (name, file, rows) in enumerate(DRAWS)
    ]
    sets = yaml.safe_load((data / "eval" / "MANIFEST.yaml").read_text("utf-8"))["sets"]
    by_set = {one["name"]: one for one in sets}
    for name, file, rows in EVAL_DRAWS:
        known_free = by_set[name] | ({"licence": _mixed(by_name)} if name == "heldout_2000" else {})
        keep = _from_free_source if name == "heldout_2000" else None
        target = Path("eval") / file
        drawn.append(_draw(len(drawn), data / "eval" / file, target, rows, known_free, keep))
    manifest = {
        "description": "Real records for the demo and the tests, in their native formats. Nothing "
        "was written for this project.",
        "made_by": "data/make_sample.py",
        "drawn": f"without replacement, NumPy PCG64 seeded with ({SEED}, number of the file in "
        "this list); records keep their order, lines their bytes, JSON lists are laid out anew",
        "rows": sum(one["rows"] for one in drawn if not one["file"].startswith("eval/")),
        "rows_eval": sum(one["rows"] for one in drawn if one["file"].startswith("eval/")),
        "files": drawn,
    }
    text = yaml.safe_dump(manifest, sort_keys=False, width=100, allow_unicode=True)
    (OUT / "MANIFEST.yaml").write_text(text, "utf-8")


def _from_free_source(row: dict[str, Any]) -> bool:
    """Whether a held-out row is of a source above, and of a T0 template over the same data."""
    if row["source"] == "t0_p3_per_template":
        return str(row["source_file"]).startswith(("commonsense_qa_", "common_gen_", "qasc_"))
    return row["source"] in {name for name, _, _ in DRAWS}


def _mixed(by_name: dict[str, Any]) -> str:
    licences = {by_name[name]["licence"].split()[0] for name, _, _ in DRAWS}
    return f"{', '.join(sorted(licences))}: that of each row's source, all of them in this list"


def _draw(
    number: int,
    path: Path,
    name: Path,
    rows: int,
    known: dict[str, Any],
    keep: Callable[[dict[str, Any]], bool] | None = None,
) -> dict[str, Any]:
    assert known["licence"].startswith(FREE), known["licence"]
    rng = np.random.default_rng((SEED, number))
    raw = gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
    if path.suffix == ".json":
        records = json.loads(raw)
        picks = sorted(rng.choice(len(records), rows, replace=False).tolist())
        text = (
            json.dumps([records[i] for i in picks], ensure_ascii=False, indent=1).encode() + b"\n"
        )
    else:
        lines = raw.removesuffix(b"\n").split(b"\n")
        if keep is not None:
            lines = [line for line in lines if keep(json.loads(line))]
        picks = sorted(rng.choice(len(lines), rows, replace=False).tolist())
        text = b"".join(lines[i] + b"\n" for i in picks)
    target = OUT / name.with_name(name.name + ".gz")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(text, 9, mtime=0))
    return {
        "file": target.relative_to(OUT).as_posix(),
        "rows": rows,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "format": known["format"],
        "licence": known["licence"],
        "repository": known["repository"],
        "commit": known["commit"],
    }


if __name__ == "__main__":
    main()
