from __future__ import annotations

import numpy as np
import pytest

from sft_diversity.core.incidence import Incidence
from sft_diversity.metrics.table import coverage


def test_figures_of_a_small_incidence():
    held = Incidence(
        np.array([0, 2, 3]), np.array([0, 2, 2], np.int32), np.array([1, 5, 1], np.int32), 4
    )
    found = coverage(held)
    assert (found["kinds"], found["share"]) == (2, 0.5)
    shares = np.array([1, 2]) / 3
    assert found["evenness"] == pytest.approx(-(shares * np.log2(shares)).sum())


def test_no_kinds_at_all():
    nothing = Incidence(np.array([0, 0]), np.empty(0, np.int32), np.empty(0, np.int32), 3)
    assert coverage(nothing) == {"kinds": 0, "share": 0.0, "evenness": 1.0}
