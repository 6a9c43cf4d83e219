"""`rewrite` against a real HTTP server: what is written, what stays, what is counted."""

from __future__ import annotations

import json
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import corpus as corpora
from sft_diversity.core import drafts, folder, schema
from sft_diversity.core.errors import BadRowsError, UsageError
from sft_diversity.core.hashing import text_key
from sft_diversity.rewriting.stage import RewriteConfig
from tests import making
from tests.endpoint.scripted import Reply, serving
from tests.processes import SFTDIV, Child


def turn(role, content):
    return {"role": role, "content": content}


def row(turns, **more):
    texts = [text for one in turns for text in (one["role"], one["content"])]
    said = {
        name: "\n\n".join(t["content"] for t in turns if t["role"] == role)
        for name, role in (("instruction", "user"), ("response", "assistant"))
    }
    plain = {"source": "made", "source_file": "f", "source_row": 0, "meta": "{}"}
    return {"id": text_key(*texts), "messages": turns} | said | plain | more


def folder_of(out, rows, stage="ingest", per_file=None):
    wanted = schema.SUBSET if stage == "select" else schema.SAMPLES
    if stage == "ingest":
        rows = sorted(rows, key=lambda one: one["id"])
    draft = drafts.open_draft(out, drafts.Work(stage, 0, {}, {"ids": [r["id"] for r in rows]}))
    per_file = per_file or len(rows)
    for start in range(0, len(rows), per_file):
        table = pa.Table.from_pylist(rows[start : start + per_file], wanted)
        draft.write_table(f"samples/{start:05}.parquet", table)
    draft.commit(result={"sources": [{"name": "made", "licence": "MIT"}]})
    return out


def single(number):
    return [
        row([turn("user", f"question {i}"), turn("assistant", f"old {i}")], source_row=i)
        for i in range(number)
    ]


def config(server, **options):
    return RewriteConfig(endpoint=server.url, model="big", **options)


def quiet(_):
    pass


def made(source, out, asked, **more):
    manifest = making.make("rewrite", asked, out, subject=source, work=out.parent, **more)
    assert folder.verify(out)["faults"] == []
    return manifest, corpora.read(out).to_pylist()


def upper(call, _):
    return Reply(call.said.upper())


def test_responses_are_the_models_and_the_originals_are_in_meta(tmp_path):
    before = [one | {"meta": '{"lang":"en"}'} for one in single(30)]
    source = folder_of(tmp_path / "corpus", before, per_file=7)
    with serving(upper) as server:
        manifest, rows = made(source, tmp_path / "out", config(server))
    assert corpora.is_corpus(tmp_path / "out")
    assert [r["id"] for r in rows] == sorted(r["id"] for r in rows)
    assert {r["source_row"] for r in rows} == set(range(30))
    old = {r["source_row"]: r for r in before}
    for one in rows:
        number = one["source_row"]
        assert one["response"] == f"QUESTION {number}"
        assert one["instruction"] == f"question {number}"
        assert one["messages"][1] == turn("assistant", one["response"])
        assert one["id"] == row(one["messages"])["id"]
        assert json.loads(one["meta"]) == {
            "lang": "en",
            "rewrite": {
                "model": "big", "way": "answer", "id": old[number]["id"],
                "originals": [f"old {number}"],
            },
        }  # fmt: skip
    assert manifest["rows"] == {"in": 30, "kept": 30, "dropped": {}, "quarantined": 0}
    assert corpora.licences(tmp_path / "out") == {"made": "MIT"}


def test_later_turns_are_asked_after_the_new_earlier_ones(tmp_path):
    turns = [
        turn("system", "be brief"), turn("user", "a"), turn("assistant", "old one"),
        turn("user", "b"), turn("assistant", "old two"),
    ]  # fmt: skip
    source = folder_of(tmp_path / "corpus", [row(turns), *single(3)])
    with serving(upper) as server:
        _, rows = made(source, tmp_path / "out", config(server))
        last = next(call.body["messages"] for call in server.calls if call.said == "b")
    assert last == [*turns[:2], turn("assistant", "A"), turn("user", "b")]
    [long] = [one for one in rows if len(one["messages"]) == 5]
    assert long["response"] == "A\n\nB"
    assert json.loads(long["meta"])["rewrite"]["originals"] == ["old one", "old two"]


