from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import chat
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.finetune import samples
from tests import tiny
from tests.finetune.conftest import dialogue, write_subset


@pytest.fixture(scope="module")
def tokenizer():
    made = tiny.tokenizer()
    chat.ensure_template(made)
    return made


@pytest.fixture
def mixed(tmp_path):
    """Return a subset of a short sample, a long answer and a long prompt."""
    talks = [
        dialogue(1),
        [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "so " * 200}],
        [{"role": "user", "content": "so " * 200}, {"role": "assistant", "content": "Yes."}],
    ]
    return samples.find(write_subset(tmp_path / "mixed", talks))


def test_keep_names_what_would_train_nothing(mixed, tokenizer):
    with pytest.raises(DataError, match=r"1 of 3 samples.*the first is 0+2;.*trim.*drop"):
        samples.render(mixed, tokenizer, 100, "keep")


def test_trim_keeps_starts_and_leaves_out_what_has_no_label(mixed, tokenizer):
    got = samples.render(mixed, tokenizer, 100, "trim")
    assert (got.rows, got.truncated, got.dropped) == (3, 2, 1)
    assert got.lengths[1] == 100
    assert (got.response_tokens > 0).all()


def test_drop_leaves_out_all_that_is_too_long(mixed, tokenizer):
    got = samples.render(mixed, tokenizer, 100, "drop")
    assert (got.rows, got.truncated, got.dropped) == (3, 2, 2)


def test_error_names_the_first_that_is_too_long(mixed, tokenizer):
    with pytest.raises(DataError, match=r"sample 0+1 has .* max_length is 100"):
        samples.render(mixed, tokenizer, 100, "error")


@pytest.mark.parametrize("mode", ["keep", "trim", "drop"])
def test_lost_response_tokens_are_counted(mixed, tokenizer, mode):
    whole = samples.render(mixed, tokenizer, 10_000, "error")
    assert (whole.lost_labels, whole.lost_share) == (0, 0.0)
    if mode == "keep":
        long_prompt = len(whole.input_ids[2]) - 1  # all but the last label of the long prompt
        got = samples.render(mixed, tokenizer, long_prompt, mode)
    else:
        got = samples.render(mixed, tokenizer, 100, mode)
    everything, kept = whole.response_tokens.sum(), got.response_tokens.sum()
    assert kept + got.lost_labels == everything
    assert got.lost_share == pytest.approx(1 - kept / everything)
    assert got.lost_labels > 0


def test_a_whole_sample_without_labels_is_named(mixed):
    """A template may leave nothing to an empty answer; it would be a silent zero."""
    made = tiny.tokenizer()
    made.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}"
        "{% endif %}\n{% endfor %}"
    )
    talks = [
        dialogue(1),
        [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": ""}],
    ]
    source = samples.find(write_subset(mixed.files[0].parents[2] / "empty", talks))
    with pytest.raises(DataError, match=r"sample 0+1 has no token to train on.*remove it"):
        samples.render(source, made, 100, "trim")


def test_nothing_left_is_an_error(mixed, tokenizer):
    with pytest.raises(DataError, match="none of 3 samples is left"):
        samples.render(mixed, tokenizer, 5, "trim")


def test_what_fits_is_kept_whole(mixed, tokenizer):
    got = samples.render(mixed, tokenizer, 10_000, "error")
    assert got.truncated == 0
    assert tokenizer.decode(got.input_ids[1]).endswith("so <|endoftext|>")


def test_a_subset_is_read_in_pick_order(tmp_path, tokenizer):
    out = write_subset(tmp_path / "s", [dialogue(i) for i in range(5)])
    table = pq.read_table(out / "samples" / "all.parquet")
    (out / "samples" / "all.parquet").unlink()
    pq.write_table(table.take([3, 1, 4]), out / "samples" / "0.parquet")
    pq.write_table(table.take([0, 2]), out / "samples" / "1.parquet")
    got = samples.render(samples.find(out), tokenizer, 512, "keep")
    expected = [chat.render(dialogue(i), tokenizer)[0] for i in range(5)]
    assert [ids.tolist() for ids in got.input_ids] == expected


@pytest.mark.parametrize("conversational", [True, False])
def test_prompt_and_completion_are_read_too(tmp_path, tokenizer, conversational):
    user, assistant = dialogue(2)
    row: dict[str, Any] = {"prompt": [user], "completion": [assistant]}
    if not conversational:
        row = {"prompt": user["content"], "completion": assistant["content"]}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "data" / "train.parquet")
    got = samples.render(samples.find(tmp_path), tokenizer, 512, "keep")
    assert got.input_ids[0].tolist() == chat.render(dialogue(2), tokenizer)[0]


def test_equal_folders_have_equal_keys_wherever_they_lie(tmp_path):
    one, two = (write_subset(tmp_path / name, [dialogue(1)]) for name in "ab")
    other = write_subset(tmp_path / "c", [dialogue(2)])
    assert samples.find(one).key == samples.find(two).key != samples.find(other).key


def test_folders_without_samples_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no Parquet files"):
        samples.find(tmp_path)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="neither `messages` nor"):
        list(samples._dialogues(samples.find(tmp_path)))
