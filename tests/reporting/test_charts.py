"""Charts: places, ticks and texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.reporting.charts import numbers, plot, small
from sft_diversity.reporting.charts.plot import Axes, Series

finite = st.floats(-1e6, 1e6)


@given(low=finite, width=st.floats(1e-3, 1e9))
def test_ticks_lie_between_the_ends_and_are_evenly_spaced(low, width):
    high = low + width
    found = numbers.ticks(low, high)
    assert len(found) <= 12
    assert all(low - 1e-6 * width <= t <= high + 1e-6 * width for t in found)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1234567, "1,234,567"), (-3, "−3"), (0.12345, "0.123"), (2.0, "2"),
     (12345.6, "12,346"), (float("nan"), "–"), (3.2e-7, "3.20e−7"), (True, "True")],
)  # fmt: skip
def test_numbers_read_as_people_write_them(value, text):
    assert numbers.number(value) == text


def test_points_are_placed_by_their_values():
    dots = Series("draw", "s0", dots=[(0, 10), (50, 15), (100, 20)])
    axes = Axes("x", "y", x_range=(0, 100), y_range=(10, 20))
    svg = plot.plot("three points", [dots], axes)
    at = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert at[0] == (plot.LEFT, plot.HEIGHT - plot.BOTTOM)
    assert at[2] == (plot.WIDTH - plot.RIGHT, plot.TOP)
    assert at[1] == pytest.approx(((at[0][0] + at[2][0]) / 2, (at[0][1] + at[2][1]) / 2), abs=0.1)


def test_a_name_is_escaped_wherever_it_stands():
    svg = plot.plot("<a>", [Series("<b>", "s0", dots=[(0, 1)])], Axes("<c>", "<d>"))
    svg += plot.legend([("<e>", "s0")])
    assert not re.search("<[abcde]>", svg)


def test_an_interval_is_coloured_only_where_it_is_claimed():
    assert "up" in small.interval(1.0, 0.5, 1.5, 2.0, True)
    assert "down" in small.interval(-1.0, -1.5, -0.5, 2.0, True)
    assert "open" in small.interval(1.0, 0.5, 1.5, 2.0, False)
    assert "circle" not in small.interval(None, None, None, 2.0, False)


def test_heat_is_as_strong_as_the_value_on_either_side():
    assert [small.step(v) for v in (-1.0, -0.5, 0.0, 0.5, 7.0, None)] == [
        "h-6", "h-3", "h0", "h3", "h6", "none",
    ]  # fmt: skip


def test_one_value_and_no_value_make_a_plot():
    for dots in ([], [(5.0, 5.0)]):
        assert "<svg" in plot.plot("few", [Series("s", "s0", dots=dots)], Axes("x", "y"))
