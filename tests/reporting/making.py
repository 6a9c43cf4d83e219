"""A small corpus with all that describes it, subsets of it, and a made-up but plausible study."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa

from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, incidence, schema, seeding, vectors
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.stage import fit
from tests.levels import making as levels
from tests.making import store

#: What a text may hold that must stay text.
NASTY = '</script><script>window.hit=1</script><img src=x onerror="window.hit=2">'
STRATEGIES = ("macro-instruction", "micro-response")
KINDS = 12


def make(root: Path, tokenizer: Path, samples: int = 240) -> tuple[Path, Path]:
    """Write a corpus and a work folder with tokens, embeddings and two incidences."""
    topics = itertools.cycle(levels.TOPICS)
    pairs = [
        (f"Tell me about {topic}, part {i}.", f"{topic} " * (1 + i % 30) + f"is number {i}")
        for i, topic in zip(range(samples - 1), topics, strict=False)
    ]
    corpus = levels.corpus(root / "corpus", [*pairs, (f"Read {NASTY}", f"{NASTY} & so on")])
    work = root / "work"
    for component in ("instruction", "response"):
        _embedded(corpus, work / "embeddings" / component, component)
        counted = {"component": component, "tokenizer": str(tokenizer)}
        store(work).get("tokens", counted, corpus)
    for strategy in STRATEGIES:
        _indexed(corpus, work / "index" / strategy, strategy)
    return corpus, work


def _draft(stage, out, corpus, config):
    return drafts.open_draft(out, drafts.Work(stage, 1, {"corpus": corpora.key(corpus)}, config))


def _embedded(corpus, out, component):
    draft = _draft("embed", out, corpus, {"components": [component]})
    table = corpora.read(corpus)
    made = levels.hashed_vectors(table[component].to_pylist()).astype(np.float16)
    columns = {"id": table["id"], "embedding": vectors.column(made)}
    embedded = pa.table(columns).cast(schema.embeddings(made.shape[1]))
    draft.write_table(f"{component}/all.parquet", embedded)
    draft.commit()


def _indexed(corpus, out, strategy):
    draft = _draft("index", out, corpus, {"strategy": strategy})
    ids = corpora.read(corpus, ["id"])["id"].combine_chunks()
    n = len(ids)
    held = (np.arange(n) % KINDS).astype(np.int32)
    made = incidence.Incidence(np.arange(n + 1), held, np.ones(n, np.int32), KINDS)
    names = [f"<b>kind {k}</b>" for k in range(KINDS)]
    counts = np.bincount(held, minlength=KINDS)
    incidence.save(draft.path, made, ids, pa.table({"kind": names, "samples": counts}))
    draft.commit()


def subset(corpus: Path, out: Path, rows, **config) -> Path:
    """Write a finished subset of corpus rows."""
    config = {"strategy": "random", "size": len(rows), "diversity": 100.0, "seed": 0} | config
    draft = _draft("select", out, corpus, config)
    samples = corpora.take(corpus, np.asarray(rows, np.int64))
    table = samples.append_column("pick", pa.array(range(len(rows)), pa.int32()))
    draft.write_table("samples/00000.parquet", table)
    result = {"rows": len(rows), "entropy_bits": 7.25, "strategy": config["strategy"]}
    n = len(corpora.read(corpus, ["id"]))
    rows_in = folder.rows_account(n, len(rows), {"not_picked": n - len(rows)})
    draft.commit(rows=rows_in, seeds={"seed": config["seed"]}, result=result)
    return out


def study(root: Path, corpus: Path, size: int = 40) -> Path:
    """Write a study whose scores rise with micro-response and follow nothing else."""
    place = root / "made-study"
    rng = seeding.generator(0, "made study")
    results, metrics = [], []
    grid = list(itertools.product("AB", STRATEGIES, (0, 50, 100), (0, 1)))
    cells = [*grid, *itertools.product("AB", ["random"], [None], (0, 1, 2))]
    for regime, strategy, at, seed in cells:
        cell = {"regime": regime, "strategy": strategy, "size": size, "diversity": at, "seed": seed}
        dial = "" if at is None else f"-d{at}"
        name = f"{regime}-{strategy}-n{size}{dial}-s{seed}"
        n = len(corpora.read(corpus, ["id"]))
        rows = rng.choice(n if at is None else int(n * (40 + at) / 140), size, replace=False)
        subset(corpus, place / "subsets" / name, rows, strategy=strategy, diversity=at, seed=seed)
        _training(place / "models" / f"{name}-t0" / "training.jsonl", at or 0, lion=seed == 0)
        _answers(place, f"{name}-t0", at or 0)
        gain = 0.0004 * (at or 50) * (strategy == "micro-response") * (1 if regime == "B" else 5)
        score = -6.0 + gain + 0.004 * float(rng.normal())
        row = cell | {"train_seed": 0, "score": score, "in_mix": -score, "steps": 10}
        row["instruction_strict"] = 30.0 + (at or 0) / 10
        results.append(row | {"epochs": 1.0, "response_tokens": 4_000 + 10 * (at or 0)})
        metrics.append(cell | {"response_distinct_1": 0.2 + gain, "response_flat": 1.0})
    base = dict.fromkeys(results[0]) | {"strategy": "base", "score": -6.4}
    _csv(place / "results.csv", [base, *results])
    _csv(place / "metrics.csv", [m for m in metrics if m["diversity"] is not None])
    _answers(place, "base", 0)
    failed = {"run": "A-longest-n40-s0-t0", "stage": "finetune", "error": f"stopped {NASTY}"}
    (place / "failures.jsonl").write_text(json.dumps(failed) + "\n")
    found = fit(place, FitConfig(draws=200))
    (place / "fit.json").write_text(folder.dump_json(found))
    return place


def _answers(place, run, at):
    said = place / "generated" / run / "answers" / "ruled.jsonl"
    said.parent.mkdir(parents=True)
    with said.open("w") as file:
        for record in range(3):
            line = {"record": record, "prompt": f"Prompt {record} {NASTY}", "status": "ended",
                    "answer": f"Answer of {run} {NASTY}", "rules": ["a", "b"],
                    "strict": [True, at > 50], "loose": [True, True]}  # fmt: skip
            file.write(json.dumps(line) + "\n")
    took = place / "logs" / f"{run}.seconds.json"
    took.parent.mkdir(exist_ok=True)
    took.write_text(json.dumps({"finetune": 60.0, "score": 2.5, "generate": 7.5}))


def _training(path, at, lion):
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        for step in range(1, 121):
            line = {"step": step, "loss": 6 + math.exp(-step / (20 + at)), "lr": 1e-4 / step,
                    "grad_norm": 1.0, "grad_ratio": 0.7}  # fmt: skip
            file.write(json.dumps(line | ({"kkt_gap": 3.0 / step} if lion else {})) + "\n")


def _csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
