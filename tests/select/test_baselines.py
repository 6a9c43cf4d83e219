import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.select.baselines import BINS, longest_rows, match_lengths, random_rows

lengths = st.lists(st.integers(0, 30), min_size=1, max_size=60).map(np.array)


def test_random_draws_only_from_the_rows_given_and_a_smaller_size_is_a_prefix():
    rows = np.array([3, 5, 7, 9])
    whole = random_rows(rows, 4, seed=1)
    assert sorted(whole) == rows.tolist()
    assert random_rows(rows, 2, seed=1).tolist() == whole[:2].tolist()


def test_longest_breaks_ties_by_row():
    assert longest_rows(np.array([2, 5, 5, 9], np.int32), 3).tolist() == [3, 1, 2]


@given(lengths, lengths, st.data(), st.integers(0, 5))
def test_a_length_match_is_exact_in_number_and_honest_about_bins(rows, reference, data, seed):
    size = data.draw(st.integers(1, len(rows)))
    match = match_lengths(rows, reference, size, seed)
    bins = np.bincount(np.searchsorted(match.edges, rows[match.rows]), minlength=BINS)
    present = np.bincount(np.searchsorted(match.edges, rows), minlength=BINS)
    assert len(set(match.rows.tolist())) == size
    assert match.wanted.sum() == size
    assert bins.tolist() == match.got.tolist()
    for short in match.short_bins:
        assert match.got[short] == present[short]  # short only where nothing is left


@given(lengths, st.integers(0, 5))
def test_matching_a_corpus_with_itself_fills_every_bin(rows, seed):
    match = match_lengths(rows, rows, len(rows), seed)
    assert len(match.short_bins) == 0


def test_each_bin_gets_its_share_of_the_reference():
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 1000, size=20_000)
    reference = rng.integers(400, 600, size=1000)
    match = match_lengths(rows, reference, 1000, seed=2)
    shares = np.bincount(np.searchsorted(match.edges, reference), minlength=BINS)
    assert match.got.tolist() == shares.tolist()
    inside = np.sort(rows[match.rows])[100:-100]
    assert np.abs(np.quantile(inside, 0.5) - np.quantile(reference, 0.5)) < 10


def test_what_a_bin_lacks_comes_from_the_nearest_bins():
    reference = np.repeat(np.arange(10), 2)
    rows = np.array([0, 0, 8, 8, 8, 8])
    match = match_lengths(rows, reference, 4, seed=0)
    assert match.got.sum() == 4
    assert set(match.short_bins) != set()


def test_errors_name_size_and_limit():
    with pytest.raises(DataError, match="size is 3 but only 2 samples are eligible"):
        random_rows(np.arange(2), 3, seed=0)
    with pytest.raises(UsageError):
        longest_rows(np.arange(2), 0)
    with pytest.raises(DataError, match="empty reference"):
        match_lengths(np.arange(2), np.array([], np.int64), 1, seed=0)
