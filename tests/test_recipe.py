"""What a card says "to make it again" makes the same ids in the same order, and names what differs.

Every case selects, exports, takes command and YAML out of the card as a reader would, and runs them
with a fresh work folder.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from tests import command, tiny
from tests.embedding import make
from tests.levels import making

SIZE = 24
MICRO = {"index": {"micro": {"band": "2:90"}}}
TOKENS = ["--tokenizer", "words.json"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus and all that options name: tokenizers, encoder, model, id files."""
    root = tmp_path_factory.mktemp("recipe")
    rng = np.random.default_rng(0)
    texts = []
    for n in range(160):
        topic, frame = making.TOPICS[n % 8], making.FRAMES[n % 6]
        words = rng.choice(tiny.TEXT.split(), 4 + n % 17)
        answer = f"{making.FRAMES[n % 5]} {' '.join(words)}".replace("{}", topic)
        texts.append((f"{frame} ({n})".replace("{}", topic), answer))
    making.corpus(root / "corpus", texts)
    make.encoder(root / "encoder")
    tiny.save(root / "model")
    making.tokenizer_file(root / "words.json", 420)
    making.tokenizer_file(root / "others.json", 270)
    ids = pq.read_table(root / "corpus/samples", columns=["id"])["id"].to_pylist()
    (root / "keep.txt").write_text("\n".join(ids[3:40:9]))
    (root / "not.txt").write_text("\n".join(ids[50:54]))
    return root


CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "tokenizer": (["--strategy", "micro-response", "--diversity", "67", *TOKENS], MICRO),
    "balance": (
        ["--strategy", "micro-instruction", "--fill", "balance", "--seed", "5"],
        {"index": {"micro": {"band": "3:30"}}},
    ),
    "clusters": (
        ["--strategy", "macro-response", "--diversity", "50", "--encoder", "encoder"],
        {"index": {"macro": {"k": 9, "seed": 4}}, "embed": {"precision": "float32"}},
    ),
    "capped": (
        ["--strategy", "macro-instruction", "--max-per-kind", "6", "--encoder", "encoder"],
        {"index": {"macro": {"k": 8}}},
    ),
    "auto": (["--strategy", "micro-response", "--no-kind", "fill", *TOKENS], {}),
    "phrases": (
        ["--strategy", "meso-instruction", "--diversity", "33", "--fill", "uniform"],
        {"index": {"meso": {"max_units": 2, "merge": "none", "max_share": 0.4}}},
    ),
    "merged": (
        ["--strategy", "meso-response", "--diversity", "67", "--encoder", "encoder"],
        {"index": {"meso": {"threshold": 0.6}}, "embed": {"precision": "float32"}},
    ),
    "entropy": (
        ["--strategy", "micro-response", "--objective", "entropy", "--min-tokens", "3", *TOKENS],
        {"diversity": 40.0, "seed": 3},
    ),
    "limits": (
        [
            "--strategy", "micro-response", "--diversity", "50", "--match-length", "tokenizer",
            "--must-include", "keep.txt", "--exclude", "not.txt", *TOKENS,
        ],
        MICRO,
    ),
    "k-center": (["--strategy", "k-center", "--encoder", "encoder", "--seed", "2"], {}),
    "judged": (
        ["--strategy", "random", "--quality", "ifd", "--quality-floor", "40", "--seed", "9"],
        {"judge": {"model": "model", "max_length": 64}},
    ),
}  # fmt: skip


def sftdiv(*words: str, code: int = 0):
    """Run a command in this process; return what it printed."""
    done = command.sftdiv(*words)
    assert done.returncode == code, done.stderr
    return done


def picks(subset: Path) -> list[str]:
    files = sorted((subset / "samples").glob("*.parquet"))
    return [one for file in files for one in pq.read_table(file, columns=["id"])["id"].to_pylist()]


