"""What a page tells of tokens and of training."""

from __future__ import annotations

from sft_diversity.reporting import portrait, reading


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
