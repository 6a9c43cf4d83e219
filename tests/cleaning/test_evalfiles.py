"""Evaluation files: which texts of which rows count, and what is refused."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sft_diversity.cleaning.config import EvalFile
from sft_diversity.cleaning.evalfiles import open_all
from sft_diversity.core.errors import DataError, UsageError


def write(path, rows):
    raw = "\n".join(json.dumps(row) for row in rows).encode()
    if path.suffix == ".gz":
        raw = gzip.compress(raw)
    elif path.suffix == ".zst":
        raw = zstandard.compress(raw)
    path.write_bytes(raw)
    return str(path)


def told(opened):
    return [(t.row, t.field, t.role, t.text) for t in opened.texts]


def test_known_names_are_found_and_an_input_belongs_to_its_instruction(tmp_path):
    rows = [
        {"dataset": "helpful", "instruction": "say", "input": "it", "output": "yes", "n": 1},
        {"question": "why", "answer": "so", "id": "q1"},
        {"turns": ["one", "two"], "category": "writing"},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"choices": [{"turns": ["first", "second"]}]},
        {"instruction": "do", "instances": [{"input": "x", "output": "y"}]},
        {"prompt": " ", "response": None},
    ]
    [opened] = open_all([write(tmp_path / "set.jsonl.gz", rows)])
    assert opened.rows == 8
    assert told(opened) == [
        (0, "instruction+input", "prompt", "say\n\nit"),
        (0, "output", "reference", "yes"),
        (1, "question", "prompt", "why"),
        (1, "answer", "reference", "so"),
        (2, "turns.0", "prompt", "one"),
        (2, "turns.1", "prompt", "two"),
        (3, "messages.0.content", "prompt", "hi"),
        (3, "messages.1.content", "reference", "ho"),
        (4, "conversations.0.value", "prompt", "a"),
        (4, "conversations.1.value", "reference", "b"),
        (5, "choices.0.turns.0", "reference", "first"),
        (5, "choices.0.turns.1", "reference", "second"),
        (6, "instruction", "prompt", "do"),
        (6, "instances.0.input", "prompt", "x"),
        (6, "instances.0.output", "reference", "y"),
    ]


def test_named_paths_take_the_place_of_known_names(tmp_path):
    rows = [{"ask": {"it": "q"}, "gold": ["a", "b"], "prompt": "not this"}]
    path = write(tmp_path / "set.jsonl.zst", rows)
    [opened] = open_all([EvalFile(path=path, prompts=["ask.it"], references=["gold"])])
    assert told(opened) == [
        (0, "ask.it", "prompt", "q"),
        (0, "gold.0", "reference", "a"),
        (0, "gold.1", "reference", "b"),
    ]


def test_a_folder_is_all_its_files_and_equal_names_are_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"question": ["q"]}), tmp_path / name / "set.parquet")
    (tmp_path / "one" / "more.json").write_text('\ufeff[{"prompt": "p"}]')
    (tmp_path / "one" / "README.md").write_text("not a set")
    labels = [o.label for o in open_all([str(tmp_path / "two"), str(tmp_path / "one")])]
    assert labels == ["more.json", "one/set.parquet", "two/set.parquet"]


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("a.jsonl", b'{"prompt": "x"', "no JSON list or JSON lines"),
        ("a.json.gz", b"not gzip", "no JSON list or JSON lines"),
        ("a.jsonl.zst", b"not zstd", "no JSON list or JSON lines"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path, name, raw, said):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=f"clean: {name}:? {said}"):
        open_all([str(tmp_path / name)])


def test_what_cannot_be_used_is_a_usage_error_with_a_way_out(tmp_path):
    with pytest.raises(UsageError, match="not there"):
        open_all([str(tmp_path / "none.json")])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="none of"):
        open_all([str(tmp_path / "a.txt")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no file"):
        open_all([str(tmp_path / "empty")])
    path = write(tmp_path / "odd.jsonl", [{"frage": "was"}])
    with pytest.raises(UsageError, match=r"its keys are \['frage'\]"):
        open_all([path])
