"""The suite end to end, against a scripted endpoint that is model and judge by name."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sft_diversity.core import folder
from sft_diversity.core.errors import BadRowsError, DataError, UsageError
from sft_diversity.scoring.pairwise import stage
from sft_diversity.scoring.pairwise.config import PairwiseConfig
from sft_diversity.scoring.sets import PromptSet
from tests import making, tiny
from tests.endpoint.scripted import Reply, serving
from tests.processes import Child

N = 60
SETS = (
    PromptSet(name="alpaca", file="a.json.gz", prompt="instruction", response="output"),
    PromptSet(name="arena", file="b.jsonl", prompt="m.0.content", response="m.1.content.answer"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two sets in the shapes of AlpacaEval and Arena-Hard."""
    root = tmp_path_factory.mktemp("eval")
    rows = [{"instruction": f"task {i}?", "output": f"reference {i}"} for i in range(N)]
    (root / "a.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    lines = [
        {"m": [{"content": f"hard {i}?"}, {"content": {"answer": f"reference h{i} " + "x" * i}}]}
        for i in range(20)
    ]
    (root / "b.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def luck(text: str) -> float:
    """Return a number from 0 to 1 that belongs to a text."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def judge_and_model(prefers, biased=0.0, words=None):
    """Script an endpoint: `model` answers; `judge` takes the model's side where `prefers` says so.

    In a share `biased` of the prompts the judge names whatever stands first.
    """

    def reply(call, _):
        if call.body["model"] == "model":
            return Reply(f"mine for {call.said}")
        prompt, first = shown(call)
        if words is not None and (text := words(prompt, first)) is not None:
            return Reply(text)
        if luck("bias" + prompt) < biased:
            return Reply("The first one. [[A]]")
        return Reply("So: [[A]]" if prefers(prompt) == first.startswith("mine") else "[[B]]")

    return reply


def shown(call):
    """Return the prompt and the first answer that a judge's message shows."""
    prompt = re.search(r"<request>\n(.*?)\n</request>", call.said, re.DOTALL)[1]
    return prompt, re.search(r"<answer_A>\n(.*?)\n</answer_A>", call.said, re.DOTALL)[1]


def config(files: Path, url: str, **options) -> PairwiseConfig:
    defaults: dict[str, Any] = {
        "judge_url": url, "judge_model": "judge", "model_name": "model",
        "sets": SETS, "eval_dir": files, "draws": 200,
    }  # fmt: skip
    return PairwiseConfig(**(defaults | options))


def run(server, files, out, **options):
    kept = out.parent / "kept"
    return making.score(server.url, out, config(files, server.url, **options), kept)


def contents(out: Path) -> dict[str, bytes]:
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["run"]
    return found | {"manifest": json.dumps(manifest, sort_keys=True).encode()}


def test_a_known_preference_is_recovered_within_its_interval(files, tmp_path):
    """Four judges that prefer the model with a chance of 70 %, each in other prompts."""

    def prefers(call, number):
        name = call.body["model"]
        return judge_and_model(lambda p: luck(name + p) < 0.7)(call, number)

    covered = 0
    with serving(prefers) as server:
        for name in (f"judge-{i}" for i in range(4)):
            out = tmp_path / name
            head = run(server, files, out, judge_model=name, sets=SETS[:1])["result"]["headline"]
            wins = sum(luck(f"{name}task {i}?") < 0.7 for i in range(N))
            assert head["win_rate"] == pytest.approx(100 * wins / N)
            assert (head["order"]["first_wins"], head["order"]["consistent"]) == (50, 100)
            covered += head["win_rate_low"] < 70 < head["win_rate_high"]
    assert covered >= 3
    assert folder.verify(out)["faults"] == []


def test_a_judge_that_favours_the_first_answer_does_not_move_an_even_match(files, tmp_path):
    with serving(judge_and_model(lambda p: luck(p) < 0.5, biased=0.6)) as server:
        head = run(server, files, tmp_path / "out")["result"]["headline"]
    assert head["win_rate_low"] < 50 < head["win_rate_high"]
    assert head["order"]["low"] > 60
    assert head["order"]["consistent"] < 60


def test_every_pair_is_asked_for_once_in_each_order(files, tmp_path):
    with serving(judge_and_model(lambda p: True)) as server:
        run(server, files, tmp_path / "out")
        asked = [shown(c) for c in server.calls if c.body["model"] == "judge"]
        assert len(asked) == len(set(asked)) == 2 * (N + 20)
        before = len(server.calls)
        run(server, files, tmp_path / "other", draws=300)
        assert len(server.calls) == before, "another output of the same pairs asks nothing"


def test_equal_runs_write_equal_bytes_and_no_path_or_url(files, tmp_path):
    with serving(judge_and_model(lambda p: luck(p) < 0.7)) as server:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            run(server, files, tmp_path / name / "out")
        assert contents(tmp_path / "one/out") == contents(tmp_path / "two/out")
        whole = b"".join(contents(tmp_path / "one/out").values())
        for secret in (server.url, str(files), str(tmp_path)):
            assert secret.encode() not in whole


def test_refusals_and_malformed_verdicts_are_counted_as_half_a_win(files, tmp_path):
    def words(prompt, first):
        number = int(re.search(r"\d+", prompt)[0])
        return {0: "I'm sorry, I cannot judge this.", 1: "Hm, hard to say."}.get(number)

    with serving(judge_and_model(lambda p: True, words=words)) as server:
        result = run(server, files, tmp_path / "out", sets=SETS[:1])["result"]
    assert result["verdicts"] == {"malformed": 2, "model": 2 * N - 4, "refused": 2}
    assert result["headline"]["win_rate"] == pytest.approx(100 * (N - 1) / N)
    assert result["headline"]["both_verdicts"] == {"prompts": N - 2, "win_rate": 100}
    rows = stage.read_judgments(tmp_path / "out").to_pylist()
    assert rows[1]["first_text"] == "Hm, hard to say."


def test_too_many_missing_verdicts_stop_and_show_themselves(files, tmp_path):
    with serving(judge_and_model(lambda p: True, words=lambda *_: "no idea")) as server:
        with pytest.raises(BadRowsError, match=r"120 of 120 calls .* no verdict .*quarantine"):
            run(server, files, tmp_path / "out", sets=SETS[:1])
        lines = (tmp_path / "out.quarantine.jsonl").read_text().splitlines()
        assert json.loads(lines[0]) == {
            "set": "alpaca", "record": "0", "order": "first", "reason": "malformed",
            "raw": "no idea",
        }  # fmt: skip
        before = len(server.calls)
        manifest = run(server, files, tmp_path / "out", sets=SETS[:1], max_bad_fraction=1.0)
        assert len(server.calls) == before
    assert manifest["result"]["headline"]["win_rate"] == 50


def test_equal_and_empty_answers_are_settled_without_the_judge(files, tmp_path):
    def reply(call, _):
        if call.body["model"] == "judge":
            return Reply("[[A]]")
        number = re.search(r"\d+", call.said)[0]
        return Reply({"0": "reference 0", "1": " ", "2": "ok"}.get(number, f"mine {number}"))

    with serving(reply) as server:
        run(server, files, tmp_path / "out", sets=SETS[:1])
        asked = {shown(c)[0] for c in server.calls if c.body["model"] == "judge"}
    rows = stage.read_judgments(tmp_path / "out").to_pylist()
    assert [row["status"] for row in rows[:3]] == ["same", "model-empty", "judged"]
    assert not asked & {"task 0?", "task 1?"}


def test_answers_of_another_run_or_a_file_are_a_baseline(files, tmp_path):
    with serving(judge_and_model(lambda p: luck(p) < 0.7)) as server:
        run(server, files, tmp_path / "first")
        itself = run(server, files, tmp_path / "itself", against=str(tmp_path / "first"))
        assert itself["result"]["statuses"] == {"same": N + 20}
        assert itself["result"]["headline"]["win_rate"] == 50
        own = tmp_path / "own.json"
        own.write_text(json.dumps([{"instruction": "task 7?", "output": "theirs"}]))
        found = run(server, files, tmp_path / "own", against=str(own), sets=SETS[:1])
        assert found["rows"]["dropped"] == {"baseline-missing": N - 1}
        assert found["result"]["headline"]["prompts"] == 1
        with pytest.raises(DataError, match="answers none of the 20 prompts of set arena"):
            run(server, files, tmp_path / "none", against=str(own), sets=SETS[1:])


def test_own_prompts_and_a_limit(files, tmp_path):
    own = tmp_path / "my prompts.jsonl"
    own.write_text("\n".join(json.dumps({"prompt": f"own {i}", "response": "r"}) for i in range(9)))
    with serving(judge_and_model(lambda p: True)) as server:
        found = run(server, files, tmp_path / "out", sets=None, prompts=own, limit=4)
    assert found["rows"]["in"] == 4
    assert (tmp_path / "out/answers/my-prompts.jsonl").is_file()


def test_a_larger_limit_asks_only_for_what_is_new(files, tmp_path):
    with serving(judge_and_model(lambda p: True)) as server:
        run(server, files, tmp_path / "a", sets=SETS[:1], limit=10)
        assert len(server.calls) == 30
        run(server, files, tmp_path / "b", sets=SETS[:1], limit=15)
        assert len(server.calls) == 45


def test_a_local_model_is_judged_against_itself_and_its_kept_answers_are_used(files, tmp_path):
    model = tiny.save(tmp_path / "model")
    options = {"model_name": None, "sets": SETS[:1], "limit": 10, "max_new_tokens": 8,
               "temperature": 1.0, "batch_size": 4, "against": str(model)}  # fmt: skip
    with serving(judge_and_model(lambda p: True)) as server:
        asked = config(files, server.url, **options)
        kept = tmp_path / "kept"
        one = making.score(model, tmp_path / "one", asked, kept)
        assert one["result"]["statuses"] == {"same": 10}
        assert one["result"]["answers"]["model"]["answered"] == 10
        before = {p: p.stat().st_size for p in kept.rglob("*.jsonl")}
        more = asked.model_copy(update={"draws": 250})
        making.score(model, tmp_path / "two", more, kept)
        assert {p: p.stat().st_size for p in kept.rglob("*.jsonl")} == before
        fresh = making.score(model, tmp_path / "three", asked, tmp_path / "k2")
        assert fresh["digest"] == one["digest"]


KILLED = """
import sys
from pathlib import Path
from tests import making
from tests.scoring.pairwise import test_stage as t
url, files, out, kept = sys.argv[1], *map(Path, sys.argv[2:])
making.score(url, out, t.config(files, url, judge={"concurrency": 4}), kept)
"""


def test_killed_and_resumed_never_asks_twice_for_what_was_kept(files, tmp_path):
    plain = judge_and_model(lambda p: luck(p) < 0.7)

    def slow(call, number):
        reply = plain(call, number)
        return Reply(reply.text, delay_s=0.02)

    out, kept = tmp_path / "out", tmp_path / "kept"
    with serving(slow) as server:
        whole = making.score(
            server.url, tmp_path / "whole", config(files, server.url), tmp_path / "k0",
        )  # fmt: skip
        server.calls.clear()
        arguments = (KILLED, server.url, files, out, kept)
        for enough in (30, 150):  # in the answers, in the verdicts
            process = Child(*arguments)
            process.until(lambda enough=enough: len(server.calls) >= enough)
            assert process.kill() == -signal.SIGKILL
            time.sleep(0.1)
        asked_before = len(server.calls)
        lines = b"".join(p.read_bytes() for p in kept.rglob("*.jsonl")).count(b"\n")
        assert (last := Child(*arguments)).wait() == 0, last.stderr
        again = len(server.calls) - asked_before
    assert asked_before >= 150
    assert again == 3 * (N + 20) - lines, "only what was not kept is asked for"
    assert folder.read_manifest(out)["digest"] == whole["digest"]


def test_what_cannot_be_is_one_line(files, tmp_path):
    model = tiny.save(tmp_path / "model")

    def fails(match, name="http://x/v1", **options):
        asked = config(files, "http://127.0.0.1:9/v1", **options)
        with pytest.raises(UsageError, match=match):
            making.score(name, tmp_path / "out", asked, None)

    fails("name its model with --model-name", model_name=None)
    fails("--model-name is for an endpoint", name=str(model))
    fails("needs a judge; name it with --judge-url", judge_url=None)
    fails("no such folder", name="./nowhere", model_name=None)
    fails("no such folder", against="./nowhere")
    fails("NO_SUCH_KEY of api_key_env is not set", judge_key_env="NO_SUCH_KEY")
    with pytest.raises(UsageError, match="no such folder"):
        making.planned_score(
            "http://x/v1", config(files, "http://127.0.0.1:9/v1", against="./nowhere")
        )
    with pytest.raises(UsageError, match="is no URL"):
        making.planned_score("http://x/v1", config(files, "127.0.0.1:9/v1"))
    bad = tmp_path / "judge.txt"
    bad.write_text("{prompt} {answer_a}")
    fails(r"lacks \{answer_b\}", judge_prompt=bad)
    fails("temperature does not belong there", calls={"temperature": 1})
    with pytest.raises(ValueError, match="names the model of an endpoint"):
        config(files, "http://x", against="http://127.0.0.1:9/v1")


def test_the_plan_counts_prompts_and_calls_and_asks_nothing(files):
    planned = making.planned_score(
        "http://127.0.0.1:9/v1", config(files, "http://127.0.0.1:9/v1", limit=5)
    )
    assert (planned["rows"], planned["calls"]) == (10, 20)
    assert planned["tokens_in"] > 0
