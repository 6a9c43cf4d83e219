"""The estimator and the dial as scikit-learn's users meet them: conventions, equal rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import sft_diversity as sd
from sft_diversity.core.errors import DataError, UsageError
from tests.selection.small import peel_plainly, random_rows, row_lists

FEWER_ROWS = "transform returns the rows picked, fewer than it is given, and of the fitted data"
DIRECTION = "the check's data has rows of zeros, and a zero vector has no direction"
#: What does not hold of an estimator that picks rows, with the reason; all other checks pass.
APART = {
    "check_transformer_general": FEWER_ROWS,
    "check_transformer_data_not_an_array": FEWER_ROWS,
    "check_methods_sample_order_invariance": FEWER_ROWS,
    "check_methods_subset_invariance": FEWER_ROWS,
    "check_fit_idempotent": FEWER_ROWS,
    "check_estimators_dtypes": DIRECTION,
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [sd.DiversitySelector(), sd.DiversitySelector(dense="facility-location")],
    expected_failed_checks=lambda _: APART,
)
def test_it_keeps_to_the_conventions(estimator, check):
    check(estimator)


def matrix(rows, n_kinds):
    """Return rows of kinds as a CSR matrix with counts 1 to 3."""
    pairs = [(i, kind) for i, row in enumerate(rows) for kind in sorted(row)]
    at = tuple(np.array(pairs).T) if pairs else (np.zeros(0, int), np.zeros(0, int))
    counts = 1 + at[1] % 3
    return sp.csr_matrix((counts, at), shape=(len(rows), n_kinds))


@pytest.fixture(scope="module")
def samples():
    """Texts in the order of their corpus, so that rows here are rows there."""
    made = [{"instruction": f"Say {i}", "output": f"{i} is said"} for i in range(240)]
    return sd.ingest(made).to_polars()


@pytest.mark.parametrize(
    "options",
    [
        {"diversity": 0}, {"diversity": 40, "random_state": 3},
        {"diversity": 80, "fill": "balance"}, {"fill": "uniform"},
        {"diversity": 50, "max_per_kind": 14},
    ],
)  # fmt: skip
def test_rows_and_figures_are_those_of_select_on_the_same_incidence(samples, options):
    held = matrix(random_rows(240, 60, seed=5), 60)
    asked = {("seed" if k == "random_state" else k): v for k, v in options.items()}
    picked = sd.select(samples, size=30, kinds=held, **asked)
    selector = sd.DiversitySelector(size=30, **options).fit(held)
    assert selector.indices_.tolist() == picked.rows.tolist()
    named = ("kinds_covered", "k_min", "k_max", "kinds_target", "random_kinds", "pool", "evenness")
    assert {n: selector.result_[n] for n in named} == {n: picked.figures[n] for n in named}


@pytest.mark.parametrize("strategy", ["k-center", "facility-location"])
def test_rows_are_those_of_select_on_the_same_embeddings(samples, strategy):
    points = np.random.default_rng(1).normal(size=(240, 12))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16)
    picked = sd.select(samples, size=25, strategy=strategy, embeddings=points)
    selector = sd.DiversitySelector(size=25, dense=strategy).fit(points.astype(np.float32))
    assert selector.indices_.tolist() == picked.rows.tolist()


def test_entropy_reads_the_counts():
    held = matrix(random_rows(240, 60, seed=6), 60)
    low, high = (
        sd.DiversitySelector(30, diversity=p, objective="entropy", min_tokens=1).fit(held)
        for p in (0, 100)
    )

    def bits(rows):
        amounts = np.asarray(held[rows].sum(axis=0)).ravel()
        shares = amounts[amounts > 0] / amounts.sum()
        return -(shares * np.log2(shares)).sum()

    assert bits(high.indices_) > bits(low.indices_)
    assert bits(high.indices_) == pytest.approx(high.result_["high_bits"], abs=1e-5)


def test_what_is_fitted_says_which_rows_in_which_order():
    held = matrix(random_rows(100, 40, seed=7), 40)
    selector = sd.DiversitySelector(size=0.2, diversity=30, random_state=1)
    small = selector.fit_transform(held)
    assert small.shape == (20, 40)
    assert (small != held[selector.indices_]).nnz == 0
    assert selector.ranking_[selector.indices_].tolist() == list(range(1, 21))
    assert (np.delete(selector.ranking_, selector.indices_) == 21).all()
    again = clone(selector)
    assert again.get_params() == selector.get_params()
    assert again.fit(sp.coo_array(held)).indices_.tolist() == selector.indices_.tolist()
    drawn = {tuple(clone(selector).set_params(random_state=s).fit(held).indices_) for s in range(4)}
    assert len(drawn) > 1


def test_it_is_the_last_step_of_a_pipeline():
    texts = [f"{'red' if i % 3 else 'blue'} stone number{i % 17} river{i % 29}" for i in range(90)]
    chain = make_pipeline(CountVectorizer(), sd.DiversitySelector(size=12))
    small = chain.fit_transform(texts)
    picks = chain[-1].indices_
    words = {word for i in picks for word in texts[i].split()}
    assert small.shape[0] == 12
    assert len(words) == chain[-1].result_["kinds_covered"] == len(np.unique(small.indices))


@given(row_lists(max_rows=12, max_kinds=8), st.integers(0, 9))
def test_the_pool_of_k_is_what_is_left_of_a_plain_peeling(drawn, k):
    rows, n_kinds = drawn
    if not any(rows):
        with pytest.raises(DataError, match="samples hold a kind"):
            sd.Dial(matrix(rows, n_kinds), 1)
        return
    steps = [(pool, kinds) for pool, kinds in peel_plainly(rows) if pool]
    near = min(abs(len(kinds) - k) for _, kinds in steps)
    pool = next(pool for pool, kinds in steps if abs(len(kinds) - k) == near)  # the larger first
    assert sd.Dial(matrix(rows, n_kinds), 1).pool(k).tolist() == sorted(pool)


def test_the_dial_says_what_the_selector_reaches():
    held = matrix(random_rows(300, 80, seed=8), 80)
    dial = sd.Dial(held, 25)
    assert 0 < dial.k_min < dial.k_max <= 80
    assert (dial.at(0).kinds, dial.at(100).kinds) == (dial.k_min, dial.k_max)
    for percent in (0, 35, 70, 100):
        selector = sd.DiversitySelector(25, diversity=percent).fit(held)
        reached = len(np.unique(held[selector.indices_].indices))
        assert reached == dial.at(percent).kinds
        assert set(selector.indices_) <= set(dial.at(percent).pool)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sd.Dial(np.ones((3, 3)), 1), "scipy sparse matrix of samples × kinds"),
        (lambda: sd.Dial(sp.csr_matrix([[-1.0, 2.0]]), 1), "entries below 0"),
    ],
)
def test_what_is_no_incidence_is_said_in_one_line(call, said):
    with pytest.raises(UsageError, match=said):
        call()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "give a whole number"),
        ({"size": 2.5}, "give a whole number"),
        ({"size": 500}, "size is 500"),
        ({"objective": "words"}, "give kinds or entropy"),
        ({"fill": "words"}, "must be one of"),
        ({"diversity": 101}, "give 0 to 100"),
    ],
)
def test_what_cannot_be_is_a_value_error(options, said):
    with pytest.raises(ValueError, match=said):
        sd.DiversitySelector(**options).fit(matrix(random_rows(50, 20, seed=1), 20))
    with pytest.raises(ValueError, match="give k-center or facility-location"):
        sd.DiversitySelector(dense="words").fit(np.ones((9, 2)))
    fitted = sd.DiversitySelector().fit(np.ones((9, 2)))
    with pytest.raises(ValueError, match="picked among 9"):
        fitted.transform(np.ones((8, 2)))


def test_a_frame_of_polars_is_dense_data():
    frame = pl.DataFrame(np.random.default_rng(2).normal(size=(20, 3)), schema=["a", "b", "c"])
    selector = sd.DiversitySelector(size=4).fit(frame)
    assert selector.feature_names_in_.tolist() == ["a", "b", "c"]
    assert selector.transform(frame).shape == (4, 3)
