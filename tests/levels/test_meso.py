import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence
from sft_diversity.core.errors import DataError
from sft_diversity.core.stage import Tool
from sft_diversity.levels.meso import MesoOptions
from tests.levels import making
from tests.making import make


def options(**chosen):
    return {"merge": "none", "min_samples": 2} | chosen


def lent(encode):
    """Return a loan of an encoder that is a function of names."""
    return {"encoder": lambda options, dry: Tool("made", {}, lambda: encode)}


def units_of(corpus, out, meso, component="instruction", tools=None):
    """Return the units of each text, the kinds and the manifest."""
    asked = {"strategy": f"meso-{component}", "meso": meso}
    manifest = make("index", asked, out, corpus, tools=tools)
    stored, kinds = incidence.load(out), pq.read_table(out / "kinds.parquet").to_pydict()
    rows = corpora.read(corpus, ["id", component])
    assert incidence.load_ids(out).to_pylist() == rows["id"].to_pylist()
    held = {
        text: [kinds["kind"][k] for k in stored.indices[stored.indptr[i] : stored.indptr[i + 1]]]
        for i, text in enumerate(rows[component].to_pylist())
    }
    return held, kinds, manifest


def write(tmp_path, texts):
    return making.corpus(tmp_path / "corpus", [(text, f"answer {text}") for text in texts])


def test_every_topic_of_a_plain_corpus_is_found(topical, tmp_path):
    held, kinds, manifest = units_of(topical, tmp_path / "index", options())
    assert set(making.TOPICS) <= set(kinds["kind"])
    for text, units in held.items():
        (topic,) = [topic for topic in making.TOPICS if topic in text]
        assert topic in units
    result = manifest["result"]
    assert result["units_raw"] >= result["units_normalised"] >= result["units_frequent"]
    assert result["units_chosen"] >= result["units_merged"] >= result["units_kept"]
    assert result["units_kept"] == len(kinds["kind"])


def test_case_and_inflection_make_no_difference(tmp_path):
    texts = [
        "Who owns two Violins?",
        "Where is the violin?",
        "Tell me of the VIOLIN.",
        "I have a violin.",
    ]
    held, kinds, _ = units_of(write(tmp_path, texts), tmp_path / "index", options())
    assert list(held.values()) == [["violin"]] * 4
    assert kinds["samples"] == [4]


def test_near_synonyms_count_for_the_more_frequent_one(tmp_path):
    texts = [f"{verb} the photo." for verb in ("Describe", "Take", "Crop", "Sell")]
    texts += [f"{verb} the picture." for verb in ("Describe", "Take")]
    texts += [f"{verb} the violin." for verb in ("Describe", "Take")]

    def encode(names):
        return making.hashed_vectors([name.replace("picture", "photo") for name in names])

    held, kinds, manifest = units_of(
        write(tmp_path, texts),
        tmp_path / "index",
        options(merge="encoder"),
        tools=lent(encode),
    )
    assert dict(zip(kinds["kind"], kinds["samples"], strict=True)) == {"photo": 6, "violin": 2}
    assert held["Describe the picture."] == ["photo"]
    assert ["photo", "picture"] in [sorted(members) for members in kinds["members"]]
    assert manifest["result"]["units_merged"] == manifest["result"]["units_chosen"] - 1


def test_rare_and_common_units_are_dropped(tmp_path):
    texts = [f"Paint the {noun} near the bridge." for noun in ["tulip"] * 1 + ["rose"]]
    texts += [f"Paint the {noun} of a bridge." for noun in ("rose", "lamp", "oak", "elm")]
    texts += [f"Sell the {noun}." for noun in ("lamp", "oak", "bridge")]
    corpus = write(tmp_path, texts)
    _, kinds, _ = units_of(corpus, tmp_path / "a", options(max_share=1.0))
    assert "bridge" in kinds["kind"]
    assert "tulip" not in kinds["kind"]
    assert "elm" not in kinds["kind"]
    assert min(kinds["samples"]) >= 2


