"""Each known format becomes the messages it stands for."""

import json

import pyarrow.parquet as pq
import pytest

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import text_key
from sft_diversity.ingestion import formats, tools
from tests.ingestion.making import quarantine, row, run, samples, write_lines

CHAT = [formats.Turn("user", "Hi?"), formats.Turn("assistant", "Hello.")]

SINGLE = [
    ("alpaca", {"instruction": "Hi?", "input": "", "output": "Hello."}),
    ("alpaca", {"instruction": "Hi?", "output": "Hello."}),
    ("alpaca", {"instruction": "Hi?", "input": None, "output": "Hello."}),
    ("gpteacher", {"instruction": "Hi?", "input": " ", "response": "Hello."}),
    ("gpteacher", {"instruction": "Hi?", "response": "Hello."}),
    ("dolly", {"instruction": "Hi?", "context": "", "response": "Hello.", "category": "x"}),
    ("question-answer", {"question": "Hi?", "answer": "Hello."}),
    ("prompt-completion", {"prompt": "Hi?", "completion": "Hello."}),
    ("prompt-completion", {"prompt": "Hi?", "response": "Hello."}),
    (
        "prompt-completion",
        {
            "prompt": [{"role": "user", "content": "Hi?"}],
            "completion": [{"role": "assistant", "content": "Hello."}],
        },
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]},
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "User", "value": "Hi?"},
                {"from": "Assistant", "value": "Hello."},
            ]
        },
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": "Hello."},
            ]
        },
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi?"}]},
                {"role": "assistant", "content": "Hello."},
            ],
            "prompt": "Hi?",
        },
    ),
]


@pytest.mark.parametrize(("name", "raw"), SINGLE)
def test_a_row_is_recognised_and_read(name, raw):
    found = formats.recognised(raw)
    assert found is not None
    assert found[0] == name
    assert found[1](raw).turns == CHAT
    assert formats.named(name, raw)(raw).turns == CHAT


