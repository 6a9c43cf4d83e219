import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.incidence import Incidence
from sft_diversity.levels import band as bands
from sft_diversity.levels.band import Band


def incidence(rows: list[set[int]], n_kinds: int) -> Incidence:
    indices = np.array([kind for row in rows for kind in sorted(row)], np.int32)
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Incidence(indptr, indices, np.ones_like(indices), n_kinds)


def frequencies(rows: list[set[int]], n_kinds: int) -> np.ndarray:
    return np.array([sum(kind in row for row in rows) for kind in range(n_kinds)], np.int64)


def widened_plainly(rows: list[set[int]], n_kinds: int) -> Band:
    """Return the band of `auto`, by the definition."""
    held = frequencies(rows, n_kinds)
    rows = [row for row in rows if row]
    low = 10 if len(rows) >= 1000 else max(2, len(rows) // 100)
    high = 500
    while high < len(rows):
        if sum(any(low <= held[kind] <= high for kind in row) for row in rows) >= 0.8 * len(rows):
            break
        high = min(2 * high, len(rows))
    return Band(low, high)


def terse(n: int, words: int, empty: float, seed: int) -> tuple[list[set[int]], int]:
    """Return rows of one or two of `words` kinds, of very unequal frequency, some rows empty."""
    rng = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, words + 1) ** 1.5
    kinds = rng.choice(words, size=(n, 2), p=shares / shares.sum())
    sizes = np.where(rng.random(n) < empty, 0, rng.integers(1, 3, n))
    return [set(row[:size].tolist()) for row, size in zip(kinds, sizes, strict=True)], words


def widened(rows: list[set[int]], n_kinds: int) -> Band:
    whole = incidence(rows, n_kinds)
    return bands.widened(lambda: [whole], frequencies(rows, n_kinds))


@given(
    n=st.integers(0, 3000),
    words=st.integers(1, 400),
    empty=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_auto_is_the_first_doubling_at_which_four_fifths_hold_a_kind(n, words, empty, seed):
    rows, n_kinds = terse(n, words, empty, seed)
    assert widened(rows, n_kinds) == widened_plainly(rows, n_kinds)


def test_auto_reads_blocks_of_rows_as_it_reads_all_at_once():
    rows, n_kinds = terse(1500, 20, 0.2, 1)
    blocks = [incidence(rows[start : start + 7], n_kinds) for start in range(0, 1500, 7)]
    whole = widened(rows, n_kinds)
    assert bands.widened(lambda: iter(blocks), frequencies(rows, n_kinds)) == whole
    assert whole.high > 500


@pytest.mark.parametrize(("holding", "high"), [(2400, 500), (2399, 1000)])
def test_four_fifths_are_enough_and_one_sample_less_is_not(holding, high):
    """3,000 samples: `holding` with one of a few words in the band, the others with one of 600."""
    few = [{1 + i % 8} for i in range(holding)]
    rows = few + [{0}] * 600 + [{9 + i} for i in range(3000 - holding - 600)]
    assert max(frequencies(few, 20)) <= 500
    assert widened(rows, 20) == Band(10, high)


def test_the_band_holds_both_its_ends():
    held = bands.within(np.array([9, 10, 500, 501]), Band(10, 500))
    assert held.tolist() == [False, True, True, False]


def test_a_band_is_read_as_it_is_written():
    assert bands.parse("auto") is None
    assert str(bands.parse(" 5:1000 ")) == "5:1000"
