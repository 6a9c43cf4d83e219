from __future__ import annotations

import polars as pl
import pytest

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.levels import group_levels, training_noise
from sft_diversity.fitting.reading import draws_of, read_csv, score_kind
from sft_diversity.reporting.reading import csv_rows
from sft_diversity.studies.collect import write_csv

HEAD = "strategy,size,diversity,seed,score\n"


def read(tmp_path, text):
    path = tmp_path / "results.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_csv(path)


def draws(tmp_path, text):
    return draws_of(read(tmp_path, text), "score")


def test_training_seeds_are_averaged_within_their_draw(tmp_path):
    found, _ = draws(
        tmp_path,
        "strategy,size,diversity,seed,train_seed,score\n"
        "m,10,0,0,0,1\nm,10,0,0,1,3\nm,10,0,1,0,5\nm,10,100,0,0,7\n",
    )
    assert [(d.diversity, d.seed, d.mean) for d in found] == [
        (0.0, "0", 2.0),
        (0.0, "1", 5.0),
        (100.0, "0", 7.0),
    ]
    noise = training_noise(found, [], 0.95)[0]
    assert (noise["sd"], noise["df"], noise["runs"]) == (pytest.approx(2**0.5), 1, 2)


def test_subsets_that_hardly_differ_count_as_one_draw(tmp_path):
    found, _ = draws(
        tmp_path,
        "strategy,size,diversity,seed,draw,score\n"
        "m,10,0,0,0,1\nm,10,0,1,0,3\nm,10,0,2,,8\nm,10,100,1,1,5\n",
    )
    assert [(d.diversity, d.seed, d.scores) for d in found] == [
        (0.0, "0", (2.0,)),
        (0.0, "2", (8.0,)),
        (100.0, "1", (5.0,)),
    ]


def test_one_draw_trained_alike_says_nothing_of_what_training_seeds_do(tmp_path):
    head = "strategy,size,diversity,seed,draw,train_seed,score\n"
    alike = "m,10,0,0,0,0,4\nm,10,0,1,0,0,4\nm,10,0,2,0,0,4\nm,10,100,0,0,0,5\n"
    found, _ = draws(tmp_path, head + alike)
    assert training_noise(found, group_levels(found), 0.95) == []
    found, _ = draws(tmp_path, head + alike + "m,10,0,0,0,1,6\n")
    assert found[0].scores == (4.0, 6.0)
    (noise,) = training_noise(found, group_levels(found), 0.95)
    assert (noise["sd"], noise["df"]) == (pytest.approx(2**0.5), 1)


def test_rows_in_any_order_and_numbers_in_any_spelling_are_the_same(tmp_path):
    text = [
        "m,10000,0,0,1.5",
        "m,1e4,100.0,1.0,2",
        "m,10000.0,100,2,3",
    ]
    one, _ = draws(tmp_path, HEAD + "\n".join(text))
    two, _ = draws(tmp_path, HEAD + "\n".join(reversed(text)))
    assert one == two
    assert [d.seed for d in one] == ["0", "1", "2"]


def test_rows_without_a_finite_score_and_repeated_rows_are_counted(tmp_path):
    found, account = draws(
        tmp_path, HEAD + "m,10,0,0,nan\nm,10,0,1,\nm,10,0,2,inf\nm,10,0,3,1\nm,10,0,3,1\n"
    )
    assert len(found) == 1
    assert (account.rows, account.no_score, account.repeated) == (5, 3, 1)


def test_unknown_columns_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path):
    text = "\ufeffstrategy , size,diversity,seed,score,mood\nm,10,0,0,1,good\n\n,,,,,\n"
    assert len(draws(tmp_path, text)[0]) == 1


