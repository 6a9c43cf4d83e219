"""What cannot be made is refused before a token is counted, and alike by a dry run and `submit`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sft_diversity.cluster import stage as batch
from sft_diversity.core import folder
from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.verbs import data, measuring, selecting, training
from tests import tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus of two sources, its raw files, and folders that are of no use."""
    place = tmp_path_factory.mktemp("checks")
    rng = np.random.default_rng(0)
    for name, rows in (("a", 200), ("b", 60)):
        lines = [
            {
                "instruction": f"Question {name}{i}?",
                "output": " ".join(f"w{k}" for k in rng.integers(0, 50, size=rng.integers(1, 60))),
            }
            for i in range(rows)
        ]
        (place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    data.ingest(place / "a.jsonl", place / "b.jsonl", out=place / "corpus")
    tiny.tokenizer().save_pretrained(place / "tokenizer")
    (place / "notes").mkdir()
    (place / "notes" / "todo.txt").write_text("ids\n", "utf-8")
    (place / "file").write_text("mine\n", "utf-8")
    return place


@pytest.fixture
def here(place, monkeypatch, tmp_path):
    """Run in the folder of `place`; the work folder is a fresh one."""
    monkeypatch.chdir(place)
    return tmp_path


def select(here: Path, *sources: str, **options: Any) -> Any:
    given: dict[str, Any] = {"strategy": "micro-response", "size": 40, "tokenizer": "tokenizer"}
    given |= options
    out = given.pop("out", here / "out")
    return selecting.select(*(sources or ["corpus"]), out=out, work=here / "work", **given)


MACRO = {"strategy": "macro-response"}
REFUSED = [
    ({"size": 300}, DataError, "size is 300 but the corpus has 260 samples; lower --size"),
    ({"grid": "size=40,300"}, DataError, "size is 300 but the corpus has 260 samples"),
    ({"tokenizer": "./nope"}, UsageError, "no tokenizer './nope': it is not there; name a model"),
    ({"tokenizer": "notes"}, UsageError, "notes has no tokenizer.json nor another tokenizer"),
    ({"tokenizer": "file"}, UsageError, "file is no tokenizer file"),
    ({"tokenizer": "acme/nope"}, UsageError, "tokenizer `acme/nope` is no folder.*offline mode"),
    ({**MACRO, "encoder": "./nope"}, UsageError, "encoder `./nope`: no such folder"),
    ({**MACRO, "encoder": "acme/nope"}, UsageError, "encoder `acme/nope` is no folder.*offline"),
    ({**MACRO, "index": {"macro": {"k": 999}}}, DataError, "macro.k is 999 but there are 260"),
    ({"strategy": "k-center", "encoder": "./nope"}, UsageError, "encoder `./nope`"),
    (
        {"quality": "ifd", "judge": {"model": "./nope"}},
        UsageError,
        "model `./nope`: no such folder",
    ),
    ({"quality": "ifd", "judge": {"model": "acme/nope"}}, UsageError, "model `acme/nope` is no"),
    ({"must_include": "nosuch"}, UsageError, "must-include: nosuch is not there; give a subset"),
    ({"exclude": "nosuch"}, UsageError, "exclude: nosuch is not there"),
    ({"match_length": "nosuch"}, UsageError, "match-length: nosuch is not there"),
    ({"must_include": "file"}, DataError, r"file has 1 ids that .* this corpus \('"),
    ({"quality": "colour"}, UsageError, "no column 'colour'; known: id, source"),
    ({"quota": "source=c:1"}, DataError, "source is never 'c'; it is a, b"),
    ({"quota": "source"}, UsageError, "must be COLUMN=corpus, COLUMN=eligible or COLUMN="),
    ({"out": "notes"}, UsageError, "notes exists and is no output of `select`"),
    ({"out": "file"}, UsageError, "file exists and is no output of `select`"),
    ({"out": "corpus"}, UsageError, "corpus exists and is no output of `select`"),
    ({"out": "corpus/sub"}, UsageError, "corpus/sub lies in corpus, which is read"),
    ({"out": "file/sub"}, DataError, "file is a file; name another folder"),
]


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry-run"])
@pytest.mark.parametrize(("options", "kind", "reason"), REFUSED, ids=[r[2][:24] for r in REFUSED])
def test_a_subset_that_cannot_be_made_is_refused_first(here, options, kind, reason, dry_run):
    with pytest.raises(kind, match=reason) as told:
        select(here, dry_run=dry_run, **options)
    assert "\n" not in str(told.value)
    assert not (here / "work").exists()


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry-run"])
@pytest.mark.parametrize(
    ("options", "kind", "reason"),
    [
        ({"size": 300}, DataError, "size is 300 but the sources have 260 rows at most; lower --si"),
        ({"ingest": {"size": 30}}, DataError, "size is 40 but the sources have 30 rows at most"),
        ({"tokenizer": "./nope"}, UsageError, "no tokenizer './nope'"),
        ({**MACRO, "encoder": "./nope"}, UsageError, "encoder `./nope`"),
        ({"exclude": "nosuch"}, UsageError, "exclude: nosuch is not there"),
    ],
)
def test_of_raw_files_too_before_they_are_read(here, options, kind, reason, dry_run):
    with pytest.raises(kind, match=reason):
        select(here, "a.jsonl", "b.jsonl", dry_run=dry_run, **options)
    assert not (here / "work").exists()


def test_rows_that_ingest_drops_count_for_the_size(here):
    double = here / "double.jsonl"
    double.write_text(2 * (Path("b.jsonl").read_text("utf-8") + "\n"), "utf-8")
    with pytest.raises(DataError, match="size is 100 but the corpus has 60 samples"):
        select(here, str(double), size=100)
    assert {p.name for p in (here / "work").iterdir()} == {"ingest"}


def test_a_size_above_the_samples_that_may_be_picked_is_refused_with_the_reason(here):
    ids = here / "ids.txt"
    listed = [s["id"] for s in _samples(Path("corpus"))]
    ids.write_text("\n".join(listed[:230]), "utf-8")
    with pytest.raises(DataError, match=r"only 30 of 260 samples may be picked \(230 excluded\)"):
        select(here, exclude=str(ids))
    with pytest.raises(UsageError, match="size is 40 but 230 samples must be included; raise"):
        select(here, must_include=str(ids))
    assert not (here / "work").exists()


def test_a_damaged_subset_is_no_raw_data_to_anyone(here, tmp_path):
    """Also not to those who read any folder of Parquet files."""
    subset = select(here, strategy="random", size=9)["out"]
    (Path(subset) / "manifest.json").write_text("{", "utf-8")
    out = {"out": tmp_path / "never"}
    for call in (
        lambda: training.finetune(subset, **out),
        lambda: measuring.report(subset, **out),
        lambda: data.rewrite(subset, endpoint="http://127.0.0.1:9/v1", model="m", **out),
        lambda: data.export(subset, to=str(tmp_path / "never")),
        lambda: data.ingest(subset, **out),
        lambda: data.clean(subset, work=tmp_path / "work", **out),
        lambda: data.verify(subset),
        lambda: selecting.explain(subset, "x"),
        lambda: select(here, exclude=subset),
    ):
        with pytest.raises(SftdivError, match=r"manifest\.json is damaged") as told:
            call()
        assert "\n" not in str(told.value)
    assert not (tmp_path / "never").exists()


def test_a_profile_that_is_not_there_is_called_a_profile(here):
    with pytest.raises(UsageError, match=r"^profile nope: No such file"):
        batch.submit(["verify", "corpus"], profile="nope", work=here / "work")


def _samples(corpus: Path):
    from sft_diversity.core import corpus as corpora

    return corpora.read(corpus, ["id"]).to_pylist()


@pytest.mark.parametrize(
    ("missing", "options", "way_out"),
    [
        ("faiss", MACRO, r"'sft-diversity\[embed,cpu\]', or 'sft-diversity\[embed,gpu\]'"),
        ("umap", {**MACRO, "index": {"macro": {"method": "hdbscan"}}}, r"sft-diversity\[hdbscan\]"),
        ("openvino", {**MACRO, "embed": {"backend": "openvino"}}, r"\[openvino\]', or use backend"),
    ],
)
def test_a_package_that_is_not_installed_is_named_first(
    here, monkeypatch, missing, options, way_out
):
    real = importlib.util.find_spec
    lacking = {missing, *(["fast_hdbscan"] if missing == "umap" else [])}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in lacking else real(name)
    )
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=way_out):
            select(here, dry_run=dry_run, **options)
    assert not (here / "work").exists()


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry-run"])
@pytest.mark.parametrize("out", ["notes", "corpus/inside"])
def test_every_verb_refuses_a_place_that_is_not_its_own(here, out, dry_run):
    model = Path("base")
    if not model.exists():
        tiny.save(model)
    work = {"work": here / "work"}
    endpoint = {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}
    verbs = {
        "ingest": lambda **how: data.ingest("a.jsonl", **how),
        "embed": lambda **how: data.embed("corpus", **work, **how),
        "index": lambda **how: data.index("corpus", strategy="macro-response", **work, **how),
        "measure": lambda **how: measuring.measure("corpus", **work, **how),
        "clean": lambda **how: data.clean("corpus", cosine=0.9, **work, **how),
        "rewrite": lambda **how: data.rewrite("corpus", **endpoint, **work, **how),
        "finetune": lambda **how: training.finetune("corpus", model="base", **how),
        "score": lambda **how: training.score("base", **how),
        "export": lambda **how: data.export("corpus", to=str(how.pop("out")), **how),
        "report": lambda **how: measuring.report("corpus", **work, **how),
    }
    for name, verb in verbs.items():
        with pytest.raises(SftdivError, match=f"^{name}: {out} (exists and is no|lies in)") as told:
            verb(out=Path(out), dry_run=dry_run)
        assert told.value.exit_code == 2
    assert not (here / "work").exists()
    assert folder.verify(Path("corpus"))["faults"] == []


def test_submit_says_what_the_command_would_say(here):
    asked = [
        "select",
        "corpus",
        "--strategy",
        "micro-response",
        "--size",
        "300",
        "--tokenizer",
        "tokenizer",
        "--out",
    ]
    with pytest.raises(DataError, match="size is 300 but the corpus has 260 samples"):
        batch.submit([*asked, str(here / "s")], executor="local", work=here / "work")
    assert not (here / "work").exists()


def test_shares_in_the_place_of_percent_get_a_hint(here, capsys):
    select(here, dry_run=True, diversity=0.5)
    hint = "select: diversity is 0.5 %: percent are meant; for shares of 0.5 give 50"
    assert hint in capsys.readouterr().err.splitlines()
    select(here, dry_run=True, grid="diversity=0,0.25,1")
    told = capsys.readouterr().err
    assert "diversity is 0.25, 1 %: percent are meant; for shares of 0.25, 1 give 25, 100" in told
    select(here, dry_run=True, grid="diversity=0,1,50,67.5")
    assert "percent are meant" not in capsys.readouterr().err
