from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sft_diversity.core.numbers import (
    entropy,
    evenness,
    interval,
    save_array,
    student_p,
    student_reach,
)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_entropy_is_that_of_scipy(counts):
    held = np.array(counts)
    expected = float(stats.entropy(held, base=2)) if held.sum() else 0.0
    assert entropy(held) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "even"), [([], 1.0), ([1], 1.0), ([0, 5], 1.0), ([3, 3, 3], 1.0), ([1, 2], 0.918296)]
)
def test_evenness_is_entropy_over_its_greatest_value(counts, even):
    assert evenness(np.array(counts, dtype=np.int64)) == pytest.approx(even, abs=1e-6)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=30))
def test_evenness_is_that_which_select_states(counts):
    from sft_diversity.selection import engine

    assert evenness(np.array(counts)) == pytest.approx(engine.evenness(np.array(counts)), abs=1e-12)


def test_an_interval_leaves_out_what_is_not_finite():
    values = np.append(np.arange(101.0), [np.nan, np.inf])
    assert interval(values) == pytest.approx((2.5, 97.5))
    assert interval(values, 0.8) == pytest.approx((10, 90))
    assert interval(np.array([1.0, np.nan])) == (None, None)


@pytest.mark.parametrize("df", [1, 2, 30])
@pytest.mark.parametrize("t", [0.0, -1.3, 12.7])
def test_students_law_is_that_of_scipy_stats(t, df):
    assert student_p(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-12)
    assert student_reach(0.95, df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-12)


@pytest.mark.parametrize("array", [np.arange(9.0), np.ones((3, 2), np.float16), np.array([], int)])
def test_a_saved_array_is_numpys_file(array, tmp_path):
    save_array(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_an_array_that_the_disk_does_not_take_is_an_error(tmp_path):
    """Not a file that is too short: `numpy.save` writes one here, and returns."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from sft_diversity.core.numbers import save_array
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))  # the head of 128 bytes fits
np.save(sys.argv[1], np.zeros(100))
print(Path(sys.argv[1]).stat().st_size)
save_array(Path(sys.argv[1]), np.zeros(100))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.npy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert int(done.stdout) < 928
    assert "OSError: [Errno 27]" in done.stderr
