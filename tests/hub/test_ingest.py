"""Data sets of the Hub as sources: what is read, recorded, said, and read again."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import corpus, folder
from tests.exporting import fixtures
from tests.hub.client import OWNER, STRANGER, WRONG
from tests.hub.server import Fault
from tests.levels import making


@pytest.fixture(scope="module")
def opened(tmp_path_factory, shell):
    """A Hub with one pushed repository of a subset and a corpus, tagged v1."""
    root = tmp_path_factory.mktemp("ingest")
    fixtures.subset(root / "sub", per_file=6)
    fixtures.corpus(root / "corpus")
    with shell.at(root / "here") as made:
        done = made.run(
            "export", root / "sub", root / "corpus", "--to", "hub:me/rows", "--tag", "v1",
            "--acknowledge-licences",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture
def place(opened):
    opened.hub.faults.clear()
    opened.hub.requests.clear()
    return opened


def head(place) -> str:
    return str(place.hub.repository("me/rows").branches["main"])


def ingest(place, source, out, *more, **options):
    return place.run("ingest", source, "--out", out, *more, **options)


def body(place, out):
    manifest = json.loads((place.cwd / out / "manifest.json").read_text())
    return {k: v for k, v in manifest.items() if k != "run"}


def test_a_config_at_a_tag_is_streamed_and_its_commit_recorded(place):
    done = ingest(place, "hub:me/rows/micro-response-67@v1", "tagged")
    assert done.returncode == 0, done.stderr
    commit = place.hub.repository("me/rows").tags["v1"]
    label = f"hub:me/rows/micro-response-67@{commit}"
    assert f"ingest: hub:me/rows: v1 may move; these rows are {label}\n" in done.stderr
    source = body(place, "tagged")["result"]["sources"][0]
    assert source["files"] == [
        {"file": label, "quarantined": 0, "rows": 6, "sha256": commit},
    ]  # fmt: skip
    assert source["licence"] == "apache-2.0, unknown"  # as the card says
    pushed = pq.read_table(place.cwd.parent / "sub/samples/00000.parquet")
    read = corpus.read(place.cwd / "tagged")
    assert {*read["source_file"].to_pylist()} == {label}
    by_id = {row["id"]: row["messages"] for row in fixtures_ids(pushed)}
    assert {row["id"]: row["messages"] for row in read.to_pylist()} == by_id


def fixtures_ids(pushed: pa.Table) -> list[dict[str, Any]]:
    """The pushed samples under the ids that their text gives them."""
    from sft_diversity.core.hashing import text_key

    def key(turns):
        return text_key(*(text for turn in turns for text in (turn["role"], turn["content"])))

    return [{**row, "id": key(row["messages"])} for row in pushed.to_pylist()]


def test_a_pinned_revision_is_the_same_bytes_and_no_question_once_it_is_there(place):
    pinned = f"hub:me/rows/corpus@{head(place)}"
    assert ingest(place, pinned, "one").returncode == 0
    assert ingest(place, pinned, "two").returncode == 0
    assert body(place, "one") == body(place, "two")
    place.hub.requests.clear()
    done = ingest(place, pinned, "two")
    assert "may move" not in done.stderr
    assert "reused" in done.stderr
    assert not place.hub.requests


def test_a_branch_that_moved_is_read_anew_and_said(place):
    assert ingest(place, "hub:me/rows/corpus", "moving").returncode == 0
    assert "reused" in ingest(place, "hub:me/rows/corpus", "moving").stderr
    place.hub.repository("me/rows").edit("notes.md", b"x")
    done = ingest(place, "hub:me/rows/corpus", "moving")
    assert f"its main branch may move; these rows are hub:me/rows/corpus@{head(place)}" in (
        done.stderr
    )
    assert "recomputed because input me_rows_corpus changed" in done.stderr


@pytest.mark.parametrize(
    ("source", "token", "said"),
    [
        ("hub:me/none", OWNER.token, "hub:me/none: no such repository, or not for this token"
         " (404); check the name; for a private one log in with `hf auth login` or set HF_TOKEN"),
        ("hub:me/rows@v9", OWNER.token, "hub:me/rows@v9: no such revision (404); name a branch, "
         "a tag or a commit that it has"),
        (f"hub:me/rows@{'0' * 40}", OWNER.token, f"hub:me/rows@{'0' * 40}: "),
        ("hub:me/rows/nope", OWNER.token, "'nope' not found. Available: ['"),
        ("hub:me/rows/corpus/nope", OWNER.token, "name one as hub:me/rows/CONFIG[/SPLIT]"),
        ("hub:me/rows", WRONG, "the Hub does not accept the token (401); log in with"),
        ("hub:me/rows", None, "no such repository to see without a token (401); log in"),
        ("hub:me/rows", STRANGER.token, "no such repository, or not for this token (404)"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_line(place, source, token, said):
    done = ingest(place, source, "none", token=token)
    assert done.returncode == 1
    assert done.last.startswith("error: ingest: ")
    assert said in done.last
    assert not (place.cwd / "none").exists()


SOURCES = """
sources:
  - {name: first, path: "hub:me/rows/corpus@v1"}
  - {name: second, path: "hub:me/rows/micro-response-67@v1"}
"""


def test_a_killed_stream_goes_on_with_the_source_that_was_not_done(place):
    (place.cwd / "sources.yaml").write_text(SOURCES)
    command = ["ingest", "--config", "sources.yaml", "--out", "resumed"]
    second = "/micro-response-67/data/"
    place.hub.faults.append(Fault("GET", second, "hang"))
    place.killed(*command, when=lambda: place.hub.count("GET", second) > 0)
    assert not (place.cwd / "resumed").exists()
    place.hub.faults.clear()
    place.hub.requests.clear()
    done = place.run(*command)
    assert done.returncode == 0, done.stderr
    assert "ingest: resumed at part 1 of 2" in done.stderr
    assert place.hub.count("GET", "/corpus/data/") == 0
    command[-1] = "whole"
    assert place.run(*command).returncode == 0
    assert body(place, "resumed") == body(place, "whole")
    assert folder.verify(place.cwd / "resumed")["faults"] == []


def test_select_takes_an_address_as_it_takes_a_file(place):
    tokenizer = making.tokenizer_file(place.cwd / "words.json")  # loads without transformers
    command = ["select", "hub:me/rows/corpus@v1", "--strategy", "random", "--size", "3"]
    command += ["--tokenizer", tokenizer]
    done = place.run(*command, "--out", "chosen", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 3
    again = place.run(*command, "--out", "again").stderr
    assert re.search(r"ingest: \S+ is up to date", again)
