from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sft_diversity.core.cells import Cell
from sft_diversity.core.errors import UsageError
from sft_diversity.studies import costs
from sft_diversity.training.config import FinetuneConfig
from tests.studies.test_cells import make


def sizes(tokens: list[int], labels: list[int], kept: list[int], labels_kept: list[int]):
    return pa.table(
        {"tokens": tokens, "labels": labels, "tokens_kept": kept, "labels_kept": labels_kept}
    )


HAND = sizes([10, 30, 40, 20], [4, 20, 5, 6], [10, 25, 25, 20], [4, 15, 0, 6])


def test_a_whole_epoch_reads_every_sample_that_has_labels_left():
    training = FinetuneConfig(epochs=2, batch_size=2, max_length=25, on_truncation="trim")
    found = costs.cost(HAND, training)
    assert (found.steps, found.epochs) == (3, 2.0)  # 3 samples twice, 2 at a time
    assert found.response_tokens == 2 * (4 + 15 + 6)
    assert found.total_tokens == 2 * (10 + 25 + 20)
    assert found.truncated_share == 0.5
    assert found.lost_share == pytest.approx(1 - 25 / 35)


def test_what_is_dropped_for_its_length_is_not_read():
    training = FinetuneConfig(steps=5, batch_size=2, max_length=25, on_truncation="drop")
    found = costs.cost(HAND, training)
    assert found.steps == 5
    assert found.epochs == 5
    assert found.response_tokens == 10 * (4 + 6) / 2


@pytest.mark.parametrize("mode", ["keep", "trim", "drop"])
def test_what_cannot_be_trained_on_is_not_read(mode):
    training = FinetuneConfig(epochs=1, batch_size=2, max_length=25, on_truncation=mode)
    found = costs.cost(sizes([10, 0, 20], [4, 0, 6], [10, 0, 20], [4, 0, 6]), training)
    assert (found.steps, found.response_tokens) == (1, 10)


def table(*counts: int, regime: str = "B") -> tuple[list[Cell], dict[str, costs.Cost]]:
    cells = [Cell(regime, "micro-response", 100, d, 0) for d in range(len(counts))]
    return cells, {
        cell.name: costs.Cost(10, 1.0, float(n), 2.0 * n, 0.0, 0.0)
        for cell, n in zip(cells, counts, strict=True)
    }


def test_cells_more_than_five_percent_apart_in_tokens_are_refused_with_the_table():
    groups = costs.by_group(*table(1000, 1060))
    with pytest.raises(UsageError, match=r"tokens differ by 6\.0%") as fault:
        costs.check_comparable(make(), groups, "THE TABLE")
    assert "THE TABLE" in str(fault.value)
    assert "allow_unequal" in str(fault.value)


def test_within_five_percent_or_when_asked_for_they_are_not():
    costs.check_comparable(make(), costs.by_group(*table(1000, 1049)), "")
    costs.check_comparable(
        make(allow_unequal={"B": ["tokens"]}), costs.by_group(*table(1000, 2000)), ""
    )
    costs.check_comparable(make(), costs.by_group(*table(1000, 2000, regime="A")), "")


def test_unequal_steps_are_refused_in_regime_a_too():
    cells, made = table(1000, 1000, regime="A")
    made[cells[0].name] = costs.Cost(11, 1.0, 1000.0, 2000.0, 0.0, 0.0)
    with pytest.raises(UsageError, match=r"regime A, size 100: steps differ by 10\.0%"):
        costs.check_comparable(make(), costs.by_group(cells, made), "")


def test_draws_of_a_cell_count_as_their_mean():
    cells = [Cell("B", "micro-response", 100, 0, seed) for seed in (0, 1)]
    made = dict(
        zip(
            [cell.name for cell in cells],
            [costs.Cost(10, 1.0, n, 2 * n, 0.0, 0.0) for n in (900.0, 1100.0)],
            strict=True,
        )
    )
    (group,) = costs.by_group(cells, made).values()
    assert group["response_tokens"] == np.mean([900, 1100])
    assert group["draws"] == 2
