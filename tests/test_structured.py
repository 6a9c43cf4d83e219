"""Thoughts, calls of tools and tools, from a raw file to what a trainer reads."""

import json

import datasets
import polars as pl
import pytest

import sft_diversity as sd
from sft_diversity.core import corpus, messages, schema
from sft_diversity.core.hashing import text_key
from sft_diversity.exporting import formats
from sft_diversity.rewriting.turns import opened
from sft_diversity.training import samples as training
from tests.ingestion.making import run, write_lines

BIRDS = ["wren", "owl", "tit", "crow", "gull", "finch", "robin", "heron", "stork", "swan"]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


def row(i):
    """A dialogue: every third calls a tool, every third thinks, the others are plain."""
    bird = BIRDS[i % 10]
    asked = {"role": "user", "content": f"Where is the {bird} {i}?"}
    said = {"role": "assistant", "content": f"The {BIRDS[(i + 3) % 10]} is at {i}."}
    if i % 3 == 1:
        said["reasoning_content"] = f"Hm, a {BIRDS[(i + 4) % 10]}."
    if i % 3:
        return {"messages": [asked, said]}
    function = {"name": "look_up", "arguments": {"bird": bird, "n": i} if i % 2 else {"all": True}}
    call = {"id": f"c{i}", "type": "function", "function": function}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    came = {"role": "tool", "content": f"{i}", "name": "look_up", "tool_call_id": f"c{i}"}
    return {"messages": [asked, called, came, said], "tools": TOOLS}


ROWS = [row(i) for i in range(60)]


def said(turns):
    """What turns hold, in our names, without what is null and without white space in JSON."""
    found = []
    for turn in map(messages.from_trainers, turns):
        calls = messages.calls(turn)
        found.append({k: v for k, v in turn.items() if k != "tool_calls"} | {"calls": calls})
    return found


WANTED = sorted(json.dumps(said(one["messages"]), sort_keys=True) for one in ROWS)


def same(rows):
    """Whether rows hold the dialogues that were ingested."""
    return sorted(json.dumps(said(one["messages"]), sort_keys=True) for one in rows) == WANTED


@pytest.fixture(scope="module")
def picked(tmp_path_factory):
    place = tmp_path_factory.mktemp("structured")
    file = write_lines(place / "birds.jsonl", ROWS)
    run(file, place / "corpus")
    cleaned = sd.clean(place / "corpus", out=place / "clean", work=place / "work")
    return sd.select(
        cleaned.folder, size=60, strategy="micro-response", diversity=100,
        out=place / "subset", work=place / "work", no_kind="fill",
    )  # fmt: skip


def test_what_is_structured_goes_through_ingest_clean_and_select(picked):
    table = picked.to_arrow()
    assert table.schema.remove_metadata() == schema.samples_like(table.schema, subset=True)
    assert table["messages"].type == schema.STRUCTURED
    assert same(table.to_pylist())
    held = {bool(one["tools"]) for one in table.to_pylist() if "look_up" in one["response"]}
    assert held == {True}
    for one in table.to_pylist():
        assert one["id"] == text_key(*messages.id_texts(one["messages"], one["tools"]))
        assert one["response"] == messages.component_text(one["messages"], "response")


def test_a_dataset_and_a_frame_hold_it_too(picked):
    made = picked.to_dataset()
    assert same(made)
    with_call = next(one for one in made if one["tools"])
    assert set(with_call["messages"][0]) == {"role", "content"}
    assert with_call["messages"][1]["tool_calls"][0]["function"]["arguments"] in (
        ROWS[with_call["source_row"]]["messages"][1]["tool_calls"][0]["function"]["arguments"],
    )
    assert isinstance(picked.to_polars(), pl.DataFrame)


def test_rows_in_memory_come_back_as_they_were_given(tmp_path):
    found = sd.select(ROWS, size=30, strategy="micro-response", work=tmp_path)
    for one, place in zip(found.to_dataset(), found.rows.tolist(), strict=True):
        assert messages.without_nulls(one)["messages"] == ROWS[place]["messages"]


