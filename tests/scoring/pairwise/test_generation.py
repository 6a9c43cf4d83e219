"""Batches of a model that runs here."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.scoring.pairwise import generation


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 8), st.integers(1, 100))
def test_batches_hold_every_row_once_and_long_ones_alone(lengths, size, room):
    found = generation.in_batches(lengths, size, room)
    assert sorted(row for group in found for row in group) == list(range(len(lengths)))
    assert all(len(group) <= size for group in found)
    assert all(len(group) == 1 for group in found if any(lengths[r] > room for r in group))


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 8), st.integers(0, 40))
def test_full_batches_of_fewer_prompts_are_batches_of_more(lengths, size, fewer):
    some = [g for g in generation.in_batches(lengths[:fewer], size, 50) if len(g) == size]
    assert all(group in generation.in_batches(lengths, size, 50) for group in some)
