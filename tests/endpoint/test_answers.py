"""Answers on disk: what is kept is found again, what is cut is passed over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError
from sft_diversity.endpoint.answers import Answer, Answers, folder_for


def key(number):
    return f"{number:032x}"


def kept(folder, number=3):
    answers = Answers(folder, "test")
    for i in range(number):
        answers.put(key(i), Answer(f"text {i}\nümläut", "stop", i, 2 * i))
    answers.close()
    [path] = folder.glob("*.jsonl")
    return path


def test_answers_are_found_again(tmp_path):
    kept(tmp_path)
    again = Answers(tmp_path, "test")
    assert len(again) == 3
    assert again.get(key(2)) == Answer("text 2\nümläut", "stop", 2, 4)
    assert key(9) not in again
    assert not list(tmp_path.glob("*.jsonl"))[1:], "reading makes no file"


@given(cut=st.integers(0, 400))
def test_a_file_cut_anywhere_loses_only_the_cut_line(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("answers")
    path = kept(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    again = Answers(folder, "test")
    lines = whole[:cut].count(b"\n")
    assert [key(i) in again for i in range(3)] == [i < lines for i in range(3)]
    again.put(key(7), Answer("new", "stop", 0, 0))
    again.close()
    third = Answers(folder, "test")
    assert len(third) == lines + 1
    assert third.get(key(7)).text == "new"


def test_a_line_that_is_no_answer_costs_no_other(tmp_path):
    path = kept(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00garbage\n" + b'{"key": 1}\n' + b"[]\n" + lines[2])
    again = Answers(tmp_path, "test")
    assert len(again) == 2
    assert again.get(key(2)).tokens_out == 4


def test_many_threads_write_whole_lines(tmp_path):
    answers = Answers(tmp_path, "test")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: answers.put(key(i), Answer("x" * i, "stop", i, i)), range(500)))
    answers.close()
    again = Answers(tmp_path, "test")
    assert len(again) == 500
    assert all(again.get(key(i)) == Answer("x" * i, "stop", i, i) for i in range(500))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    answers = Answers(tmp_path / "file" / "answers", "test")
    with pytest.raises(DataError, match="test: cannot keep answers"):
        answers.put(key(1), Answer("x", "stop", 0, 0))


@pytest.mark.parametrize("model", ["org/name", "../../etc", "/models/tiny", "ü" * 300, "a b:c"])
def test_any_model_name_makes_a_folder_below_the_root(tmp_path, model):
    folder = folder_for(tmp_path, model, "v1")
    assert folder.parent == tmp_path
    assert len(folder.name) < 100
    assert folder != folder_for(tmp_path, model + "x", "v1")
