from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import chat, drafts, folder, machine
from sft_diversity.core.errors import BadRowsError, DataError, UsageError
from sft_diversity.training import rendering, samples
from tests import tiny
from tests.training.conftest import dialogue, write_subset


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
    return samples.find_samples(write_subset(tmp_path / "mixed", talks))


def test_keep_sets_aside_what_would_train_nothing(mixed, tokenizer):
    got = rendering.render_samples(mixed, tokenizer, 100, "keep")
    assert (got.rows, len(got.input_ids), got.truncated, got.dropped) == (3, 2, 2, 0)
    (one,) = got.unusable
    assert (one.id, one.reason) == (f"{2:032x}", "cut-off")
    assert re.fullmatch(r"\d+ tokens, the first label is at \d+", one.detail)


def test_too_many_unusable_samples_are_an_error_that_names_the_commonest_reason(
    mixed, tokenizer, tmp_path
):
    got, out = rendering.render_samples(mixed, tokenizer, 100, "keep"), tmp_path / "out"
    rendering.check_usable(got, 100, 1 / 3, out)
    assert not (tmp_path / "out.quarantine.jsonl").exists()
    with pytest.raises(
        BadRowsError, match=r"1 of 3 samples .*33\.3%.* 1 are cut-off.*first is 0+2"
    ):
        rendering.check_usable(got, 100, 0.05, out)
    listed = json.loads((tmp_path / "out.quarantine.jsonl").read_text())
    assert listed["reason"] == "cut-off"
    rendering.check_usable(got, 100, 1.0, out)
    assert not (tmp_path / "out.quarantine.jsonl").exists()


def test_a_sample_that_the_template_refuses_is_set_aside_alone(tmp_path, tokenizer):
    refused = [[{"role": "user", "content": "Unanswered?"}], dialogue(1)]
    got = rendering.render_samples(
        samples.find_samples(write_subset(tmp_path / "s", refused)), tokenizer, 100, "error"
    )
    assert [(one.id, one.reason) for one in got.unusable] == [(f"{0:032x}", "not-rendered")]
    assert "no assistant turn" in got.unusable[0].detail
    assert len(got.input_ids) == 1


def test_trim_keeps_starts_and_leaves_out_what_has_no_label(mixed, tokenizer):
    got = rendering.render_samples(mixed, tokenizer, 100, "trim")
    assert (got.rows, got.truncated, got.dropped) == (3, 2, 1)
    assert got.lengths[1] == 100
    assert (got.response_tokens > 0).all()


def test_drop_leaves_out_all_that_is_too_long(mixed, tokenizer):
    got = rendering.render_samples(mixed, tokenizer, 100, "drop")
    assert (got.rows, got.truncated, got.dropped) == (3, 2, 2)


def test_error_names_the_first_that_is_too_long(mixed, tokenizer):
    with pytest.raises(DataError, match=r"sample 0+1 has .* max_length is 100"):
        rendering.render_samples(mixed, tokenizer, 100, "error")


@pytest.mark.parametrize("mode", ["keep", "trim", "drop"])
def test_lost_response_tokens_are_counted(mixed, tokenizer, mode):
    whole = rendering.render_samples(mixed, tokenizer, 10_000, "error")
    assert (whole.lost_labels, whole.lost_share) == (0, 0.0)
    if mode == "keep":
        long_prompt = len(whole.input_ids[2]) - 1  # all but the last label of the long prompt
        got = rendering.render_samples(mixed, tokenizer, long_prompt, mode)
    else:
        got = rendering.render_samples(mixed, tokenizer, 100, mode)
    everything, kept = whole.response_tokens.sum(), got.response_tokens.sum()
    assert kept + got.lost_labels == everything
    assert got.lost_share == pytest.approx(1 - kept / everything)
    assert got.lost_labels > 0


def test_a_whole_sample_without_labels_is_set_aside(mixed):
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
    source = samples.find_samples(write_subset(mixed.files[0].parents[2] / "empty", talks))
    got = rendering.render_samples(source, made, 100, "trim")
    assert [(one.id, one.reason) for one in got.unusable] == [(f"{1:032x}", "no-label")]
    assert len(got.input_ids) == 1


def test_nothing_left_is_an_error(mixed, tokenizer, tmp_path):
    got = rendering.render_samples(mixed, tokenizer, 5, "trim")
    with pytest.raises(DataError, match="none of 3 samples is left"):
        rendering.check_usable(got, 5, 0.05, tmp_path / "out")


