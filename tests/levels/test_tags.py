"""The tagger against a scripted endpoint: known tags in, known kinds out."""

from __future__ import annotations

import json
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import folder, incidence
from sft_diversity.core.errors import BadRowsError, UsageError
from sft_diversity.core.parts import Part
from sft_diversity.core.stage import Tool
from sft_diversity.endpoint.config import EndpointConfig
from sft_diversity.levels.meso import MesoOptions
from sft_diversity.levels.stage import IndexConfig
from sft_diversity.levels.tag_prompt import Malformed, read_tags, tag_messages
from tests.endpoint.scripted import Reply, serving
from tests.levels import making
from tests.making import make, plan, store
from tests.processes import Child


def options(url="http://127.0.0.1:9/v1", tags=None, **more):
    endpoint = EndpointConfig(url=url, model="tagger", **more)
    return IndexConfig(
        strategy="meso-response",
        meso=MesoOptions(
            extractor="llm", endpoint=endpoint, merge="none", min_samples=2, tags=tags or {}
        ),
    )


def listed(*tags):
    return Reply(json.dumps([{"tag": tag, "explanation": "it fits"} for tag in tags]))


def corpus(out, many=24):
    return making.corpus(out, [(f"Ask {i}", f"Text number {i} of the corpus") for i in range(many)])


def number_in(call):
    """Which text a first call is about."""
    asked = call.body["messages"][1]["content"]
    return int(asked.split("Text number ")[1].split(" of")[0])


def made(source, out, config, say=lambda _: None):
    manifest = make("index", config, out, source, say=say)
    assert folder.verify(out)["faults"] == []
    return manifest["result"]


def held(out, source):
    """Return for each text its kinds by name."""
    found = incidence.load(out)
    names = pq.read_table(out / "kinds.parquet")["kind"].to_pylist()
    ids = incidence.load_ids(out).to_pylist()
    tables = [pq.read_table(path) for path in sorted((source / "samples").glob("*.parquet"))]
    texts = {i: r for t in tables for i, r in zip(*t.select(["id", "response"]), strict=True)}
    texts = {i.as_py(): r.as_py() for i, r in texts.items()}
    return {
        int(texts[ids[row]].split()[2]): {
            names[k] for k in found.indices[found.indptr[row] : found.indptr[row + 1]]
        }
        for row in range(found.n_samples)
    }


def test_known_tags_become_the_kinds_of_their_samples(tmp_path):
    def script(call, _):
        i = number_in(call)
        spelling = ["Data Analysis", "data-analyses", "data analysis"][i % 3]
        rare = [f"only here {i}"] if i == 5 else []
        return listed(spelling, "even number" if i % 2 == 0 else "odd number", *rare)

    source = corpus(tmp_path / "corpus")
    said = []
    with serving(script) as server:
        result = made(source, tmp_path / "out", options(server.url), said.append)
    for i, kinds in held(tmp_path / "out", source).items():
        assert kinds == {"data analysis", "even number" if i % 2 == 0 else "odd number"}
    steps = {step["step"]: step for step in result["steps"]}
    assert list(steps) == ["frequency", "lexical", "semantic", "association"]
    assert (steps["frequency"]["before"], steps["frequency"]["after"]) == (6, 5)
    assert steps["frequency"]["dropped_examples"] == ["only here 5 (1)"]
    assert (steps["lexical"]["after"], steps["lexical"]["merged"]) == (3, 2)
    assert result["units_kept"] == 3
    assert any("lexical 5 -> 3" in line for line in said)
    members = pq.read_table(tmp_path / "out/kinds.parquet").to_pylist()[0]["members"]
    assert set(members) == {"Data Analysis", "data-analyses", "data analysis"}


def test_answers_are_held_to_a_schema_or_read_as_they_come(tmp_path):
    def script(call, _):
        tags = [{"tag": "even" if number_in(call) % 2 == 0 else "odd", "explanation": "it fits"}]
        given = call.body.get("response_format")
        if given and not knows:
            return Reply("unknown field", status=400)
        return Reply(json.dumps({"tags": tags} if given else tags))

    source = corpus(tmp_path / "corpus")
    for knows in (True, False):
        with serving(script) as server:
            place = tmp_path / str(knows)
            assert made(source, place / "out", options(server.url))["units_kept"] == 2
            held_to = ["response_format" in call.body for call in server.calls]
        assert all(held_to) if knows else sum(held_to) < 24


