"""Habits of the command line that every verb has, from one place."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sft_diversity.cluster import plan
from sft_diversity.core.config import read_value
from sft_diversity.core.errors import UsageError
from sft_diversity.verbs import PANELS, VERBS
from sft_diversity.verbs.settings import settled, variable
from tests.command import sftdiv

ROOT = Path(__file__).resolve().parents[1]
NARROW = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}
WITH_CONFIG = [name for name, verb in VERBS.items() if verb.options]
SCHEDULE = ("schedule", "--json")


def test_the_panels_hold_every_verb_once():
    listed = [name for names in PANELS.values() for name in names]
    assert sorted(listed) == sorted([*VERBS, "run"])


@pytest.mark.parametrize("verb", ["", *VERBS, "run"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_fits_a_terminal_of_eighty_columns(verb, flag):
    done = sftdiv(*filter(None, [verb, flag]), env=NARROW)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    if verb and verb != "run":
        assert any(line.lstrip().startswith("-q, --quiet") for line in lines)
        assert ("--set KEY=VALUE" in done.stdout) == (verb in WITH_CONFIG or verb == "config")


def test_the_list_of_verbs_says_each_in_full():
    shown = " ".join(sftdiv("--help", env=NARROW).stdout.split())
    assert [name for name, verb in VERBS.items() if verb.help not in shown] == []


def test_the_heads_of_help_hold_options_that_there_are_and_no_option_twice():
    for verb in WITH_CONFIG:
        model = VERBS[verb].config()
        named = [name for _, names in model.GROUPS for name in names]
        assert len(named) == len(set(named)), verb
        assert set(named) <= set(model.model_fields), verb


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert sftdiv("--version").stdout == f"sftdiv {version('sft-diversity')}\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("selct",), "there is no verb `selct`; did you mean `select`?"),
        (("select", "--fill", "some"), "'some' is not one of 'draws', 'balance', 'uniform'"),
        (("select", "--sizes", "3"), "select: no such option: --sizes"),
        (("select",), "select: missing argument 'source'"),
        (("finetune", "x", "--epochs", "many"), "finetune: invalid value for '--epochs'"),
        (("schedule", "--set", "steps"), "--set steps: must be KEY=VALUE or KEY.SUB=VALUE"),
        (("schedule", "--set", "stepz=3"), "--set stepz=3: unknown key `stepz`; did you mean `st"),
        (("schedule", "--set", "steps=[3"), "--set steps: not valid YAML: "),
        (("schedule", "--set", "steps=many"), "options: `steps` is 'many': "),
        (("schedule", "--set", "steps.a=3"), "`steps` is {'a': 3}: "),
        (("schedule", "-q", "-v"), "--quiet and --verbose contradict"),
        (("config", "show", "verify"), "config: 'verify' has no config; known: ingest, "),
        (("config", "look", "select"), "'look' is not one of 'show', 'schema'"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(words, why):
    done = sftdiv(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert why.lower() in line.lower()


def steps(tmp_path: Path, *words: str, **variables: str) -> int:
    """Steps of the schedule that these words ask for, beside a file that asks for 60."""
    file = tmp_path / "schedule.yaml"
    file.write_text("steps: 60\n", "utf-8")
    env = {variable("schedule", name): value for name, value in variables.items()}
    done = sftdiv(*SCHEDULE, *(str(file) if word == "FILE" else word for word in words), env=env)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["steps"])


def test_flags_go_before_files_before_variables_before_defaults(tmp_path):
    assert steps(tmp_path) == 1000
    assert steps(tmp_path, steps="50") == 50
    assert steps(tmp_path, "--config", "FILE", steps="50") == 60
    assert steps(tmp_path, config=str(tmp_path / "schedule.yaml"), steps="50") == 60
    assert steps(tmp_path, "--config", "FILE", "--steps", "70", steps="50") == 70
    assert steps(tmp_path, "--config", "FILE", "--set", "steps=80", steps="50") == 80


def test_a_variable_that_names_no_option_is_refused():
    done = sftdiv(*SCHEDULE, env={"SFTDIV_SCHEDULE_STEPZ": "3"})
    assert done.returncode == 2
    assert "did you mean `SFTDIV_SCHEDULE_STEPS`?" in done.stderr


def test_a_setting_joins_the_block_of_the_file_and_other_verbs_variables_do_not_count(
    tmp_path, monkeypatch
):
    file = tmp_path / "index.yaml"
    file.write_text("meso: {max_units: 3}\nmicro: {band: '5:50'}\n", "utf-8")
    monkeypatch.setenv("SFTDIV_SELECT_SEED", "9")
    given = {"config": str(file), "set": ["meso.merge=none", "micro.band=10:50"], "quiet": True}
    asked = settled(VERBS["index"], given)
    assert asked == {
        "config": str(file),
        "meso": {"max_units": 3, "merge": "none"},
        "micro": {"band": "10:50"},
    }
    with pytest.raises(UsageError, match="holds no such block"):
        settled(VERBS["index"], given | {"set": ["meso.max_units.a=1"]})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("0.5", 0.5), ("true", True), ("null", None), ("[1, 2]", [1, 2]),
        ("{a: b}", {"a": "b"}), ("10:50", "10:50"), ("no", "no"), ("on", "on"),
        ("2026-01-01", "2026-01-01"), ("'3'", "3"), ("meta.score", "meta.score"),
    ],
)  # fmt: skip
def test_values_are_yaml_but_for_what_no_option_means(text, value):
    assert read_value(text, "here") == value


def test_values_of_other_types_than_yaml_has_are_refused():
    with pytest.raises(UsageError, match="here: not valid YAML"):
        read_value("!!python/object:os.system x", "here")


@pytest.mark.parametrize("verb", WITH_CONFIG)
def test_config_shows_what_is_settled_and_the_schema_of_a_file(verb):
    model = VERBS[verb].config()
    told = yaml.safe_load(sftdiv("config", "show", verb).stdout)
    assert list(told) == list(model.model_fields)
    schema = json.loads(sftdiv("config", "schema", verb).stdout)
    assert list(schema["properties"]) == list(model.model_fields)
    assert schema["additionalProperties"] is False


def test_config_shows_variables_and_settings_and_refuses_what_a_run_would(tmp_path):
    env = {"SFTDIV_FIT_DRAWS": "700"}
    told = yaml.safe_load(sftdiv("config", "show", "fit", "--set", "seed=3", env=env).stdout)
    assert (told["draws"], told["seed"]) == (700, 3)
    done = sftdiv("config", "show", "fit", "--set", "seed=-3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`seed` is -3" in done.stderr


def test_how_much_is_said(tmp_path):
    (tmp_path / "pool.jsonl").write_text('{"instruction": "Why?", "output": "Rain."}\n', "utf-8")

    def said(*words: str) -> str:
        done = sftdiv("ingest", "pool.jsonl", "--out", "corpus", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(tmp_path / "corpus")
        return done.stderr

    usual = said()
    assert "ingest: new" in usual
    assert "key" not in usual
    assert said("-q") == ""
    assert said("-v").count("ingest: key ") == 1
    assert said() == usual
    assert logging.getLogger("sft_diversity").level == logging.INFO


def test_a_submitted_call_has_settings_and_says_as_much():
    call = plan.parse(["index", "corpus", "--set", "meso.merge=none", "-q"])
    assert call.argv == ("index", "corpus", "--set=meso.merge=none", "--quiet")


BASH = """
source <(sftdiv --show-completion bash)
complete -p sftdiv
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _sftdiv_completion sftdiv "${COMP_WORDS[COMP_CWORD]}"
    echo "${COMPREPLY[@]}"
}
try sftdiv re
try sftdiv select --no
try sftdiv select --fill ''
try sftdiv config s
"""


def test_bash_completes_verbs_options_and_choices(tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    program = tmp_path / "sftdiv"
    (tmp_path / "code.py").write_text(
        "import sys\nsys.argv[0] = 'sftdiv'\nfrom sft_diversity.cli import main\nmain()\n", "utf-8"
    )
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/code.py "$@"\n', "utf-8")
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [bash, "-c", BASH], capture_output=True, text=True, check=True, env=env, cwd=tmp_path
    )
    known, verbs, options, choices, actions = done.stdout.splitlines()
    assert known.endswith("-F _sftdiv_completion sftdiv")
    assert verbs.split() == ["rewrite", "report", "retry"]
    assert options.split() == ["--no-kind"]
    assert choices.split() == ["draws", "balance", "uniform"]
    assert actions.split() == ["show", "schema"]


def test_doctor_finds_what_hf_auth_left_where_hf_home_says(tmp_path):
    (tmp_path / "token").write_text("hf_secretsecret", "utf-8")
    env = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    done = subprocess.run(
        [sys.executable, "-m", "sft_diversity", "doctor", "--json"],
        capture_output=True, text=True, check=False, env={**env, "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    (hub,) = [one for one in json.loads(done.stdout)["checks"] if one["name"] == "Hub"]
    assert hub["found"].startswith(f"token set, cache {tmp_path}/hub")
    assert "secret" not in done.stdout + done.stderr
