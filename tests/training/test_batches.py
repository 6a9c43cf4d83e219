from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.training.batches import REAL_SHARE, least_padded, micro_batches, reading_order

sizes = st.lists(st.integers(1, 50), min_size=1, max_size=40).map(np.array)


@given(tokens=sizes, epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_every_epoch_reads_every_sample_once(tokens, epochs, seed):
    order = reading_order(tokens, 4, seed, epochs=epochs)
    for epoch in np.split(order, epochs):
        assert sorted(epoch) == list(range(len(tokens)))


@given(tokens=sizes, steps=st.integers(1, 30))
def test_a_budget_of_steps_is_exact(tokens, steps):
    assert len(reading_order(tokens, 4, 0, steps=steps)) == 4 * steps


@given(tokens=sizes, budget=st.integers(1, 5_000))
def test_a_budget_of_tokens_stops_with_the_sample_that_reaches_it(tokens, budget):
    read = tokens[reading_order(tokens, 4, 0, tokens=budget)]
    assert read.sum() >= budget > read[:-1].sum()


def test_a_longer_run_begins_as_a_shorter_one():
    tokens = np.arange(1, 30)
    short, long = (reading_order(tokens, 4, 7, epochs=e) for e in (1, 3))
    assert (long[: len(short)] == short).all()
    assert (reading_order(tokens, 4, 8, epochs=1) != short).any()


@given(lengths=sizes, batch=st.integers(1, 9), micro=st.integers(1, 9), epochs=st.integers(1, 3))
def test_micro_batches_cut_every_step_and_lose_nothing(lengths, batch, micro, epochs):
    micro = min(micro, batch)
    order = reading_order(lengths, batch, 0, epochs=epochs)
    cut = micro_batches(order, lengths, batch, micro)
    per_step = -(-batch // micro)
    for step, start in enumerate(range(0, len(order), batch)):
        mine = cut[step * per_step : (step + 1) * per_step]
        assert sorted(r for rows in mine for r in rows) == sorted(order[start : start + batch])
    assert all(1 <= len(rows) <= micro for rows in cut)


def test_like_lengths_share_a_micro_batch():
    lengths = np.array([5, 100, 6, 90])
    assert micro_batches(np.arange(4), lengths, 4, 2) == [[1, 3], [2, 0]]


def test_half_an_epoch_reads_half_the_samples():
    assert len(reading_order(np.ones(10, dtype=int), 4, 0, epochs=0.5)) == pytest.approx(5)


def test_epochs_read_in_orders_of_their_own():
    epochs = np.split(reading_order(np.ones(40, dtype=int), 4, 3, epochs=4), 4)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def computed(cut, lengths):
    return sum(len(rows) * int(lengths[rows].max()) for rows in cut if len(rows))


@given(lengths=sizes, batch=st.integers(1, 12), most=st.integers(1, 120), team=st.integers(1, 3))
def test_steps_are_cut_within_the_tokens_and_lose_nothing(lengths, batch, most, team):
    order = reading_order(lengths, batch, 0, epochs=1)
    cut = least_padded(order, lengths, batch, most, team)
    assert len(cut) % team == 0
    assert all(len(rows) <= 1 or computed([rows], lengths) <= most for rows in cut)
    longest = [lengths[rows].max() for rows in cut if rows]
    assert sorted(row for rows in cut for row in rows) == sorted(order)
    assert longest[0] == lengths[order[:batch]].max()  # the longest first
    at, per_step = 0, []
    for start in range(0, len(order), batch):
        left, count = set(order[start : start + batch].tolist()), 0
        while left:
            left -= set(cut[at])
            at, count = at + 1, count + 1
        per_step.append(-(-count // team))
        at = team * sum(per_step)
    assert len(set(per_step[:-1])) <= 1
    assert per_step[-1] <= per_step[0]


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=9).map(np.array))
def test_no_cut_into_as_many_pieces_pads_less_and_fewer_pad_too_much(lengths):
    """Against all cuts of one step."""
    step = np.argsort(-lengths, kind="stable")

    def least(pieces):
        edges = itertools.combinations(range(1, len(step)), pieces - 1)
        return min(computed(np.split(step, list(at)), lengths) for at in edges)

    cut = least_padded(np.arange(len(lengths)), lengths, len(lengths), 10**6)
    assert computed(cut, lengths) == least(len(cut))
    assert REAL_SHARE * least(len(cut)) <= lengths.sum()
    assert len(cut) == 1 or REAL_SHARE * least(len(cut) - 1) > lengths.sum()