def test_the_base_model_needs_no_size(tmp_path):
    found, _ = draws(tmp_path, HEAD + "base,,,,1\nm,10,0,0,1\n")
    assert [d.group.strategy for d in found] == ["base", "m"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        (HEAD, "no rows"),
        ("strategy;size;diversity;seed;score\n", "separated by ';'"),
        ("strategy,size,diversity,seed\nm,1,0,0\n", "lacks the column score"),
        ("Strategy,size,diversity,seed,score\nm,1,0,0,1\n", "is `Strategy` meant"),
        ("strategy,size,diversty,seed,score\nm,1,0,0,1\n", "is `diversty` meant"),
        (HEAD + "m,10,0,0\n", "row 1 has 4 cells, the header 5"),
        (HEAD + "m,10,0,0,1\nm,10,0,1,high\n", "row 2: score is 'high', which is no number"),
        (HEAD + "m,ten,0,0,1\n", "row 1: size is 'ten'"),
        (HEAD + "m,,0,0,1\n", "row 1: size is None"),
        (HEAD + "m,1.5,0,0,1\n", "row 1: size is '1.5'"),
        (HEAD + "m,10,101,0,1\n", "diversity is 101; it goes from 0 to 100"),
        (HEAD + "m,10,-1,0,1\n", "diversity is -1"),
        (HEAD + ",10,0,0,1\n", "row 1 has no strategy"),
        (HEAD + "m,10,0,0,1\nm,10,0,0,2\n", "rows 1 and 2 are the same run .m, 0 %, seed 0."),
        (HEAD + 'm,10,0,0,"1\n', "no readable CSV"),
        (HEAD.encode() + b"m\xff,10,0,0,1\n", "not UTF-8"),
        ("strategy,size,seed,seed,score\n", "the column 'seed' twice"),
    ],
)
def test_a_faulty_table_is_an_error_of_one_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as caught:
        draws(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_no_file_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="is no file"):
        read_csv(tmp_path / "none.csv")


def test_booleans_are_no_scores():
    frame = pl.DataFrame(
        {"strategy": ["m"], "size": [1], "diversity": [0], "seed": [0], "score": [True]}
    )
    with pytest.raises(DataError, match="no number"):
        draws_of(frame, "score")


FRAME = pl.DataFrame({"score": ["-6.5", None, "-6.25"], "transfer_first64": ["6.5", "6", "6.25"],
                      "in_mix": ["6.1", "6.2", "6.3"], "acc": ["0.1", "0.2", "0.3"]})  # fmt: skip


def kind(frame=FRAME, **options):
    return score_kind(frame, FitConfig(**options))


def test_a_studys_score_is_known_by_the_loss_that_it_negates():
    first = "held-out loss, nats a token; first 64 response tokens, prompts of other origin"
    assert kind() == f"minus {first}"
    other = FRAME.with_columns(transfer_first64=pl.Series(["6.5", "6", "6.26"]))
    assert kind(other) == "column score, of a kind not given"
    assert kind(other.with_columns(transfer_first64=pl.lit("none given"))).startswith("column")


def test_a_loss_that_is_fitted_says_whether_it_was_turned():
    assert kind(score="in_mix") == "held-out loss, nats a token; the corpus's own mix"
    assert kind(score="in_mix", lower_is_better=True).startswith("minus held-out loss")


def test_a_share_of_generated_answers_is_known_by_its_column():
    shares = {"instruction_strict": ["20", None, "40"], "exact": ["0", "5", "3"]}
    table = FRAME.drop("score").with_columns(
        **{name: pl.Series(values) for name, values in shares.items()},
        score=pl.Series(["20", "30", "40"]),
    )
    assert kind(table) == "generated answers, percent; instructions kept"
    assert kind(table, score="exact") == "generated answers, percent; right numbers"
    assert kind(table, score="acc").startswith("column acc")


def test_a_kind_that_is_given_stands():
    assert kind(score="acc") == "column acc, of a kind not given"
    assert kind(score="acc", score_kind="GSM8K, share right") == "GSM8K, share right"


def test_what_a_study_writes_for_a_spreadsheet_is_read_as_it_was(tmp_path):
    names = ["=cmd|' /C calc'!A0", "'+1+1", "@x", "-y", "plain"]
    rows = [{"strategy": name, "size": 10, "-m": -0.5, "score": -1.5e-3} for name in names]
    write_csv(tmp_path / "results.csv", rows)
    lines = (tmp_path / "results.csv").read_text("utf-8").splitlines()
    assert lines[0] == "strategy,size,'-m,score"
    assert all(line[0] in "'\"p" for line in lines[1:])
    assert all(line.endswith(",10,-0.5,-0.0015") for line in lines[1:])
    assert read_csv(tmp_path / "results.csv")["strategy"].to_list() == names
    assert csv_rows(tmp_path / "results.csv") == rows
