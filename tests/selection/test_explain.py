import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError
from sft_diversity.selection.dial import Dial
from sft_diversity.selection.engine import choose_at
from sft_diversity.selection.explain import (
    PickedBy,
    diff_kinds,
    diff_mixes,
    diff_rows,
    explain_pick,
    explain_rejected,
    nearest_by_embedding,
)
from tests.selection.small import incidence, row_lists


@given(row_lists(min_rows=3), st.integers(1, 4), st.sampled_from((0, 50, 100)), st.integers(0, 3))
def test_every_sample_is_explained_as_it_was_chosen(drawn, size, level, seed):
    rows, n_kinds = drawn
    made = incidence(rows, n_kinds)
    names = [f"k{i}" for i in range(n_kinds)]
    try:
        dial = Dial(made, size)
    except DataError:
        return
    chosen = choose_at(dial, level, seed=seed)
    picks = chosen.rows
    pool = set(dial.peeling.pool(dial.place(level).step).tolist())
    by, seen = PickedBy(made, names, picks), set()
    for at, row in enumerate(picks.tolist()):
        told = explain_pick(by, at)
        assert told["brought"] == [names[k] for k in sorted(rows[row] - seen)]
        seen |= rows[row]
        others = [rows[i] for i in picks.tolist() if i != row]
        alone = rows[row] - set().union(*others)
        assert told["irreplaceable"] == [names[k] for k in sorted(alone)]
        if others:
            best = max(len(rows[row] & o) / len(rows[row] | o) for o in others)
            assert told["nearest_by_kinds"]["jaccard"] == round(best, 4)
    assert len(seen) == chosen.kinds_covered
    for row in set(range(len(rows))) - set(picks.tolist()):
        told = explain_rejected(by, dial, level, row)
        if not rows[row]:
            assert told == {"reason": "no_kind"}
        elif row in pool:
            assert told["reason"] == "not_drawn"
            assert told["new_kinds"] == [names[k] for k in sorted(rows[row] - seen)]
        else:
            assert told["reason"] == "not_in_pool"
            assert int(told["kind"][1:]) in rows[row]
            step = int(np.flatnonzero(dial.peeling.kinds_after == told["k"])[0])
            assert row in dial.peeling.pool(step)
            assert row not in dial.peeling.pool(step + 1)
            assert 0 <= told["diversity"] <= 100


def test_the_nearest_pick_by_embedding_has_the_greatest_cosine():
    unit = np.eye(3, dtype=np.float32)
    unit[2] = np.array([0.6, 0.8, 0.0])
    assert nearest_by_embedding(unit, np.array([0, 1]), 2) == {"row": 1, "cosine": 0.8}
    assert nearest_by_embedding(unit, np.array([2]), 2) is None


def test_differences_count_rows_kinds_and_sources():
    made = incidence([{0}, {0, 1}, {2}, {2}], 3)
    one, other = np.array([0, 1]), np.array([1, 2, 3])
    rows = diff_rows(one, other)
    assert rows == {"both": 1, "only_first": 1, "only_second": 2, "jaccard": 0.25}
    kinds = diff_kinds(PickedBy(made, "abc", one), one, other)
    assert (kinds["both"], kinds["only_first"], kinds["only_second"]) == (2, 0, 1)
    assert kinds["only_second_most"] == {"c": 2}
    assert diff_mixes({"x": 1, "y": 1}, {"y": 4})["x"] == [0.5, 0.0]
