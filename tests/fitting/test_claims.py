from __future__ import annotations

import gc

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from sft_diversity.fitting.claims import adjust


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("method", "theirs"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_corrected_p_values_are_those_of_statsmodels(monkeypatch, method, theirs, seed):
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # as theirs does at each call
    rng = np.random.default_rng(seed)
    p = np.round(rng.uniform(size=1 + seed) ** 3, 2)  # some tie
    assert adjust(list(p), method) == pytest.approx(list(multipletests(p, method=theirs)[1]))


def test_what_was_not_tested_does_not_count():
    assert adjust([None, 0.01, None, 0.02], "holm") == [None, 0.02, None, 0.02]
    assert adjust([None], "bh") == [None]
