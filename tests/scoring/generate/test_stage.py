"""The suite from prompts to figures, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

import sft_diversity.verbs.training as verbs
from sft_diversity.core import folder, parquet
from sft_diversity.core.errors import DataError, Interrupted, UsageError
from sft_diversity.scoring import show
from sft_diversity.scoring.generate import figures, stage, writing
from sft_diversity.scoring.generate.config import CheckedSet, GenerateConfig
from sft_diversity.scoring.sets import read_prompts
from tests import making, tiny
from tests.scoring import fixtures

RULED = CheckedSet(name="ruled", file="ruled.jsonl", prompt="prompt", check="constraints")
SUMS = CheckedSet(
    name="sums", file="sums.jsonl", prompt="question", response="answer", check="number"
)
FREE = CheckedSet(name="free", file="free.jsonl", prompt="prompt", check="none")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def eval_dir(tmp_path_factory):
    place = tmp_path_factory.mktemp("eval")
    rules = [("punctuation:no_comma", {}), ("detectable_format:title", {"relation": None})]
    fixtures.lines(
        place / "ruled.jsonl",
        [
            {
                "prompt": f"Name {i} things" + " and more" * (i % 5),
                "instruction_id_list": [name for name, _ in rules[: 1 + i % 2]],
                "kwargs": [given for _, given in rules[: 1 + i % 2]],
            }
            for i in range(10)
        ],
    )
    fixtures.lines(
        place / "sums.jsonl",
        [{"question": f"{i} + 1?", "answer": f"So\n#### {i + 1:,}"} for i in range(5)],
    )
    fixtures.lines(place / "free.jsonl", [{"prompt": "rain " * n} for n in (3, 900, 5)])
    return place


def config(eval_dir, **options):
    sets = options.pop("sets", (RULED, SUMS, FREE))
    base = {"max_new_tokens": 8, "batch_size": 4, "dtype": "float32", "draws": 100}
    return GenerateConfig(sets=sets, eval_dir=eval_dir, **base | options)


def made(config, model, out, work=None):
    return making.make("score generate", config, out, subject=model, work=work)["result"]


def lines(place):
    return [json.loads(one) for one in place.read_text("utf-8").splitlines()]


def contents(place):
    names = [one["path"] for one in folder.read_manifest(place)["files"]]
    return {name: (place / name).read_bytes() for name in names}


def test_a_score_checks_every_answer_and_shows_some(model, eval_dir, tmp_path):
    result = made(config(eval_dir), model, tmp_path / "out")
    assert result["sets"]["ruled"]["instruction_strict"]["of"] == 15
    assert result["headline"]["exact"]["of"] == 5
    assert result["skipped"] == {"over-length": 1}  # longer than the model's 512 tokens
    told = lines(tmp_path / "out/answers/ruled.jsonl")
    assert [row["record"] for row in told] == list(range(10))
    assert all(len(row["rules"]) == len(row["strict"]) == len(row["loose"]) for row in told)
    kept = sum(sum(row["strict"]) for row in told)
    assert result["headline"]["instruction_strict"]["value"] == pytest.approx(100 * kept / 15)
    shown = show.scored({**result, "suite": "generate", "out": "out"})
    assert "instructions kept" in shown
    assert "left out: 1 over-length" in shown
    assert result["samples"]["sums"][0]["exact"] in (True, False)


def test_equal_calls_give_equal_bytes_and_an_answer_is_made_once(
    model, eval_dir, tmp_path, monkeypatch
):
    work = tmp_path / "work"
    made(config(eval_dir), model, tmp_path / "a", work)
    first = contents(tmp_path / "a")
    made(config(eval_dir), model, tmp_path / "elsewhere", tmp_path / "other")
    assert contents(tmp_path / "elsewhere") == first
    monkeypatch.setattr(writing, "answers_to", None)
    made(config(eval_dir, draws=200), model, tmp_path / "b", work)
    assert contents(tmp_path / "b")["answers/ruled.jsonl"] == first["answers/ruled.jsonl"]


def test_a_stopped_score_goes_on_with_the_same_batches(model, eval_dir, tmp_path, monkeypatch):
    made(config(eval_dir), model, tmp_path / "whole", tmp_path / "w1")
    own, calls = writing.answers_to, []

    def stopping(*given):
        if len(calls) == 2:
            raise Interrupted("stopped")
        calls.append(given)
        return own(*given)

    monkeypatch.setattr(writing, "answers_to", stopping)
    with pytest.raises(Interrupted):
        made(config(eval_dir), model, tmp_path / "out", tmp_path / "w2")
    done = len(calls)
    calls[:] = []
    monkeypatch.setattr(writing, "answers_to", lambda *given: calls.append(1) or own(*given))
    made(config(eval_dir), model, tmp_path / "out", tmp_path / "w2")
    assert (done, len(calls)) == (2, 4)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_parts_make_the_answers_of_the_whole(model, eval_dir, tmp_path, monkeypatch):
    options = config(eval_dir)
    made(options, model, tmp_path / "whole", tmp_path / "w1")
    flags = options.model_dump(mode="json", exclude={"suite"}) | {"suite": "generate"}
    flags |= {"eval_dir": str(eval_dir), "work": tmp_path / "w2"}
    for part in ("1/2", "2/2"):
        told = verbs.score(model, out=tmp_path / "out", part=part, **flags)
        assert told["part"] == part
        assert part in show.scored(told)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(writing, "answers_to", None)
    verbs.score(model, out=tmp_path / "out", **flags)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_likelihoods_have_no_parts(model, tmp_path):
    with pytest.raises(UsageError, match="leave out --part"):
        verbs.score(model, out=tmp_path / "out", part="1/2", work=tmp_path / "work")


def test_an_endpoint_is_not_asked(eval_dir, tmp_path):
    with pytest.raises(UsageError, match="is an endpoint, which the suite generate does not ask"):
        made(config(eval_dir), "http://127.0.0.1:1/v1", tmp_path / "out")


def test_batches_are_of_like_length_and_hold_every_prompt_once(eval_dir):
    prompts = read_prompts(RULED, eval_dir, 0)
    batches = writing.in_batches(prompts, 3)
    sizes = [len(one.text) for batch in batches for one in batch]
    assert sizes == sorted(sizes)
    assert sorted(p.record for batch in batches for p in batch) == list(range(10))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert writing.in_batches(prompts[::-1], 3) == batches


def test_a_plan_counts_the_prompts(model, eval_dir, tmp_path):
    work = making.store(tmp_path / "work", dry=True)
    work.get("score generate", config(eval_dir), subject=str(model), out=tmp_path / "out")
    assert [(step["stage"], step["rows"]) for step in work.plan] == [("answers", 18), ("score", 18)]
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (SUMS.model_copy(update={"response": "question.0"}), "row 0: no number in `question.0`"),
        (SUMS.model_copy(update={"check": "constraints"}), "row 0: `instruction_id_list`"),
    ],
)
def test_a_set_without_what_its_check_needs_is_refused_before_an_answer(
    wrong, words, model, eval_dir, tmp_path
):
    with pytest.raises(DataError, match=words):
        made(config(eval_dir, sets=(wrong,)), model, tmp_path / "out")


def test_figures_are_those_of_counting():
    rows = [
        {"rules": ["a", "b"], "strict": [True, False], "loose": [True, True], "exact": None},
        {"rules": ["a"], "strict": [True], "loose": [True], "exact": None},
        {"rules": None, "strict": None, "loose": None, "exact": True},
        {"rules": None, "strict": None, "loose": None, "exact": False},
    ]
    shared = {"set": "s", "tokens": 10, "words": 8, "distinct": 0.5}
    table = pa.Table.from_pylist(
        [
            row | shared | {"record": i, "prompt": str(i), "loop": 4 * (i == 1), "status": status}
            for i, (row, status) in enumerate(zip(rows, ["ended", "cut"] * 2, strict=True))
        ]
        + [shared | {"record": 9, "prompt": "9", "status": "over-length", "loop": 0}],
        schema=figures.CHECKED,
    )
    found = figures.summarise(table, 200, 0)
    shares = {n: one for n, one in found["headline"].items() if isinstance(one, dict)}
    values = {name: one["value"] for name, one in shares.items()}
    assert values == {
        "instruction_strict": pytest.approx(200 / 3),
        "instruction_loose": 100.0,
        "prompt_strict": 50.0,
        "prompt_loose": 100.0,
        "exact": 50.0,
        "ended": 50.0,
        "looping": 25.0,
    }
    assert found["rules"]["a"] == {"asked": 2, "strict": 2, "loose": 2}
    assert found["skipped"] == {"over-length": 1}
    assert found["headline"]["answers"] == 4
    one = found["headline"]["exact"]
    assert one["low"] <= 50 <= one["high"]


def test_checked_answers_are_kept_for_own_figures(model, eval_dir, tmp_path):
    made(config(eval_dir, sets=(SUMS,)), model, tmp_path / "out")
    table = parquet.join(parquet.listed(tmp_path / "out", "checked", stage.STAGE))
    assert table.schema == figures.CHECKED
    assert Path(tmp_path / "out/scores.json").is_file()
