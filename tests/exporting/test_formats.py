from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.core import folder
from sft_diversity.core.errors import DataError
from sft_diversity.exporting import formats, stage
from sft_diversity.exporting.formats import exported
from sft_diversity.ingestion.config import IngestConfig
from tests import making
from tests.exporting import fixtures

NAMES = list(formats.FORMATS)
FILE_TYPES = ["parquet", "jsonl"]
SAYINGS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
ANY_TURNS = st.lists(st.tuples(st.sampled_from(list(formats.SHAREGPT)), SAYINGS), max_size=7)
EXCHANGES = st.builds(
    lambda system, said: [*system, *((who, text) for pair in said for who, text in pair)],
    st.lists(st.tuples(st.just("system"), SAYINGS), max_size=1),
    st.lists(
        st.tuples(st.tuples(st.just("user"), SAYINGS), st.tuples(st.just("assistant"), SAYINGS)),
        min_size=1, max_size=3,
    ),
)  # fmt: skip


def export(source: Path, out: Path, **options: Any) -> dict[str, Any]:
    return making.export(source, str(out), stage.ExportConfig(**options))


def ingest(path: Path, out: Path) -> list[dict[str, Any]]:
    making.ingest([path], out, IngestConfig())
    files = sorted((out / "samples").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pylist()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A corpus that ingest itself made of every kind of dialogue."""
    root = tmp_path_factory.mktemp("formats")
    with (root / "rows.jsonl").open("wb") as out:
        for turns in fixtures.DIALOGUES:
            row = {"messages": [{"role": role, "content": text} for role, text in turns]}
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    ingest(root / "rows.jsonl", root / "corpus")
    return root / "corpus"


def samples(corpus: Path) -> list[dict[str, Any]]:
    files = sorted((corpus / "samples").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pylist()


@pytest.mark.parametrize("file_type", FILE_TYPES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_ingested_again_is_the_same_samples(corpus, tmp_path, name, file_type):
    manifest = export(
        corpus, tmp_path / "out", format=name, file_type=file_type, leave_out_unfit=True
    )
    again = ingest(tmp_path / "out", tmp_path / "again")
    left = [json.loads(line)["id"] for line in _lines(tmp_path / "out/left_out.jsonl")]
    wanted = {row["id"]: row["messages"] for row in samples(corpus) if row["id"] not in left}
    assert {row["id"]: row["messages"] for row in again} == wanted
    assert manifest["rows"]["dropped"] == ({"unfit": len(left)} if left else {})
    unfit = {"prompt-completion": 1, "alpaca": 3 if file_type == "jsonl" else 2}
    assert len(left) == unfit.get(name, 0)
    assert folder.verify(tmp_path / "out")["faults"] == []


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").split("\n")[:-1] if path.exists() else []


@pytest.mark.parametrize("name", NAMES)
@given(dialogues=st.lists(ANY_TURNS | EXCHANGES, min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_a_row_that_fits_reads_back_turn_by_turn(name, dialogues):
    """Our own reader of the format gives the dialogue, or the survey says why it could not."""
    from sft_diversity.ingestion.formats import named

    table = fixtures.samples(dialogues)
    unfit = {one["id"] for one in formats.survey_rows([table], name).unfit}
    kept = table.filter(pa.array([one not in unfit for one in table["id"].to_pylist()], pa.bool_()))
    rows = formats.formatted(exported(kept), name)
    reader = named("messages" if name == "chat" else name, rows.column_names)
    for row, sample in zip(rows.to_pylist(), kept.to_pylist(), strict=True):
        turns = [(turn["role"], turn["content"]) for turn in sample["messages"]]
        read = reader(orjson.loads(orjson.dumps(row))).turns
        assert [turn[:2] for turn in read] == turns


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([("user", "a"), ("tool", "b"), ("assistant", "c")], "a tool turn"),
        ([("system", " "), ("user", "a"), ("assistant", "b")], "a blank system turn"),
        ([("user", "a"), ("system", "s"), ("assistant", "b")], "not the first"),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], "after the last answer"),
        ([("user", "a"), ("user", "b"), ("assistant", "c")], "one speaker in a row"),
        ([("system", "s"), ("assistant", "b")], "one speaker in a row"),
        ([("user", "a")], "no assistant turn"),
    ],
)
def test_alpaca_says_what_it_cannot_hold(turns, said):
    dialogue = [{"role": role, "content": text} for role, text in turns]
    assert said in str(formats.fault(dialogue, "alpaca"))


def test_alpaca_holds_system_and_earlier_turns():
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = formats.formatted(exported(fixtures.samples([turns])), "alpaca").to_pylist()[0]
    assert row == {
        "id": f"{0:032x}", "source": "a", "instruction": "c", "input": "", "output": "d",
        "system": "s", "history": [["a", "b"]], "meta": "{}",
    }  # fmt: skip


def test_rows_that_do_not_fit_are_refused_with_count_first_and_way_out(corpus, tmp_path):
    with pytest.raises(DataError, match=r"2 of 6 samples do not fit format alpaca") as fault:
        export(corpus, tmp_path / "out", format="alpaca")
    unfit = [row["id"] for row in samples(corpus) if formats.fault(row["messages"], "alpaca")]
    assert f"the first is {unfit[0]} (" in str(fault.value)
    assert "--format messages" in str(fault.value)
    assert "--leave-out-unfit" in str(fault.value)
    assert not (tmp_path / "out").exists()


def test_nothing_that_fits_is_an_error_too(tmp_path):
    tools = [("user", "a"), ("assistant", "b"), ("tool", "c"), ("assistant", "d")]
    source = fixtures.corpus(tmp_path / "corpus", fixtures.samples([tools]))
    with pytest.raises(DataError, match="no sample fits format alpaca"):
        export(source, tmp_path / "out", format="alpaca", leave_out_unfit=True)


def test_shards_hold_rows_however_many_are_left_out(tmp_path):
    long = [[("user", f"{i} " + "x" * 99_000), ("assistant", "y")] for i in range(4)]
    tools = [[*turns, ("tool", "z"), ("assistant", "y")] for turns in long * 10]
    source = fixtures.subset(tmp_path / "subset", fixtures.samples(long + tools))
    manifest = export(
        source, tmp_path / "out", format="alpaca", leave_out_unfit=True, max_shard_mb=1
    )
    assert manifest["rows"]["kept"] == 4
    for path in (tmp_path / "out/data").iterdir():
        assert pq.read_metadata(path).num_rows > 0


def test_jsonl_is_one_object_a_line_and_the_same_bytes_again(corpus, tmp_path):
    for out in ("one", "two"):
        export(corpus, tmp_path / out, format="messages", file_type="jsonl")
    name = "data/train-00000-of-00001.jsonl"
    raw = (tmp_path / "one" / name).read_bytes()
    assert raw == (tmp_path / "two" / name).read_bytes()
    rows = [json.loads(line) for line in raw.decode("utf-8").split("\n")[:-1]]
    assert [list(row) for row in rows] == [["id", "source", "messages", "meta"]] * 6
    assert [row["messages"] for row in rows] == [row["messages"] for row in samples(corpus)]
    assert "日本 🗾 \u2028" in raw.decode("utf-8")  # not escaped


def test_another_format_is_another_export(corpus, tmp_path):
    export(corpus, tmp_path / "out", format="messages")
    manifest = export(corpus, tmp_path / "out", format="sharegpt", file_type="jsonl")
    assert [p.name for p in (tmp_path / "out/data").iterdir()] == ["train-00000-of-00001.jsonl"]
    assert (manifest["result"]["format"], manifest["result"]["not_alternating"]) == ("sharegpt", 1)