def test_common_is_a_share_but_never_fewer_than_a_hundred_samples():
    assert MesoOptions(max_share=0.02).bounds(117_000) == (5, 2340)
    assert MesoOptions(max_share=0.02).bounds(1_000) == (3, 100)
    assert MesoOptions(max_share=0.02).bounds(40) == (2, 40)
    assert MesoOptions(min_samples=7).bounds(40) == (7, 40)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_no_sample_holds_more_than_its_budget(tmp_path, most):
    nouns = ["violin", "piano", "drum", "flute", "harp", "guitar"]
    rng = random.Random(0)
    texts = [f"Compare the {', the '.join(rng.sample(nouns, 5))}." for _ in range(12)]
    held, _, _ = units_of(
        write(tmp_path, texts), tmp_path / "index", options(max_units=most, least_score=0)
    )
    assert max(len(units) for units in held.values()) == most


def test_units_of_one_sample_share_no_half_of_their_words(topical, tmp_path):
    held, _, _ = units_of(topical, tmp_path / "index", options())
    for units in held.values():
        words = [set(unit.split()) for unit in units]
        for i, a in enumerate(words):
            assert all(2 * len(a & b) < min(len(a), len(b)) for b in words[:i])


ODD = {
    "你好世界 你好世界": "other script",
    "你好世界 再见": "other script twice",
    "{}[]();;==": "marks only",
    "x" * 3000: "one long token",
    "42 3.14": "numbers",
    "Who are you?": "function words",
    "": "empty",
}


def test_odd_texts_have_an_outcome_and_samples_without_a_kind_are_counted(tmp_path):
    corpus = making.corpus(tmp_path / "corpus", list(ODD.items()))
    held, kinds, manifest = units_of(corpus, tmp_path / "index", options())
    assert set(kinds["kind"]) == {"你好", "好世", "世界"}
    assert held["你好世界 你好世界"] == sorted(kinds["kind"])
    assert manifest["result"]["samples_without_kind"] == len(ODD) - 2
    stored = incidence.load(tmp_path / "index")
    assert stored.counts.max() == 2
    assert manifest["rows"]["kept"] == len(ODD)


def test_a_corpus_without_units_is_an_error_that_says_what_to_lower(tmp_path):
    with pytest.raises(DataError, match=r"lower meso\.min_samples"):
        units_of(write(tmp_path, ["Who are you?", "", "a violin"]), tmp_path / "index", options())


def test_the_cut_into_shards_changes_no_byte(tmp_path):
    def stored(digits):
        corpus = making.topical(tmp_path / f"corpus-{digits}", digits)
        out = tmp_path / f"index-{digits}"
        meso = options(merge="encoder", threshold=0.5)
        units_of(corpus, out, meso, tools=lent(making.hashed_vectors))
        return {f["path"]: f["sha256"] for f in folder.read_manifest(out)["files"]}

    assert stored(0) == stored(1) == stored(2)


@settings(max_examples=4)
@given(st.permutations(range(48)), st.integers(20, 48))
def test_rows_depend_on_the_texts_and_not_on_their_order(tmp_path_factory, order, many):
    tmp_path = tmp_path_factory.mktemp("order")
    texts = [frame.replace("{}", t) for t in making.TOPICS for frame in making.FRAMES]
    chosen = [texts[i] for i in order[:many]]
    salted = making.corpus(tmp_path / "a", [(text, "one") for text in chosen])
    other = making.corpus(tmp_path / "b", [(text, "two") for text in chosen])  # other ids, order
    one, kinds, _ = units_of(salted, tmp_path / "ia", options())
    two, same, _ = units_of(other, tmp_path / "ib", options())
    assert one == two
    assert kinds == same
    stored = incidence.load(tmp_path / "ia")
    for i in range(stored.n_samples):
        row = stored.indices[stored.indptr[i] : stored.indptr[i + 1]]
        assert (np.diff(row) > 0).all()
    assert stored.counts.min() >= 1
    assert np.bincount(stored.indices, minlength=stored.n_kinds).tolist() == kinds["samples"]