def test_revise_shows_the_old_answer_and_system_is_only_for_the_model(tmp_path):
    source = folder_of(tmp_path / "corpus", single(1))
    with serving(lambda *_: Reply("<think>hm</think>\n new ")) as server:
        asked = config(server, way="revise", system="be kind")
        _, [one] = made(source, tmp_path / "out", asked)
        sent = server.calls[0].body["messages"]
    assert sent[0] == turn("system", "be kind")
    assert sent[1]["content"].startswith("question 0")
    assert "<answer>\nold 0\n</answer>" in sent[1]["content"]
    assert one["messages"] == [turn("user", "question 0"), turn("assistant", "new")]


def awkward(tmp_path):
    other = row([turn("user", "x"), turn("tool", "y"), turn("assistant", "z")])
    unasked = row([turn("assistant", "hello"), turn("user", "x")])
    return folder_of(tmp_path / "corpus", [*single(8), other, unasked])


def failing(call, _):
    faults = {
        "question 0": Reply("too long", status=400),
        "question 1": Reply(" "),
        "question 2": Reply("half an ans", finish="length"),
        "question 3": Reply(status=500),
    }
    return faults.get(call.said, Reply(call.said.upper()))


REASONS = {
    "cut": 1, "empty": 1, "gave-up": 1, "nothing-asked": 1, "other-turns": 1, "refused": 1,
}  # fmt: skip


def test_what_fails_keeps_its_original_and_is_counted(tmp_path):
    source = awkward(tmp_path)
    with serving(failing) as server:
        asked = config(server, tries=2, max_bad_fraction=0.9)
        manifest, rows = made(source, tmp_path / "out", asked)
    assert len(rows) == 10
    assert manifest["result"]["failed"] == REASONS
    assert manifest["result"]["rewritten"] == 4
    stayed = [one for one in rows if "not_rewritten" in json.loads(one["meta"])["rewrite"]]
    assert len(stayed) == 6
    old = {r["id"]: r for r in corpora.read(source).to_pylist()}
    for one in stayed:
        assert {**one, "meta": ""} == {**old[one["id"]], "meta": ""}
    lines = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    told = {one["reason"]: one for one in map(json.loads, lines)}
    assert told["cut"]["raw"] == "half an ans"
    assert "too long" in told["refused"]["detail"]
    assert {one["id"] for one in told.values()} == {one["id"] for one in stayed}


def test_what_fails_may_be_dropped(tmp_path):
    source = awkward(tmp_path)
    with serving(failing) as server:
        asked = config(server, tries=2, max_bad_fraction=0.9, on_failure="drop")
        manifest, rows = made(source, tmp_path / "out", asked)
    assert manifest["rows"] == {"in": 10, "kept": 4, "dropped": REASONS, "quarantined": 0}
    assert {one["response"] for one in rows} == {f"QUESTION {i}" for i in range(4, 8)}
    gone = pq.read_table(tmp_path / "out/dropped.parquet")
    assert sorted(gone["reason"].to_pylist()) == sorted(REASONS)


def test_samples_that_become_equal_are_one(tmp_path):
    same = [row([turn("user", "q"), turn("assistant", f"old {i}")]) for i in range(4)]
    source = folder_of(tmp_path / "corpus", same, per_file=2)
    with serving(upper) as server:
        manifest, rows = made(source, tmp_path / "out", config(server))
        assert len(server.calls) == 1
    assert manifest["rows"] == {"in": 4, "kept": 1, "dropped": {"duplicate": 3}, "quarantined": 0}
    [one] = rows
    ids = sorted(r["id"] for r in same)
    assert json.loads(one["meta"])["rewrite"]["id"] == ids[0]
    assert pq.read_table(tmp_path / "out/dropped.parquet")["id"].to_pylist() == ids[1:]


def test_a_subset_becomes_a_corpus_that_remembers_its_picks(tmp_path):
    rows = [one | {"pick": i} for i, one in enumerate(single(6))]
    source = folder_of(tmp_path / "subset", rows, stage="select")
    with serving(upper) as server:
        _, found = made(source, tmp_path / "out", config(server))
    assert {json.loads(r["meta"])["rewrite"]["pick"] for r in found} == set(range(6))
    assert all(json.loads(r["meta"])["rewrite"]["pick"] == r["source_row"] for r in found)