def test_tags_that_go_together_become_one_kind(tmp_path):
    def script(call, _):
        return listed(*[["maths", "algebra"], ["maths"], ["poetry"]][number_in(call) % 3])

    source = corpus(tmp_path / "corpus")
    with serving(script) as server:
        config = options(server.url, tags={"association_support": 5})
        result = made(source, tmp_path / "out", config)
    assert result["steps"][3]["merged_examples"] == ["algebra (8) -> maths"]
    kinds = [{"maths"}, {"maths"}, {"poetry"}]
    assert held(tmp_path / "out", source) == {i: kinds[i % 3] for i in range(24)}


def test_near_synonyms_merge_by_the_encoder(tmp_path):
    def encode(texts):
        angle = {"cat": 0.0, "feline": 0.1}
        turn = np.array([angle.get(text, 1.5) for text in texts])
        return np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)

    def script(call, _):
        return listed(["cat", "cat", "feline"][number_in(call) % 3])

    source = corpus(tmp_path / "corpus")
    with serving(script) as server:
        meso = options(server.url).meso.model_copy(update={"merge": "encoder", "threshold": 0.9})
        config = IndexConfig(strategy="meso-response", meso=meso)
        tools = {"encoder": lambda options, dry: Tool("made", {}, lambda: encode)}
        manifest = make("index", config, tmp_path / "out", source, tools=tools)
    assert manifest["result"]["steps"][2]["merged_examples"] == ["feline (8) -> cat"]
    assert {frozenset(kinds) for kinds in held(tmp_path / "out", source).values()} == {
        frozenset({"cat"})
    }


def test_trouble_on_the_way_does_not_change_the_result(tmp_path):
    def plain(call, _):
        return listed("one", f"group {number_in(call) % 4}")

    def troubled(call, number):
        i = number_in(call)
        faults = [
            Reply(status=429, headers={"retry-after": "0.05"}),
            Reply(status=500),
            Reply(drop=True),
        ]
        if number == 0 and i % 4 < 3:
            return faults[i % 4]
        return Reply(plain(call, 0).text, delay_s=0.01 * (i % 3))

    source = corpus(tmp_path / "corpus")
    digests = []
    for name, script, concurrency in (("a", plain, 1), ("b", troubled, 8)):
        with serving(script) as server:
            config = options(server.url, concurrency=concurrency)
            made(source, tmp_path / name / "out", config)
        digests.append(folder.read_manifest(tmp_path / name / "out")["digest"])
    assert digests[0] == digests[1]


def test_an_answer_that_cannot_be_read_is_asked_for_again_then_quarantined(tmp_path):
    def script(call, _):
        messages, i = call.body["messages"], number_in(call)
        if i == 3 and len(messages) == 2:
            return Reply("Here are the tags: apples, pears")
        if i == 4:
            return Reply('[{"tag": "cut of')
        if i == 5:
            return Reply("too long", status=400)
        return listed("fine")

    source = corpus(tmp_path / "corpus")
    with serving(script) as server:
        config = options(server.url, tags={"max_bad_fraction": 0.2})
        result = made(source, tmp_path / "out", config)
        again = [c.body["messages"] for c in server.calls if len(c.body["messages"]) == 4]
    assert len(again) == 2
    assert {messages[2]["role"] for messages in again} == {"assistant"}
    assert (result["tagged"], result["repaired"]) == (22, 1)
    assert result["quarantined"] == {"not-json": 1, "refused": 1}
    kinds = held(tmp_path / "out", source)
    assert kinds[3] == {"fine"}
    assert kinds[4] == kinds[5] == set()
    lines = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    told = {one["reason"]: one for one in map(json.loads, lines)}
    assert told["not-json"]["raw"] == '[{"tag": "cut of'
    assert "too long" in told["refused"]["detail"]


def test_too_many_unreadable_answers_stop_it(tmp_path):
    source = corpus(tmp_path / "corpus")
    said = "24 of 24 samples have no readable tags"
    with serving(lambda *_: Reply("no idea")) as server, pytest.raises(BadRowsError, match=said):
        made(source, tmp_path / "out", options(server.url))
    assert not (tmp_path / "out").exists()
    assert len((tmp_path / "out.quarantine.jsonl").read_text().splitlines()) == 24


