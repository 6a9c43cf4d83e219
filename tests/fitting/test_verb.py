from __future__ import annotations

import json

import pytest

import sft_diversity as sd
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.verbs.training import fit
from tests.command import sftdiv
from tests.fitting.making import study


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.csv"
    study(0).write_csv(path)
    return path


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.csv"
    frame = study(0).filter(study(0)["diversity"].is_not_null())
    keys = frame.select("regime", "strategy", "size", "diversity", "seed")
    keys.with_columns(instruction_tokens_mean=100 + keys["diversity"]).write_csv(path)
    return path


def test_the_command_prints_one_json_object(results):
    run = sftdiv("fit", results, "--draws", "200", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert {"slopes", "metrics", "baselines", "verdict"} <= found.keys()
    assert {"strategy", "size", "n", "slope", "ci_low", "ci_high", "pearson_r"} <= found["slopes"][
        0
    ].keys()


def test_people_get_tables_of_at_most_100_columns(results, metrics):
    run = sftdiv("fit", results, "--metrics", metrics, "--draws", "200")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("micro-response ") for line in lines)
    assert any(line.startswith("instruction_tokens_mean ") for line in lines)


def test_equal_tables_give_equal_bytes_and_a_second_call_reuses_them(results, tmp_path):
    outs = [tmp_path / name for name in ("one", "two")]
    found = [fit(results, out=out, draws=200) for out in outs]
    for name in ("fit.json", "slopes.csv", "verdict.txt"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    assert sd.verify(outs[0])["faults"] == []
    before = (outs[0] / "manifest.json").stat().st_mtime_ns
    assert fit(results, out=outs[0], draws=200) == found[0]
    assert (outs[0] / "manifest.json").stat().st_mtime_ns == before
    planned = fit(results, out=outs[0], draws=200, dry_run=True)["plan"][0]
    assert (planned["state"], planned["rows"]) == ("cached", 62)


def test_a_studys_folder_stands_for_its_tables(results, metrics):
    found = fit(results.parent, draws=200)
    assert found["metrics"]
    assert found == fit(results, metrics=metrics, draws=200)


def test_a_plan_touches_nothing(results, tmp_path):
    plan = fit(results, out=tmp_path / "out", dry_run=True)["plan"]
    assert (plan[0]["state"], plan[0]["rows"]) == ("to do", 62)
    assert fit(results, dry_run=True)["plan"][0]["out"] == "-"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_a_faulty_table_leaves_no_folder(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("strategy,size\nm,1\n", "utf-8")
    for dry_run in (False, True):
        with pytest.raises(DataError, match="lacks the column diversity, seed, score"):
            fit(path, out=tmp_path / "out", dry_run=dry_run)
    study(0).write_csv(tmp_path / "good.csv")
    with pytest.raises(DataError, match="metrics lacks the column diversity, seed"):
        fit(tmp_path / "good.csv", metrics=path, out=tmp_path / "out", draws=200)
    assert {p.name for p in tmp_path.iterdir()} == {"results.csv", "good.csv"}
    with pytest.raises(UsageError, match="no file"):
        fit(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "the table lacks the column strategy, size"),
        ("strategy,size,diversity,seed,score\nm,1,x,0,1\n", "row 1: diversity is 'x'"),
        ("strategy,size,diversity,seed,score\n", "the table has a header but no rows"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_name(tmp_path, results, text, reason):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(text, "utf-8")
    with pytest.raises(DataError, match=rf"^fit: .*/wrong\.csv: {reason}"):
        fit(wrong)
    with pytest.raises(DataError, match=rf"^fit: .*/wrong\.csv: {reason}"):
        fit(wrong, out=tmp_path / "out")
    if "lacks" in reason:
        with pytest.raises(DataError, match=r"^fit: .*/wrong\.csv: the table of metrics lacks"):
            fit(results, metrics=wrong)


def test_a_study_that_measured_nothing_is_fitted_all_the_same(results):
    (results.parent / "metrics.csv").write_text("\n")
    found = fit(results.parent, draws=200)
    assert found["metrics"] == fit(results, draws=200)["metrics"]