def test_input_follows_the_instruction_after_a_blank_line(tmp_path):
    rows = [
        {"instruction": "Sum.", "input": "1 2", "output": "3"},
        {"instruction": "", "input": "What?", "output": "That."},
    ]
    run(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert [sample["instruction"] for sample in samples(tmp_path / "out")] == [
        "Sum.\n\n1 2",
        "What?",
    ]


HISTORY = {
    "system": "Be brief.",
    "instruction": "And then?",
    "input": "",
    "output": "Nothing.",
    "history": [["What happened?", "This."], ["Why?", "Because."]],
}


def test_all_turns_are_kept_and_components_joined(tmp_path):
    run(write_lines(tmp_path / "a.jsonl", [HISTORY]), tmp_path / "out")
    (sample,) = samples(tmp_path / "out")
    assert [turn["role"] for turn in sample["messages"]] == ["system", *["user", "assistant"] * 3]
    assert sample["instruction"] == "What happened?\n\nWhy?\n\nAnd then?"
    assert sample["response"] == "This.\n\nBecause.\n\nNothing."


@pytest.mark.parametrize("more", [{}, {"input": ""}, {"system": "Be brief."}])
def test_a_history_or_system_turn_is_read_whatever_columns_are_beside_it(tmp_path, more):
    given = {"instruction": "And then?", "output": "That.", "history": [["What?", "This."]]} | more
    run(write_lines(tmp_path / "a.jsonl", [given]), tmp_path / "out")
    (sample,) = samples(tmp_path / "out")
    said = ["Be brief."] * ("system" in more) + ["What?", "This.", "And then?", "That."]
    assert [turn["content"] for turn in sample["messages"]] == said


def test_the_first_exchange_of_a_history_row_is_its_last(tmp_path):
    run(write_lines(tmp_path / "a.jsonl", [HISTORY]), tmp_path / "out", turns="first")
    (sample,) = samples(tmp_path / "out")
    assert [turn["content"] for turn in sample["messages"]] == [
        "Be brief.",
        "And then?",
        "Nothing.",
    ]


TOOLS = [
    {"from": "human", "value": "Weather?"},
    {"from": "function_call", "value": '{"name": "weather"}'},
    {"from": "observation", "value": '{"sky": "clear"}'},
    {"from": "gpt", "value": "Clear."},
    {"from": "human", "value": "Thanks."},
    {"from": "gpt", "value": "Welcome."},
]


def test_tool_turns_keep_their_place_and_calls_are_the_assistants(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"conversations": TOOLS, "tools": "[weather]"}])
    run(file, tmp_path / "out")
    (sample,) = samples(tmp_path / "out")
    roles = [turn["role"] for turn in sample["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    call = '{"name": "weather", "arguments": {}}'
    assert sample["response"] == f"{call}\n\nClear.\n\nWelcome."
    assert "clear" not in sample["instruction"] + sample["response"].replace("Clear.", "")
    assert json.loads(sample["meta"]) == {"tools": "[weather]"}


def test_the_first_exchange_is_a_human_turn_that_an_answer_follows_directly(tmp_path):
    rows = [{"conversations": TOOLS}, {"conversations": TOOLS[:4]}]
    manifest = run(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out", turns="first")
    (sample,) = samples(tmp_path / "out")
    assert (sample["instruction"], sample["response"]) == ("Thanks.", "Welcome.")
    assert manifest["rows"]["dropped"] == {"empty": 1}


WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
CALLED = {"type": "function", "function": {"name": "weather", "arguments": {"at": "Rome", "n": 1}}}
ASKED, CLEAR = {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Clear."}


def only(tmp_path, row):
    """Ingest one row; return its sample."""
    run(write_lines(tmp_path / "a.jsonl", [row]), tmp_path / "out")
    (sample,) = samples(tmp_path / "out")
    return sample


def test_openai_calls_results_and_tools_keep_their_structure(tmp_path):
    call = {"id": "c1", **CALLED}
    given = json.loads(json.dumps(call))
    given["function"]["arguments"] = json.dumps({"at": "Rome", "n": 1})
    result = {"role": "tool", "content": "clear", "tool_call_id": "c1", "name": "weather"}
    turns = [ASKED, {"role": "assistant", "content": None, "tool_calls": [given]}, result, CLEAR]
    tools = [{"type": "function", "function": WEATHER}]
    sample = only(tmp_path, {"messages": turns, "tools": tools, "kept": 1})
    assert json.loads(sample["tools"]) == tools
    assert json.loads(sample["meta"]) == {"kept": 1}
    called, came = sample["messages"][1:3]
    assert json.loads(called["tool_calls"]) == [call]
    assert (called["role"], called["content"], called["thinking"]) == ("assistant", "", None)
    assert {name: came[name] for name in result} == result
    said = '{"name": "weather", "arguments": {"at": "Rome", "n": 1}}'
    assert (sample["instruction"], sample["response"]) == ("Weather?", f"{said}\n\nClear.")


@pytest.mark.parametrize(
    "said",
    [
        {"role": "assistant", "content": "", "tool_calls": [CALLED]},
        {"role": "assistant", "tool_calls": json.dumps([CALLED])},
        {"role": "assistant", "content": None, "function_call": CALLED["function"]},
        {"from": "function_call", "value": json.dumps(CALLED["function"])},
        {"from": "tool_call", "value": json.dumps([CALLED["function"]])},
        {"from": "gpt", "value": f"<tool_call>\n{json.dumps(CALLED['function'])}\n</tool_call>\n"},
    ],
)
def test_every_form_of_a_call_is_one(tmp_path, said):
    turns = [{"from": "human", "value": "Weather?"}, said, {"from": "tool", "value": "clear"}]
    sample = only(tmp_path, {"conversations": turns, "tools": json.dumps([WEATHER])})
    assert json.loads(sample["messages"][1]["tool_calls"]) == [CALLED]
    assert sample["messages"][1]["content"] == ""
    assert json.loads(sample["tools"]) == [{"type": "function", "function": WEATHER}]


def test_calls_that_the_system_turn_asks_for_in_marks_stay_the_text_they_are(tmp_path):
    said = f"<tool_call>{json.dumps(CALLED['function'])}</tool_call>"
    turns = [
        {"role": "system", "content": "Answer in <tool_call> marks."},
        ASKED,
        {"role": "assistant", "content": said},
    ]
    assert only(tmp_path, {"messages": turns})["messages"][2] == turns[2]


@pytest.mark.parametrize("field", ["thinking", "reasoning_content", "reasoning", None])
def test_a_thought_is_kept_apart_from_the_answer(tmp_path, field):
    said = {"role": "assistant", "content": "Clear."} | ({field: " Look up.\n"} if field else {})
    if field is None:
        said["content"] = "<think>\nLook up.\n</think>\n\nClear."
    sample = only(tmp_path, {"messages": [ASKED, said]})
    assert sample["messages"][1]["thinking"] == "Look up."
    assert sample["messages"][1]["content"] == "Clear."
    assert sample["response"] == "Look up.\n\nClear."


def test_an_alpaca_answer_with_a_thought_is_opened_and_an_empty_thought_is_none(tmp_path):
    rows = [
        {"instruction": "Weather?", "output": "<think>\nLook.\n</think>\n\nClear."},
        {"instruction": "Rain?", "output": "<think>\n\n</think>\n\nNo <think>x</think>."},
    ]
    run(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out")
    found = {s["instruction"]: s["messages"][1] for s in samples(tmp_path / "out")}
    assert (found["Weather?"]["thinking"], found["Weather?"]["content"]) == ("Look.", "Clear.")
    assert (found["Rain?"]["thinking"], found["Rain?"]["content"]) == (None, "No <think>x</think>.")


def test_ids_of_plain_samples_do_not_depend_on_structured_neighbours(tmp_path):
    plain = {"messages": [ASKED, CLEAR]}
    thinking = {"messages": [ASKED, CLEAR | {"thinking": "Look up."}]}
    ids = []
    for rows in ([plain], [plain, thinking]):
        file = write_lines(tmp_path / "a.jsonl", rows)
        run(file, tmp_path / f"out{len(rows)}")
        ids.append({s["response"]: s["id"] for s in samples(tmp_path / f"out{len(rows)}")})
    assert (
        ids[0]["Clear."] == ids[1]["Clear."] == text_key("user", "Weather?", "assistant", "Clear.")
    )
    assert len(set(ids[1].values())) == 2
    assert "tools" not in pq.read_schema(next((tmp_path / "out1/samples").iterdir())).names


def test_calls_that_differ_in_their_numbers_alone_are_duplicates(tmp_path):
    rows = [
        {"messages": [ASKED, {"role": "assistant", "tool_calls": [CALLED | {"id": number}]}]}
        for number in ("c1", "c2")
    ]
    manifest = run(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert manifest["rows"]["dropped"] == {"duplicate": 1}


def test_a_call_without_a_name_is_a_bad_row(tmp_path):
    bad = {"messages": [ASKED, {"role": "assistant", "tool_calls": [{"arguments": {}}]}]}
    file = write_lines(tmp_path / "a.jsonl", [{"messages": [ASKED, CLEAR]}, bad])
    run(file, tmp_path / "out")
    assert [entry["detail"] for entry in quarantine(tmp_path / "out")] == [
        "a tool call names no function"
    ]


def test_marks_of_a_call_take_time_in_proportion_to_the_text():
    hostile = "<tool_call>{}</tool_call>" * 20_000 + "x"
    assert tools.marked_calls(hostile) == (hostile, None)
    assert tools.marked_calls("</tool_call>" * 50_000)[1] is None
    assert tools.thought_in("<think>" * 50_000)[1] is None


BAD_TURNS = [
    ("unknown-role", [{"from": "narrator", "value": "x"}]),
    ("bad-turns", ["just text"]),
    ("bad-turns", "just text"),
    ("null-text", None),
    ("null-text", [{"from": "human", "value": None}]),
    ("not-text", [{"from": "human", "value": 3}]),
    ("not-text", [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]),
]


@pytest.mark.parametrize(("reason", "turns"), BAD_TURNS)
def test_turns_that_cannot_be_read_go_to_quarantine(tmp_path, reason, turns):
    good = {
        "conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
    }
    file = write_lines(tmp_path / "a.jsonl", [good, {"conversations": turns}])
    run(file, tmp_path / "out")
    assert [entry["reason"] for entry in quarantine(tmp_path / "out")] == [reason]


MAPPED = {"name": "m", "format": "mapping"}


def test_a_mapping_fills_templates_and_keeps_the_rest(tmp_path):
    rows = [{"q": {"text": "Two", "tags": ["a", "b"]}, "n": 2, "why": "{since}", "id": 7}]
    path = str(write_lines(tmp_path / "a.jsonl", rows))
    mapping = {
        "instruction": "{q.text} {q.tags.1}?",
        "response": "{why} {{n}} = {n}",
        "system": "{none}",
    }
    run([], tmp_path / "out", sources=[MAPPED | {"path": path, "mapping": mapping}])
    (sample,) = samples(tmp_path / "out")
    assert (sample["instruction"], sample["response"]) == ("Two b?", "{since} {n} = 2")
    assert json.loads(sample["meta"]) == {"id": 7}


def test_a_mapping_names_the_turns_of_a_dialogue(tmp_path):
    rows = [{"talk": [{"who": "caller", "what": "Hi?"}, {"who": "agent", "what": "Hello."}]}]
    path = str(write_lines(tmp_path / "a.jsonl", rows))
    roles = {"caller": "user", "agent": "assistant"}
    mapping = {"messages": "talk", "role": "who", "content": "what", "roles": roles}
    run([], tmp_path / "out", sources=[MAPPED | {"path": path, "mapping": mapping}])
    assert samples(tmp_path / "out")[0]["response"] == "Hello."


def test_a_template_reaches_data_only_and_a_stray_brace_is_refused(tmp_path):
    path = str(write_lines(tmp_path / "a.jsonl", [row(1)]))
    mapping = {"instruction": "{instruction.__class__}", "response": "{output}"}
    with pytest.raises(DataError, match="no sample is left"):
        run([], tmp_path / "out", sources=[MAPPED | {"path": path, "mapping": mapping}])
    mapping["instruction"] = "{instruction"
    with pytest.raises(UsageError, match=r"a single \{"):
        run([], tmp_path / "out2", sources=[MAPPED | {"path": path, "mapping": mapping}])


def test_replacements_mend_texts_and_only_those_at_the_end_where_asked(tmp_path):
    rows = [{"prompt": "a\\nb<e> c", "completion": "d<e>"}, {"prompt": "x", "completion": "<e>"}]
    source = {
        "name": "r",
        "path": str(write_lines(tmp_path / "a.jsonl", rows)),
        "replace": [{"find": "<e>", "where": "end"}, {"find": "\\n", "replace": "\n"}],
    }
    manifest = run([], tmp_path / "out", sources=[source])
    (sample,) = samples(tmp_path / "out")
    assert (sample["instruction"], sample["response"]) == ("a\nb<e> c", "d")
    assert manifest["rows"]["dropped"] == {"empty": 1}


def test_a_headerless_unquoted_table_is_mapped(tmp_path):
    (tmp_path / "a.tsv").write_text('Is "it"?\\nyes or no\tyes\tIt is "it\n')
    source = MAPPED | {
        "path": str(tmp_path / "a.tsv"),
        "table": {"header": False, "quoting": "none", "columns": ["prompt", "answer", "why"]},
        "replace": [{"find": "\\n", "replace": "\n"}],
        "mapping": {"instruction": "{prompt}", "response": "{why}\nThe answer is {answer}"},
    }
    run([], tmp_path / "out", sources=[source])
    (sample,) = samples(tmp_path / "out")
    assert sample["instruction"] == 'Is "it"?\nyes or no'
    assert sample["response"] == 'It is "it\nThe answer is yes'
