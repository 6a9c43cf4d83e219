from __future__ import annotations

import pytest

import sft_diversity
from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError
from sft_diversity.exporting import licences, stage
from tests import making
from tests.exporting import fixtures


@pytest.mark.parametrize(
    ("licence", "identifier", "doubt"),
    [
        ("Apache-2.0", "apache-2.0", None),
        ("MIT", "mit", None),
        ("MIT License", "mit", None),
        ("CC BY-SA 3.0", "cc-by-sa-3.0", None),
        ("cc-by-sa-3.0", "cc-by-sa-3.0", None),
        ("CC-BY-NC-4.0", "cc-by-nc-4.0", "non-commercial or research only"),
        ("CC-BY-ND-4.0", "cc-by-nd-4.0", "no derivatives"),
        (
            "Apache-2.0; its README limits use to academic research",
            "other",
            "non-commercial or research only",
        ),
        ("unknown", "unknown", "no licence stated"),
        ("", "unknown", "no licence stated"),
        ("apache-2.0, mit", "other", None),
        ("apache-2.0, unknown", "other", "no licence stated"),
        ("My own terms", "other", "not a licence that is known here"),
    ],
)
def test_a_licence_has_an_identifier_and_perhaps_a_doubt(licence, identifier, doubt):
    assert licences.identifier(licence) == identifier
    assert licences.doubt(licence) == doubt


def test_doubts_name_the_source_the_licence_and_why():
    assert licences.doubts({"b": "CC-BY-NC-4.0", "a": "", "c": "MIT"}) == [
        "a (no licence stated)",
        "b (CC-BY-NC-4.0: non-commercial or research only)",
    ]


def test_a_folder_shows_them_and_a_push_asks_first(tmp_path):
    source, corpus = fixtures.subset(tmp_path / "subset"), fixtures.corpus(tmp_path / "corpus")
    said: list[str] = []
    options = {"corpus": corpus, "work": tmp_path / "work"}
    making.export(source, str(tmp_path / "out"), stage.ExportConfig(**options), said.append)
    assert "export: licences of 1 of 2 sources need a look: b (no licence stated)" in said
    with pytest.raises(UsageError, match=r"b \(no licence stated\); may these go to me/x"):
        sft_diversity.export(source, to="hub:me/x", **options)
    assert not (tmp_path / "work").exists()


def test_what_the_config_states_counts(tmp_path):
    manifest = folder.read_manifest(fixtures.subset(tmp_path / "subset"))
    given = {"a": "MIT", "b": "MIT", "c": "CC-BY-NC-4.0"}
    assert licences.of_rows(manifest, given) == {"a": "MIT", "b": "MIT"}


def test_a_model_answers_for_what_it_was_trained_on(tmp_path):
    corpus = fixtures.corpus(tmp_path / "corpus")
    key = folder.contents_key(folder.read_manifest(corpus), "samples/")
    manifest = {"stage": "finetune", "inputs": {"subset": key}, "result": {}}
    unknown = licences.doubts(licences.of_rows(manifest, {}))
    assert unknown == ["what the model was trained on (no licence stated)"]
    assert licences.of_rows(manifest, {}, corpus) == {"a": "Apache-2.0", "b": "unknown"}
    with pytest.raises(UsageError, match="not what the model was trained on"):
        licences.of_rows(manifest | {"inputs": {"subset": "0"}}, {}, corpus)
