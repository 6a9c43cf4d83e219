from __future__ import annotations

from sft_diversity.core.measures import metric_rows, metric_title


def test_a_title_keeps_the_component_and_unknown_names_are_read_as_words():
    assert metric_title("response_distinct_2") == "response: distinct-2"
    assert metric_title("instruction.micro_share") == "instruction: micro kinds, share of all"
    assert metric_title("my_own_metric") == "my own metric"


def test_metrics_stand_in_the_order_of_a_table_and_others_behind_them():
    datasets = [{"response": {"zz": 1, "self_bleu": 2}}, {"response": {"aa": 3, "tokens_mean": 4}}]
    assert metric_rows(datasets, "response") == [
        ("tokens, mean", [None, 4]), ("self-BLEU", [2, None]), ("aa", [None, 3]), ("zz", [1, None]),
    ]  # fmt: skip
