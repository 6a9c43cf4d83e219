"""Lineages and recipes: no path in what others see, and a cause named where one is known."""

from __future__ import annotations

import pytest

from sft_diversity.core import drafts, lineage


def tokens(tokenizer="one", key="k", **more):
    made = {"stage": "tokens", "version": 1, "inputs": {"corpus": "c", "tokenizer": tokenizer}}
    return made | {"config": {"component": "response"}} | more


def subset(corpus="c", contents="k", **read):
    """Return the manifest of a subset made from a token pass."""
    inputs = {"corpus": corpus, "tokens-response": contents}
    before = {"corpus": {"stage": "ingest", "version": 1}, "tokens-response": tokens(**read)}
    return {"stage": "select", "version": 3, "inputs": inputs, "lineage": before}


def test_public_options_hold_no_path_and_keep_words_that_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "words.json").touch()
    given = {
        "tokenizer": "a/words.json", "model": "org/name", "gone": "/no/such/file", "here": "./a",
        "judge": {"model": str(tmp_path / "a"), "n": None}, "against": ["a/words.json"],
        "text": "line\nline",
    }  # fmt: skip
    said, paths = lineage.public(given)
    assert said == given | {
        "tokenizer": "words.json", "gone": "file", "here": "a", "judge": {"model": "a", "n": None},
        "against": ["words.json"],
    }  # fmt: skip
    assert paths["judge.model"] == str(tmp_path / "a")
    assert paths["against.0"] == "a/words.json"


def test_equal_manifests_do_not_differ():
    assert lineage.differences(lineage.facts(subset()), lineage.facts(subset())) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"corpus": "d", "contents": "l"}, ["corpus is d here, c there"]),
        (
            {"tokenizer": "two", "contents": "l"},
            ["tokens-response: tokenizer is two here, one there"],
        ),
        ({"contents": "l"}, ["tokens-response: contents is l here, k there"]),
        ({"version": 2}, ["tokens-response: tokens version is 2 here, 1 there"]),
    ],
)
def test_what_differs_is_named_by_its_cause(changed, named):
    assert lineage.differences(lineage.facts(subset()), lineage.facts(subset(**changed))) == named


def test_an_incidence_has_the_facts_of_what_it_was_made_from():
    made = {
        "stage": "index", "version": 1, "inputs": {"corpus": "c", "tokens": "k"},
        "config": {"strategy": "micro-response", "band": {"low": 2, "high": None}},
        "lineage": {"tokens": tokens()},
    }  # fmt: skip
    manifest = subset() | {"inputs": {"corpus": "c", "incidence": "i"}}
    manifest["lineage"]["incidence"] = made
    assert lineage.facts(manifest)["incidence"] == {
        "tokenizer": "one", "tokens version": 1, "component": "response", "index version": 1,
        "strategy": "micro-response", "band.low": 2, "contents": "i",
    }  # fmt: skip


def test_the_stages_of_a_corpus_come_first_to_last(tmp_path):
    for stage, name, before in (("ingest", "a", {}), ("clean", "b", {"corpus": tmp_path / "a"})):
        draft = drafts.open_draft(tmp_path / name, drafts.Work(stage, 1, {}, {"name": name}))
        draft.commit(lineage=lineage.of(**before))
    found = lineage.corpora_of({"lineage": lineage.of(corpus=tmp_path / "b")})
    assert [one["stage"] for one in found] == ["ingest", "clean"]
    assert lineage.again(found[1], "C") == (
        "sftdiv clean CORPUS --config corpus.yaml --out C", "{name: b}\n"
    )  # fmt: skip