@pytest.mark.parametrize("file_type", ["parquet", "jsonl"])
@pytest.mark.parametrize("format", ["chat", "messages", "prompt-completion", "sharegpt"])
def test_exports_are_read_by_datasets_and_come_back_with_their_ids(
    picked, tmp_path, format, file_type
):
    sd.export(picked.folder, to=tmp_path / "out", format=format, file_type=file_type)
    loaded = datasets.load_dataset(
        "json" if file_type == "jsonl" else "parquet",
        data_files=str(tmp_path / f"out/data/*.{file_type}"),
        split="train", cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    if format in ("chat", "messages"):
        assert same(loaded)
        assert all(set(one["messages"][0]) == {"role", "content"} for one in loaded)
    if format == "prompt-completion":
        assert same([{"messages": one["prompt"] + one["completion"]} for one in loaded])
    assert {type(one["tools"]) for one in loaded} == {str, type(None)}
    run(tmp_path / "out", tmp_path / "back")
    back = corpus.read(tmp_path / "back")
    if format == "sharegpt":  # which has no place for the numbers of calls
        plain = [one["id"] for one in picked.to_arrow().to_pylist() if not one["tools"]]
        assert len(back) == 60
        assert set(plain) <= set(back["id"].to_pylist())
    else:
        assert set(back["id"].to_pylist()) == set(picked.ids)


def test_an_alpaca_row_holds_neither_calls_nor_thoughts(picked):
    found = formats.survey_rows([picked.to_arrow()], "alpaca")
    reasons = {one["reason"] for one in found.unfit}
    assert (found.fit, reasons) == (20, {"a tool turn", "a thought apart from its answer"})


def test_training_reads_subsets_and_exports_alike(picked, tmp_path):
    sd.export(picked.folder, to=tmp_path / "out", format="messages")
    of_subset, of_export = (
        {id: (said(turns), tools) for id, turns, tools in training.dialogues(source)}
        for source in map(training.find_samples, (picked.folder, tmp_path / "out"))
    )
    assert of_subset == of_export
    assert len(of_subset) == 60


def test_components_are_made_of_turns_and_the_response_is_all_that_is_written():
    call = {"function": {"name": "f", "arguments": {"é": [1, "x"]}}, "type": "function"}
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u1"},
        {"role": "assistant", "content": "", "thinking": "t1", "tool_calls": json.dumps([call])},
        {"role": "tool", "content": "r"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "u2"},
        {"role": "assistant", "content": "a2", "thinking": "t2", "tool_calls": None},
    ]
    text = '{"name": "f", "arguments": {"é": [1, "x"]}}'
    wanted = {
        "instruction": "u1\n\nu2", "thinking": "t1\n\nt2", "answer": "a1\n\na2",
        "tool-call": text, "response": f"t1\n\n{text}\n\na1\n\nt2\n\na2",
    }  # fmt: skip
    assert {name: messages.component_text(turns, name) for name in wanted} == wanted


def test_an_answer_that_calls_tools_is_not_rewritten_and_thoughts_of_others_stay():
    called = {"role": "assistant", "content": "", "tool_calls": "[]x"}
    asked, thought = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
    assert opened([asked, called]).reason == "other-turns"
    kept = opened([asked, thought | {"thinking": "t", "name": None}]).turns
    assert kept == [asked, thought | {"thinking": "t"}]


def test_a_corpus_of_plain_samples_has_components_without_reading_turns(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"instruction": "Hi?", "output": "Hello."}])
    run(file, tmp_path / "out")
    (shard,) = corpus.shards(tmp_path / "out")
    found = corpus.read_file(shard, ["id", "answer", "thinking", "tool-call", "tools"]).to_pylist()
    assert found[0] | {"id": ""} == {
        "id": "", "answer": "Hello.", "thinking": "", "tool-call": "", "tools": None,
    }  # fmt: skip
