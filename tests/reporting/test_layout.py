"""The map: seeded, within its frame, subsets where they are most alike."""

from __future__ import annotations

import numpy as np

from sft_diversity.reporting import layout, portrait, reading
from sft_diversity.reporting.config import ReportConfig


def test_a_map_lies_in_its_frame_and_is_drawn_by_seed():
    points = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    for method in ("pca", "tsne"):
        config = ReportConfig(layout=method)
        laid = layout.scaled(layout.plane_of(points, config))
        assert laid.min() >= 0
        assert laid.max() <= layout.SIDE
        assert (laid == layout.scaled(layout.plane_of(points, config))).all()


def test_two_groups_stay_apart():
    rng = np.random.default_rng(1)
    centres = np.repeat([[5.0] + [0.0] * 7, [-5.0] + [0.0] * 7], 40, axis=0)
    laid = layout.plane_of((centres + rng.normal(size=(80, 8))).astype(np.float32), ReportConfig())
    middles = laid[:40].mean(axis=0), laid[40:].mean(axis=0)
    spread = max(laid[:40].std(), laid[40:].std())
    assert np.linalg.norm(middles[0] - middles[1]) > spread


def test_regions_are_named_by_words_that_are_theirs():
    texts = ["the cat sat"] * 6 + ["the dog ran"] * 6 + ["nothing here"] * 60
    region = np.array([0] * 6 + [1] * 6 + [2] * 60)
    named = layout.name_regions(texts, region, 3)
    assert "cat" in named[0]
    assert "dog" in named[1]


def test_names_of_byte_level_tokens_are_shown_as_their_text():
    assert portrait.token_text("Ġlater") == "␣later"
    assert portrait.token_text("âĢĶ") == "—"
    assert portrait.token_text("ÐĲÐ°") == "Аа"
    assert portrait.token_text("âĢ") == "âĢ"  # half a character


def test_a_training_log_is_binned_and_a_half_line_left_out(tmp_path):
    log = tmp_path / "training.jsonl"
    lines = [f'{{"step": {i}, "loss": {i}.0}}' for i in range(1, 161)]
    log.write_text("\n".join(lines) + '\n{"step": 161, "lo')
    found = reading.binned_log(log, 80)
    assert found["steps"][:2] == [1.5, 3.5]
    assert found["loss"] == found["steps"]
    assert "lr" not in found