def test_rewriting_twice_keeps_both_originals(tmp_path):
    source = folder_of(tmp_path / "corpus", single(1))
    with serving(lambda call, _: Reply(f"by {call.body['model']}")) as server:
        made(source, tmp_path / "one", config(server))
        asked = config(server).model_copy(update={"model": "bigger"})
        _, [one] = made(tmp_path / "one", tmp_path / "two", asked)
    said = json.loads(one["meta"])["rewrite"]
    assert (one["response"], said["originals"]) == ("by bigger", ["by big"])
    assert said["before"]["originals"] == ["old 0"]


def test_too_many_failures_stop_it_and_the_next_try_asks_only_for_them(tmp_path):
    source = folder_of(tmp_path / "corpus", single(10))
    broken = True

    def script(call, _):
        bad = broken and call.said in ("question 1", "question 2")
        return Reply("no", status=400) if bad else Reply(call.said.upper())

    with serving(script) as server:
        with pytest.raises(BadRowsError, match=r"2 of 10 samples failed \(20.0%\)"):
            made(source, tmp_path / "out", config(server))
        assert not (tmp_path / "out").exists()
        assert len((tmp_path / "out.quarantine.jsonl").read_text().splitlines()) == 2
        broken = False
        manifest, _ = made(source, tmp_path / "out", config(server))
        assert len(server.calls) == 12
        assert manifest["result"]["rewritten"] == 10
        again = making.make(
            "rewrite", config(server, concurrency=1), tmp_path / "out", subject=source
        )
        assert again == manifest
        assert len(server.calls) == 12


def test_the_plan_counts_and_touches_nothing(tmp_path):
    source = folder_of(tmp_path / "corpus", single(10))
    asked = RewriteConfig(endpoint="http://127.0.0.1:9/v1", model="m", price_in=1e6, price_out=1e6)
    before = sorted(tmp_path.rglob("*"))
    said = making.plan("rewrite", asked, tmp_path / "out", subject=source)
    assert (said["rows"], said["state"]) == (10, "to do")
    assert said["cost"] == said["tokens_in"] + said["tokens_out"] > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_neither_corpus_nor_subset_is_refused(tmp_path):
    with pytest.raises(UsageError, match="neither a corpus nor a subset"):
        making.plan(
            "rewrite",
            RewriteConfig(endpoint="http://h/v1", model="m"),
            tmp_path / "out",
            subject=tmp_path,
        )


RUN = """
import sys
from pathlib import Path
from sft_diversity.rewriting.stage import RewriteConfig
from tests import making
corpus, out, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
config = RewriteConfig(endpoint=url, model="big", concurrency=2, api_key_env="MY_KEY")
making.make("rewrite", config, out, subject=corpus, work=out.parent)
"""


def test_after_kill_9_the_same_call_ends_with_the_same_bytes_and_asks_for_nothing_twice(
    tmp_path, monkeypatch
):
    source = folder_of(tmp_path / "corpus", single(60), per_file=20)
    key = "sk-" + "secret" * 5
    monkeypatch.setenv("MY_KEY", key)
    with serving(lambda call, _: Reply(call.said.upper(), delay_s=0.03)) as server:
        process = Child(RUN, source, tmp_path / "a/out", server.url)
        process.until(lambda: len(server.calls) >= 30)
        assert process.kill() == -signal.SIGKILL, "ended before it could be killed"
        assert not (tmp_path / "a/out").exists()
        asked = config(server, api_key_env="MY_KEY")
        one, _ = made(source, tmp_path / "a/out", asked)
        assert len(server.calls) <= 60 + 2  # those under way when the process died
        other, _ = made(source, tmp_path / "b/out", asked)
    assert one["digest"] == other["digest"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if key.encode() in path.read_bytes()]


def test_a_signal_stops_it_with_75_and_keeps_every_answer_that_was_paid_for(tmp_path):
    source = folder_of(tmp_path / "corpus", single(60))
    with serving(lambda call, _: Reply(call.said.upper(), delay_s=0.2)) as server:
        options = ["--endpoint", server.url, "--model", "big", "--concurrency", "4"]
        place = ["--out", tmp_path / "out", "--work", tmp_path]
        process = Child(SFTDIV, "rewrite", source, *options, *place)
        process.until(lambda: len(server.calls) >= 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 75
        assert "run the same command to resume" in process.stderr
        asked = len(server.calls)
        manifest, _ = made(source, tmp_path / "out", config(server))
        assert manifest["run"]["answers_kept_from_before"] == asked < 60
        assert len(server.calls) == 60