def pasted(card: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the command and the YAML under "To make it again" of a card."""
    text = card.read_text("utf-8")
    again = text[text.index("To make it again") :]
    command = re.search(r"`(sftdiv select [^`]*)`", again)
    block = re.search(r"```yaml\n(.*?)```", again, re.DOTALL)
    assert command is not None
    assert block is not None
    return shlex.split(command[1])[1:], yaml.safe_load(block[1])


def first(place: Path, name: str) -> Path:
    """Select and export a case, unless that is done."""
    flags, config = CASES[name]
    if name == "judged":  # named by its whole path, which must not get out
        config = config | {"judge": config["judge"] | {"model": str(place / "model")}}
    (place / f"{name}.yaml").write_text(yaml.safe_dump(config))
    if name == "limits":
        first(place, "tokenizer")
    config_and_out = ["--config", f"{name}.yaml", "--out", name, "--size", str(SIZE)]
    sftdiv("select", "corpus", *config_and_out, *flags)
    sftdiv("export", name, "--to", f"{name}-export")
    return place / f"{name}-export"


def again(place: Path, name: str, *more: str) -> tuple[list[str], dict[str, Any], str]:
    """Do what the card says; return the ids, the JSON result, and what was said."""
    words, recipe = pasted(first(place, name) / "README.md")
    return run(place, f"{name}{len(more)}-again", words, recipe, *more)


def run(
    place: Path, out: str, words: list[str], recipe: dict[str, Any], *more: str
) -> tuple[list[str], dict[str, Any], str]:
    (place / "selection.yaml").write_text(yaml.safe_dump(recipe))
    words = [{"CORPUS": "corpus", "DIR": out}.get(word, word) for word in words]
    done = sftdiv(*words, "--json", "--work", f"work-{out}", *more)
    return picks(place / out), json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("name", CASES)
def test_the_card_makes_the_same_ids_in_the_same_order(place, monkeypatch, name):
    monkeypatch.chdir(place)
    ids, result, said = again(place, name)
    assert ids == picks(place / name)
    assert len(ids) == SIZE
    assert result["recipe"] == {"differs": [], "ids_equal": True}
    assert "select: the ids are those of the recipe" in said


def test_the_band_that_auto_chose_is_in_the_card_and_in_the_recipe(place, monkeypatch):
    monkeypatch.chdir(place)
    card = first(place, "auto") / "README.md"
    _, recipe = pasted(card)
    assert recipe["index"] == {"micro": {"band": "2:500"}}  # fewer than 1,000 samples
    assert recipe["made_from"]["incidence"]["band"] == "2:500"
    assert "| band | 2:500 |" in card.read_text("utf-8")


def test_a_cell_of_a_grid_has_a_recipe_of_its_own(place, monkeypatch):
    monkeypatch.chdir(place)
    grid = ["--grid", "diversity=0,67 seed=0,3", "--size", str(SIZE), *CASES["balance"][0]]
    (place / "grid.yaml").write_text(yaml.safe_dump(CASES["balance"][1]))
    sftdiv("select", "corpus", "--config", "grid.yaml", "--out", "grid", *grid)
    sftdiv("export", "grid/d67-s3", "--to", "grid-export")
    words, recipe = pasted(place / "grid-export/README.md")
    assert (recipe["diversity"], recipe["seed"]) == (67, 3)
    ids, _, said = run(place, "cell-again", words, recipe)
    assert ids == picks(place / "grid/d67-s3")
    assert "select: the ids are those of the recipe" in said


def test_an_export_holds_no_path_and_the_subset_of_its_own_does(place, monkeypatch):
    monkeypatch.chdir(place)
    made = first(place, "judged")
    for file in (path for path in made.rglob("*") if path.is_file() and path.suffix != ".parquet"):
        held = json.loads(file.read_text()) if file.name == "manifest.json" else file.read_text()
        if isinstance(held, dict):
            held = json.dumps({k: v for k, v in held.items() if k != "run"})
        assert str(place) not in held, file
    paths = json.loads((place / "judged/manifest.json").read_text())["run"]["paths"]
    assert paths["judge.model"] == str(place / "model")


def test_what_differs_from_the_recipe_is_named(place, monkeypatch):
    monkeypatch.chdir(place)
    ids, result, said = again(place, "tokenizer", "--tokenizer", "others.json")
    assert ids != picks(place / "tokenizer")
    (line,) = result["recipe"]["differs"]
    assert line.startswith("incidence of micro-response, tokens-instruction, tokens-response: ")
    assert re.search(r": tokenizer is [0-9a-f]{12}… here, [0-9a-f]{12}… there$", line)
    assert f"select: not made from what the recipe was: {line}" in said
    assert "select: the ids are not those of the recipe" in said
    assert result["recipe"]["ids_equal"] is False


def test_card_and_report_tell_every_stage_of_the_corpus(place, monkeypatch):
    monkeypatch.chdir(place)
    sftdiv("clean", "corpus", "--out", "cleaned", "--jaccard", "0.9")
    sftdiv("select", "cleaned", "--strategy", "random", "--size", "8", "--out", "of-cleaned")
    sftdiv("export", "of-cleaned", "--to", "of-cleaned-export")
    sftdiv("report", "of-cleaned", "--out", "page.html", "--layout", "none", "--no-measure")
    card = (place / "of-cleaned-export/README.md").read_text("utf-8")
    page = (place / "page.html").read_text("utf-8")
    for text in (card, page):
        assert "sftdiv ingest --config corpus.yaml" in text
        assert "sftdiv clean CORPUS --config corpus.yaml" in text
        assert "jaccard: 0.9" in text
    assert "The corpus, by ingest version 0" in card
