"""What the models of a study answered, and what its runs took."""

from __future__ import annotations

import json

from sft_diversity.reporting import answers, study
from sft_diversity.reporting.config import ReportConfig
from sft_diversity.studies import show
from tests.reporting.conftest import DATA, PAGE

CONFIG = ReportConfig(samples=2, characters=60)


def test_answers_to_one_prompt_stand_side_by_side_with_their_verdicts(made):
    rows = study.study_results(made["study"])
    shown, labels = study.answering(rows, study.firsts(rows, "B"))
    assert labels == [
        "base",
        "macro-instruction 0 %, N = 40", "macro-instruction 100 %, N = 40",
        "micro-response 0 %, N = 40", "micro-response 100 %, N = 40", "random, N = 40",
    ]  # fmt: skip
    [found] = answers.answers_to_read(made["study"], shown, labels, CONFIG)
    assert found["set"] == "ruled"
    assert len(found["prompts"]) == 2
    for asked in found["prompts"]:
        assert [one["of"] for one in asked["answers"]] == labels
        verdicts = [one["verdict"] for one in asked["answers"]]
        assert verdicts[1:3] == ["1 of 2 instructions kept", "2 of 2 instructions kept"]
        assert all(len(one["answer"]) == 60 < one["characters"] for one in asked["answers"])
    assert answers.answers_to_read(made["corpus"], shown, labels, CONFIG) == []


def test_the_time_of_every_run_is_told_and_their_sum(made):
    rows = study.study_results(made["study"])
    found = answers.run_times(made["study"], rows)
    assert len(found["runs"]) == len(rows)
    assert found["runs"][1]["all"] == 70.0
    assert found["total"] == {
        "finetune": 60.0 * len(rows), "score": 2.5 * len(rows), "generate": 7.5 * len(rows),
        "all": 70.0 * len(rows),
    }  # fmt: skip


def test_the_page_has_both_and_the_kinds_of_score(pages):
    page = json.loads((pages / "study" / DATA).read_text())
    assert page["answers"]
    text = (pages / "study" / PAGE).read_text()
    assert "What answers do, beside likelihood" in text
    assert "instructions kept, %" in text
    assert "NLL, in mix" in text
    assert "Machine time of the 31 runs" in text


def test_a_training_of_draws_that_are_one_counts_once_in_page_and_terminal():
    cell = {"regime": "B", "strategy": "micro-response", "size": 40, "diversity": 100.0, "draw": 0}
    trained = [(0, 0, 27.0), (1, 0, 27.0), (2, 0, 27.0), (0, 1, 21.0), (0, 2, 24.0)]
    rows = [{**cell, "seed": s, "train_seed": t, "score": score} for s, t, score in trained]
    (shown,) = study.cell_figures(rows)
    assert (shown["runs"], shown["score"]) == (5, 24.0)
    budget = ("short_references", "in_mix", "steps", "response_tokens", "response_tokens_mean")
    found = {
        "results": [row | dict.fromkeys(budget) for row in rows],
        "failures": [], "race": None, "missing": [], "out": "o", "run_seconds": 1.0,
    }  # fmt: skip
    line = show.results(found).splitlines()[1].split()
    assert line[-8:-5] == ["5", "1", "24.0000"]