def test_what_fits_is_kept_whole(mixed, tokenizer):
    got = rendering.render_samples(mixed, tokenizer, 10_000, "error")
    assert got.truncated == 0
    assert tokenizer.decode(got.input_ids[1]).endswith("so <|endoftext|>")


def test_a_subset_is_read_in_pick_order(tmp_path, tokenizer):
    whole = write_subset(tmp_path / "s", [dialogue(i) for i in range(5)])
    table = pq.read_table(whole / "samples" / "all.parquet")
    draft = drafts.open_draft(tmp_path / "t", drafts.Work("select", 0, {}, {}))
    draft.write_table("samples/0.parquet", table.take([3, 1, 4]))
    draft.write_table("samples/1.parquet", table.take([0, 2]))
    draft.commit()
    out = tmp_path / "t"
    got = rendering.render_samples(samples.find_samples(out), tokenizer, 512, "keep")
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
    got = rendering.render_samples(samples.find_samples(tmp_path), tokenizer, 512, "keep")
    assert got.input_ids[0].tolist() == chat.render(dialogue(2), tokenizer)[0]


def test_equal_folders_have_equal_keys_wherever_they_lie(tmp_path):
    one, two = (write_subset(tmp_path / name, [dialogue(1)]) for name in "ab")
    other = write_subset(tmp_path / "c", [dialogue(2)])
    assert (
        samples.find_samples(one).key
        == samples.find_samples(two).key
        != samples.find_samples(other).key
    )


@pytest.mark.parametrize("stage", ["ingest", "clean", "rewrite", "select"])
def test_whatever_made_a_corpus_its_key_is_that_of_its_samples(tmp_path, stage):
    keys = []
    for name, more in (("a", b"1"), ("b", b"2")):
        draft = drafts.open_draft(tmp_path / name, drafts.Work(stage, 0, {}, {"name": name}))
        table = pa.Table.from_pylist([{"messages": dialogue(1)}])
        draft.write_table("samples/all.parquet", table)
        with draft.writing("report.txt") as path:  # what lies beside the samples
            path.write_bytes(more)
        draft.commit()
        keys.append(samples.find_samples(tmp_path / name).key)
    assert keys[0] == keys[1]


def test_folders_without_samples_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no Parquet files"):
        samples.find_samples(tmp_path)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="neither `messages` nor"):
        list(samples.dialogues(samples.find_samples(tmp_path)))


def test_a_file_that_the_manifest_does_not_list_is_not_trained_on(tmp_path):
    """The key is that of the manifest's files: with another one it would be a wrong one."""
    subset = write_subset(tmp_path / "subset", [dialogue(i) for i in range(4)])
    before = samples.find_samples(subset)
    file = before.files[0]
    (file.parent / "zz.parquet").write_bytes(file.read_bytes())
    assert samples.find_samples(subset) == before
    file.write_bytes(b"")
    folder._sound.clear()
    with pytest.raises(DataError, match="has 0 bytes"):
        samples.find_samples(subset)


@pytest.mark.slow
def test_processes_render_what_one_does(tmp_path, tokenizer, monkeypatch):
    talks = [dialogue(i) for i in range(9)]
    talks[4] = [{"role": "user", "content": "nobody answers"}]
    talks[6] = [{"role": "user", "content": "so " * 200}, {"role": "assistant", "content": "Yes."}]
    source = samples.find_samples(write_subset(tmp_path / "some", talks))
    alone = rendering.render_samples(source, tokenizer, 100, "keep")
    assert [one.reason for one in alone.unusable] == ["not-rendered", "cut-off"]
    monkeypatch.setattr(rendering, "_A_PROCESS", 4)
    monkeypatch.setattr(rendering, "_TOGETHER", 2)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    shared = rendering.render_samples(source, tokenizer, 100, "keep")
    for field in dataclasses.fields(alone):
        one, other = getattr(alone, field.name), getattr(shared, field.name)
        if field.type == "list[Tokens]":
            assert [row.tolist() for row in one] == [row.tolist() for row in other]
        else:
            assert one == other, field.name
    with pytest.raises(DataError, match="max_length is 5"):
        rendering.render_samples(source, tokenizer, 5, "error")
