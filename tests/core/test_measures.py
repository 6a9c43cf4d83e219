from __future__ import annotations

from sft_diversity.core.measures import in_order, metric_title


def test_a_title_keeps_the_component_and_unknown_names_are_read_as_words():
    assert metric_title("response_distinct_2") == "response: distinct-2"
    assert metric_title("instruction.micro_share") == "instruction: micro kinds, share of all"
    assert metric_title("my_own_metric") == "my own metric"


def test_metrics_stand_in_the_order_of_a_table_and_others_behind_them():
    assert in_order({"zz", "self_bleu", "aa", "tokens_mean"}) == [
        "tokens_mean", "self_bleu", "aa", "zz",
    ]  # fmt: skip
