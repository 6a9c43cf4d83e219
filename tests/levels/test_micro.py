from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import corpus as corpora
from sft_diversity.core import incidence
from sft_diversity.core.config import build
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.levels.micro import MicroOptions, keep_kinds
from sft_diversity.levels.stage import IndexConfig
from tests import tiny
from tests.making import make


@pytest.fixture
def index(tmp_path, topical, tokenizer):
    """Return what makes the index of a band in `tmp_path / "index"`."""

    def made(band, **more):
        options = {"strategy": "micro-instruction", "band": band, "tokenizer": str(tokenizer)}
        return make("index", options, tmp_path / "index", topical, **more)

    return made


def test_kinds_are_the_token_types_that_twelve_to_twenty_samples_hold(index, topical, tmp_path):
    manifest = index("12:20")
    reference = tiny.tokenizer(400)
    texts = corpora.read(topical, ["instruction"])["instruction"].to_pylist()
    ids = [reference(text, add_special_tokens=False)["input_ids"] for text in texts]
    held = Counter(token for row in ids for token in set(row))
    within = sorted(token for token, samples in held.items() if 12 <= samples <= 20)
    kinds = pq.read_table(tmp_path / "index" / "kinds.parquet")
    assert kinds["token_id"].to_pylist() == within
    assert kinds["samples"].to_pylist() == [held[token] for token in within]
    assert {12, 20} <= set(kinds["samples"].to_pylist())  # both ends are in
    stored = incidence.load(tmp_path / "index")
    for row, encoded in enumerate(ids):
        span = slice(stored.indptr[row], stored.indptr[row + 1])
        named = {within[k] for k in stored.indices[span]}
        assert named == set(encoded) & set(within)
    empty = sum(not set(row) & set(within) for row in ids)
    assert manifest["result"]["samples_without_kind"] == empty
    assert manifest["result"]["kinds"] == len(within)


@given(st.lists(st.lists(st.integers(0, 7), max_size=6), max_size=12), st.data())
def test_dropping_kinds_keeps_the_others_rows(rows, data):
    held = [sorted(set(row)) for row in rows]
    indptr = np.cumsum([0] + [len(row) for row in held]).astype(np.int64)
    indices = np.array([k for row in held for k in row], dtype=np.int32)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=8, max_size=8)))
    whole = Incidence(indptr, indices, np.ones_like(indices), 8)
    small = keep_kinds([whole], keep)
    number = {old: new for new, old in enumerate(np.flatnonzero(keep).tolist())}
    for i, row in enumerate(held):
        span = small.indices[small.indptr[i] : small.indptr[i + 1]]
        assert span.tolist() == [number[k] for k in row if k in number]
    assert small.n_kinds == keep.sum()


def test_an_empty_band_is_an_error_that_says_to_widen_it(index):
    with pytest.raises(DataError, match="widen the band"):
        index("49:60")


def test_the_band_that_auto_chose_and_the_share_that_holds_a_kind_are_said(index):
    lines = []
    manifest = index("auto", say=lines.append)
    result = manifest["result"]
    assert manifest["config"]["band"] == "auto"
    assert result["band"] == "2:500"  # fewer than 1,000 samples
    held = result["samples"] - result["samples_without_kind"]
    assert result["share_with_kind"] == round(held / result["samples"], 6)
    assert f"band 2:500 (auto), {result['share_with_kind']:.1%}" in lines[-1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"band": "9:3"}, "`band` is '9:3': LOW must be at least 1 and not above HIGH"),
        ({"band": "0:3"}, "`band` is '0:3': LOW must be at least 1"),
        ({"band": "wide"}, "`band` is 'wide': must be auto or LOW:HIGH, two numbers of samples"),
        ({"band": "-1:3"}, "`band` is '-1:3': must be auto or LOW:HIGH"),
        ({"band": 160}, '`band` is 160: in YAML a band stands in quotes, "LOW:HIGH"'),
        ({"band_min": 2}, 'are one key now; give micro.band: "2:500"'),
        ({"band_min": 2, "band_max": 60}, 'are one key now; give micro.band: "2:60"'),
    ],
)
def test_a_band_that_cannot_be_is_refused_in_one_line(given, said):
    with pytest.raises(UsageError) as caught:
        build(MicroOptions, given, "options")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_among_the_micro_options_is_refused_with_its_place():
    with pytest.raises(UsageError, match="named by the option `tokenizer`, beside `micro`"):
        build(IndexConfig, {"micro": {"tokenizer": "mine"}}, "config index.yaml")