def test_other_thresholds_cost_no_call_and_phrases_keep_their_key(tmp_path):
    source = corpus(tmp_path / "corpus")
    with serving(lambda *_: listed("a", "b")) as server:
        made(source, tmp_path / "out", options(server.url))
        calls = len(server.calls)
        loose = options(server.url, tags={"association_confidence": 0.5})
        said = []
        made(source, tmp_path / "out", loose, said.append)
        assert len(server.calls) == calls
    assert "recomputed because tags changed" in said[0]
    assert set(MesoOptions().model_dump()) == {
        "language", "min_samples", "max_share", "max_units", "least_score", "merge", "threshold",
    }  # fmt: skip


def test_the_plan_says_tokens_and_cost_and_touches_nothing(tmp_path):
    source = corpus(tmp_path / "corpus")
    before = sorted(tmp_path.rglob("*"))
    said = plan("index", options(price_in=1e6, price_out=1e6), tmp_path / "out", source)
    assert said["cost"] == said["tokens_in"] + said["tokens_out"] > 24 * 100
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tagger_must_be_named():
    with pytest.raises(ValueError, match="needs a block `endpoint`"):
        MesoOptions(extractor="llm")


def test_tags_of_a_model_are_no_work_for_an_array(tmp_path):
    with pytest.raises(UsageError, match="more jobs would not speed it up; leave out --part"):
        store(tmp_path / "work").get_part(
            "index", options(), corpus(tmp_path / "corpus"), Part(1, 2)
        )
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ('[{"tag": "a b", "explanation": "x"}, {"tag": "c"}]', ["a b", "c"]),
        ('```json\n[{"tag": "a"}]\n```', ["a"]),
        ('<think>[{"tag": "no"}]</think>Sure:\n[{"tag": " a\\n b "}] as of [1].', ["a b"]),
        ('{"tags": [{"tag": "a"}]}', ["a"]),
        ('["a", "b", "a"]', ["a", "b"]),
        ("[]", []),
        ('[{"tag": "' + "x" * 99 + '"}, {"tag": "a"}]', ["a"]),
        ('[{"tag": "a"},{"tag": "b"},{"tag": "c"},{"tag": "d"}]', ["a", "b", "c"]),
        ('[{"tag": "\\ud800"}]', ["?"]),
    ],
)
def test_tags_are_read_from_what_models_write(answer, tags):
    assert read_tags(answer, 3) == tags


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I cannot do that", "not-json"),
        ('[{"tag": "a"', "not-json"),
        ('{"tag": "a"}', "not-a-list"),
        ("[1, 2]", "no-tag"),
        ('[{"label": "a"}]', "no-tag"),
        ('[{"tag": null}]', "no-tag"),
        ("[" * 100_000, "not-json"),
    ],
)
def test_what_holds_no_tags_has_a_reason(answer, reason):
    with pytest.raises(Malformed) as caught:
        read_tags(answer, 3)
    assert caught.value.reason == reason


def test_a_long_text_is_shown_without_its_middle():
    text = "a" * 500 + "b" * 500
    said = tag_messages(text, "response", 100)[1]["content"]
    assert "a" * 75 + "\n[...]\n" + "b" * 25 in said
    assert "a" * 76 not in said
    assert text in tag_messages(text, "response", 1_000)[1]["content"]


RUN = """
import sys
from pathlib import Path
from tests.levels.test_tags import made, options
corpus, out, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
made(corpus, out, options(url, concurrency=2))
"""


def test_after_kill_9_the_same_call_ends_with_the_same_bytes_and_asks_for_nothing_twice(tmp_path):
    source = corpus(tmp_path / "corpus", 60)

    def script(call, _):
        return Reply(listed(f"tag {number_in(call) % 7}").text, delay_s=0.03)

    with serving(script) as server:
        process = Child(RUN, source, tmp_path / "a/out", server.url)
        process.until(lambda: len(server.calls) >= 30)
        assert process.kill() == -signal.SIGKILL, "ended before it could be killed"
        assert not (tmp_path / "a/out").exists()
        made(source, tmp_path / "a/out", options(server.url))
        assert len(server.calls) <= 60 + 2  # those under way when the process died
        made(source, tmp_path / "b/out", options(server.url))
    one, other = (folder.read_manifest(tmp_path / name / "out") for name in "ab")
    assert one["digest"] == other["digest"]
