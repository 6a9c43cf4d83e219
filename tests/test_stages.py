"""What the store promises (tests/core/test_store*.py), of every kind of stage that there is."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, stopping
from sft_diversity.core.errors import Interrupted, UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.stage import Job
from tests.making import left_behind, outputs, store

MESO = {"strategy": "meso-instruction"}
#: Stage and options by name; what is there is added where its key is.
STAGES = {
    "tokens": ("tokens", {"component": "response", "tokenizer": None}),
    "words": ("words", {"component": "instruction"}),
    "embed": ("embed", {"encoder": None}),
    "micro": ("index", {"strategy": "micro-response", "micro": {"band": "2:40"},
                        "tokenizer": None}),
    "meso": ("index", MESO | {"meso": {"min_samples": 2, "merge": "none"}}),
    "merged": ("index", MESO | {"meso": {"min_samples": 2, "threshold": 0.9}, "encoder": None}),
    "macro": ("index", {"strategy": "macro-response", "macro": {"k": 4}, "encoder": None}),
    "quality": ("quality", {"model": None, "max_length": 64}),
    "ingest": ("ingest", {"sources": None}),
    "clean": ("clean", {"cosine": 0.99, "component": "response", "encoder": None}),
}  # fmt: skip
WHOLE = {"ingest", "clean"}  # not made by parts
PARTS = 3


@pytest.fixture(scope="module")
def asked(topical, tokenizer, tiny, llama, tmp_path_factory):
    """Return what to ask the store for, by name."""
    raw = tmp_path_factory.mktemp("raw")
    for number, table in enumerate(corpora.batches(topical, corpora.COMPONENTS)):
        rows = table.rename_columns(["instruction", "output"]).to_pylist()
        (raw / f"{number:02}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    there = {
        "tokenizer": str(tokenizer), "encoder": str(tiny), "model": str(llama),
        "sources": [{"name": "made", "path": str(raw)}],
    }  # fmt: skip
    return {
        name: (
            stage,
            options | {key: there[key] for key in there if key in options},
            None if stage == "ingest" else topical,
        )
        for name, (stage, options) in STAGES.items()
    }


@pytest.fixture(scope="module", params=STAGES)
def kind(request, asked, tmp_path_factory):
    """A stage's name, what to ask for, and a work folder in which it was made at once."""
    work = tmp_path_factory.mktemp(request.param) / "work"
    store(work).get(*asked[request.param])
    return request.param, asked[request.param], work


def test_a_second_call_finds_it_and_the_plan_says_so(kind):
    _, want, work = kind
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    dry, said = store(work, dry=True), []
    planned = dry.get(*want)
    made = store(work, say=said.append).get(*want)
    assert (planned.path, planned.key, planned.there) == (made.path, made.key, True)
    assert {step["state"] for step in dry.plan} == {"cached"}
    assert "is up to date" in said[0]
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == before


def test_it_verifies_and_leaves_nothing_behind(kind):
    _, _, work = kind
    for place in outputs(work):
        assert folder.verify(work / place)["faults"] == []
    assert left_behind(work) == []


def test_a_plan_names_what_is_made_and_touches_nothing(kind, tmp_path):
    name, want, work = kind
    dry = store(tmp_path / "work", dry=True)
    dry.get(*want)
    assert not (tmp_path / "work").exists()
    steps = [step["out"] for step in dry.plan]
    assert sorted(steps) == sorted(str(tmp_path / "work" / place) for place in outputs(work))
    assert steps[-1].startswith(str(tmp_path / "work" / want[0]))
    for step in dry.plan:
        assert step["state"] == "to do"
        assert step["rows"] > 0 if name == "ingest" else step["rows"] == 48
        assert step["seconds"] >= 0
        assert step["bytes"] > 0


def whole_only(todo):
    """Let no unit be left to make."""

    def nothing(job, *what):
        assert job.left() == [], "a unit that a part has made is made again"
        return todo(job, *what)

    return nothing


def test_made_by_parts_it_is_the_same(kind, tmp_path, monkeypatch):
    name, want, work = kind
    if name in WHOLE:
        pytest.skip("one process makes it")
    parts = [Part(i + 1, PARTS) for i in range(PARTS)]
    random.Random(name).shuffle(parts)
    rows = 0
    for part in parts:
        dry = store(tmp_path, dry=True)
        planned = dry.get_part(*want, part)
        assert [step["state"] for step in dry.plan] == ["to do"]
        made = store(tmp_path).get_part(*want, part)
        assert made.path == planned.path
        rows += folder.read_manifest(made.path)["rows"]["kept"]
        assert folder.verify(made.path)["faults"] == []
    assert rows == 48
    monkeypatch.setattr(Job, "todo", whole_only(Job.todo))
    store(tmp_path).get(*want)
    assert outputs(tmp_path) == outputs(work)
    assert left_behind(tmp_path) == []


def test_stopped_again_and_again_it_is_the_same(kind, tmp_path, monkeypatch):
    _, want, work = kind
    safe = stopping.safe_point
    stops = 0
    for budget in itertools.count():
        left = itertools.count(2**budget, -1)

        def point(stage, left=left):
            if next(left) <= 0:
                raise Interrupted(f"{stage}: stopped")
            safe(stage)

        monkeypatch.setattr(stopping, "safe_point", point)
        try:
            store(tmp_path).get(*want)
            break
        except Interrupted:
            stops += 1
    assert stops > 0, "it was never stopped; the test shows nothing"
    assert outputs(tmp_path) == outputs(work)
    assert left_behind(tmp_path) == []


def test_it_refuses_what_it_lacks_before_anything_is_made(kind, tmp_path):
    _, (stage, options, corpus), _ = kind
    lacking = {key: "no/such/folder" for key in ("tokenizer", "encoder", "model") if key in options}
    for wrong in (store(tmp_path / "work"), store(tmp_path / "work", dry=True)):
        for key, missing in lacking.items():
            with pytest.raises(UsageError, match="no/such/folder"):
                wrong.get(stage, options | {key: missing}, corpus)
        with pytest.raises(UsageError, match="unknown key `compnent`"):
            wrong.get(stage, options | {"compnent": "x"}, corpus)
    assert not (tmp_path / "work").exists()
