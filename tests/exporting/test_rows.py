from __future__ import annotations

import pyarrow as pa
import pytest

from sft_diversity.core import schema
from sft_diversity.core.errors import DataError
from sft_diversity.exporting.formats import EXPORTED, exported
from tests.exporting import fixtures


def turns(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in messages]


def test_the_completion_is_the_last_assistant_turn_and_the_prompt_all_before():
    rows = exported(fixtures.samples()).to_pylist()
    for row, dialogue in zip(rows, fixtures.DIALOGUES, strict=True):
        assert turns(row["messages"]) == dialogue
        joined = turns(row["prompt"]) + turns(row["completion"])
        assert joined == dialogue[: len(joined)]
        assert [role for role, _ in turns(row["completion"])] == ["assistant"]
        assert all(role != "assistant" for role, _ in dialogue[len(joined) :])


def test_columns_are_declared_and_keep_the_order_of_rows():
    samples = fixtures.samples()
    rows = exported(samples)
    assert rows.schema.equals(EXPORTED)
    assert rows["id"].to_pylist() == samples["id"].to_pylist()


@pytest.mark.parametrize(
    ("dialogue", "said"),
    [
        ([("user", "Hello?")], "no assistant turn"),
        ([("assistant", "Hello!")], "nothing precedes"),
        ([("user", None), ("assistant", "Hello!")], "no role or no text"),
        ([], "no assistant turn"),
    ],
)
def test_a_row_no_trainer_could_use_is_named(dialogue, said):
    table = fixtures.samples()
    broken = [[{"role": role, "content": text} for role, text in dialogue]]
    rest = table["messages"].to_pylist()[1:]
    messages = pa.array(broken + rest, schema.MESSAGES)
    table = table.set_column(table.schema.names.index("messages"), "messages", messages)
    with pytest.raises(DataError, match=f"sample 0{{32}}: .*{said}"):
        exported(table)
