import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.incidence import Incidence
from sft_diversity.selection.config import MIN_TOKENS
from sft_diversity.selection.entropy import (
    choose_by_entropy,
    entropy_bits,
    make_entropy_dial,
)
from sft_diversity.selection.entropy_greedy import maximise_entropy, token_counts
from tests.selection.small import incidence, row_lists

LEVELS = (0, 17, 33, 50, 67, 83, 100)


def texts(n: int, n_types: int, seed: int) -> Incidence:
    """Return `n` texts of 5 to 60 tokens whose share of rare types differs from text to text."""
    rng = np.random.default_rng(seed)
    rows, counts = [], []
    for _ in range(n):
        shares = 1.0 / np.arange(1, n_types + 1) ** rng.uniform(0.3, 2.0)
        tokens = rng.choice(n_types, size=rng.integers(5, 60), p=shares / shares.sum())
        types, times = np.unique(tokens, return_counts=True)
        rows.append(types.astype(np.int32))
        counts.append(times.astype(np.int32))
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Incidence(indptr, np.concatenate(rows), np.concatenate(counts), n_types)


def assert_greedy(made: Incidence, picks: list[int], pool: list[int]) -> None:
    """Check against entropies computed from scratch that no other row would have been better."""
    for at in range(len(picks)):
        before, left = picks[:at], set(pool) - set(picks[:at])
        best = max(entropy_bits(made, np.array([*before, row])) for row in left)
        assert entropy_bits(made, np.array(picks[: at + 1])) == pytest.approx(best, abs=1e-9)


@given(row_lists(), st.integers(1, 9))
def test_each_greedy_pick_leads_to_the_greatest_entropy_of_all(drawn, size):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    pool = [i for i, row in enumerate(rows) if row]
    size = min(size, len(pool))
    picks = maximise_entropy(made, np.array(pool, np.int64), size).tolist()
    assert len(set(picks)) == size
    assert_greedy(made, picks, pool)


def test_greedy_picks_are_exact_for_texts_of_many_lengths():
    made = texts(120, 300, seed=1)
    pool = np.arange(120)
    picks = maximise_entropy(made, pool, 40)
    assert_greedy(made, picks.tolist(), pool.tolist())
    assert maximise_entropy(made, pool, 15).tolist() == picks[:15].tolist()


@given(row_lists())
def test_entropy_is_that_of_the_token_counts(drawn):
    made = incidence(*drawn)
    rows = np.arange(made.n_samples)
    amounts = made.take(rows).occurrences
    assert amounts.sum() == made.counts.sum()
    expected = scipy_entropy(amounts, base=2) if amounts.sum() else 0.0
    assert entropy_bits(made, rows) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 5])
def test_entropy_rises_strictly_over_the_dial_and_meets_its_targets(seed):
    dial = make_entropy_dial(texts(2000, 800, seed=2), 150)
    subsets = [choose_by_entropy(dial, level, seed=seed) for level in LEVELS]
    assert (np.diff([one.entropy_bits for one in subsets]) > 0).all()
    assert not any(one.missed for one in subsets)
    assert subsets[-1].rows.tolist() == dial.greedy.tolist()
    for one in subsets:
        assert len(set(one.rows.tolist())) == 150
        assert one.entropy_bits == pytest.approx(entropy_bits(dial.incidence, one.rows))
        assert token_counts(dial.incidence, one.rows).min() >= MIN_TOKENS


def test_between_tilting_and_greedy_the_subset_is_part_greedy_part_tilted():
    dial = make_entropy_dial(texts(2000, 800, seed=2), 150)
    above = (dial.tilt_bits + dial.high_bits) / 2
    percent = 100 * (above - dial.low_bits) / (dial.high_bits - dial.low_bits)
    chosen = choose_by_entropy(dial, percent)
    m = chosen.greedy_picks
    assert 0 < m < 150
    assert chosen.rows[:m].tolist() == dial.greedy[:m].tolist()
    assert chosen.entropy_bits == pytest.approx(above, rel=0.005)


def test_the_same_seed_gives_the_same_rows_another_seed_others():
    dial = make_entropy_dial(texts(1000, 400, seed=3), 50)
    one, same, other = (choose_by_entropy(dial, 50, seed=seed).rows for seed in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert set(one.tolist()) != set(other.tolist())


def test_short_texts_are_excluded_and_counted():
    made = texts(300, 100, seed=4)
    tokens = token_counts(made, np.arange(300))
    dial = make_entropy_dial(made, 20, min_tokens=30)
    assert dial.too_short == (tokens < 30).sum()
    assert set(choose_by_entropy(dial, 60).rows) <= set(np.flatnonzero(tokens >= 30))


def test_texts_that_are_all_alike_leave_the_dial_no_range():
    made = incidence([{0, 1, 2}] * 10, 3)
    dial = make_entropy_dial(made, 4, min_tokens=1)
    chosen = choose_by_entropy(dial, 50)
    assert dial.low_bits == dial.high_bits == chosen.entropy_bits
    assert not chosen.missed


def test_too_few_long_texts_and_wrong_numbers_are_errors():
    made = texts(30, 50, seed=5)
    with pytest.raises(DataError, match=r"size is 31 but only \d+ of 30 samples have 16 tokens"):
        make_entropy_dial(made, 31)
    with pytest.raises(UsageError):
        make_entropy_dial(made, 0)
    with pytest.raises(UsageError, match="percentage"):
        choose_by_entropy(make_entropy_dial(made, 2), 101)
