"""Models by a Hub id: a plan asks whether they are there, and fetches nothing."""

from __future__ import annotations

import pytest

from tests.exporting import fixtures


@pytest.fixture(scope="module")
def opened(tmp_path_factory, shell):
    root = tmp_path_factory.mktemp("models")
    with shell.at(root / "here") as made:
        fixtures.corpus(made.cwd / "corpus")
        made.python("import huggingface_hub as h; h.create_repo('me/model')")
        yield made


@pytest.mark.parametrize(
    ("command", "use"),
    [
        (["index", "corpus", "--tokenizer"], "index: tokenizer"),
        (["embed", "corpus", "--encoder"], "embed: encoder"),
        (["score", "--out", "s"], "score: model"),
    ],
)
def test_an_id_that_the_hub_does_not_know_is_refused_by_a_dry_run(opened, command, use):
    done = opened.run(*command, "me/nope", "--dry-run")
    assert done.returncode == 2
    assert done.last.startswith(f"error: {use} `me/nope` is no folder or file here, not in the Hub")
    assert "no such repository" in done.last
    known = opened.run(*command, "me/model", "--dry-run")
    assert known.returncode == 0, known.stderr
