"""What the verb returns and prints."""

from __future__ import annotations

import json

from sft_diversity.core.show import plan_text
from sft_diversity.scoring.show import scored
from sft_diversity.verbs import training
from tests.endpoint.scripted import serving
from tests.scoring.pairwise.test_stage import judge_and_model, luck


def test_the_verb_keeps_answers_in_the_work_folder_and_prints_rates_and_counts(tmp_path):
    rows = [{"prompt": f"task {i}?", "response": f"reference {i}"} for i in range(10)]
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join(map(json.dumps, rows)))

    def words(prompt, _first):
        return "Hm." if prompt == "task 3?" else None

    options = {
        "suite": "pairwise", "judge_model": "judge", "model_name": "model", "prompts": own,
        "out": tmp_path / "out", "work": tmp_path / "work",
    }  # fmt: skip
    with serving(judge_and_model(lambda p: luck(p) < 0.7, words=words)) as server:
        planned = training.score(server.url, judge_url=server.url, dry_run=True, **options)
        assert not server.calls
        assert "about" in plan_text(planned)
        found = training.score(server.url, judge_url=server.url, **options)
    assert (tmp_path / "work/answers").is_dir()
    printed = scored(found)
    assert f"{found['headline']['win_rate']:.1f} %" in printed
    assert "no verdict, each half a win: 2 malformed" in printed
    assert printed.endswith(str(tmp_path / "out"))
    json.dumps(found)


def test_harness_prints_a_line_for_each_metric():
    task = {
        "metrics": {
            "acc": {"value": 0.625, "stderr": 0.183}, "odd": {"value": None, "stderr": None}
        },
        "documents": 8,
    }  # fmt: skip
    printed = scored({"suite": "harness", "tasks": {"capitals": task}, "out": "h"})
    assert [line.split() for line in printed.splitlines()[1:]] == [
        ["capitals", "acc", "0.6250", "0.1830", "8"], ["capitals", "odd", "-", "-", "8"], ["h"],
    ]  # fmt: skip
