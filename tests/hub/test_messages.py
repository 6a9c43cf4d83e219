"""Everything that can go wrong with a push: one line says what, why and the way out.

Every run of the command line is also searched for tokens, and so is every file it leaves.
"""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from tests.exporting import fixtures
from tests.hub.client import OWNER, READER, STRANGER, WRONG, sftdiv
from tests.hub.server import Fault
from tests.hub.store import entry_of

ACK = "--acknowledge-licences"
SHARD = "micro-response-67/data/train-00000-of-00002.parquet"


@pytest.fixture(scope="module")
def opened(tmp_path_factory, shell):
    root = tmp_path_factory.mktemp("messages")
    long = [[("user", f"{i} " + "x" * 60_000), ("assistant", "y" * 100)] for i in range(14)]
    fixtures.subset(root / "sub", fixtures.samples(long), per_file=14)
    fixtures.subset(root / "other", settings={"strategy": "random", "seed": 0})
    fixtures.subset(root / "seed1", settings={"strategy": "random", "seed": 1})
    with shell.at(root / "here") as made:
        yield made


@pytest.fixture
def place(opened):
    """The shell, with a Hub that is empty and faultless again."""
    opened.hub.faults.clear()
    opened.hub.requests.clear()
    opened.hub.store.repositories.clear()
    return opened


def push(place, *more, source="sub", name="me/data", **options):
    return place.run(
        "export", place.cwd.parent / source, "--to", f"hub:{name}", ACK,
        "--max-shard-mb", 1, *more, **options,
    )  # fmt: skip


def uploads(place) -> int:
    return place.hub.count("PUT", "/storage/", 200)


def test_a_push_says_what_went_where_and_a_repeated_one_that_it_is_there(place):
    done = push(place)
    assert done.returncode == 0, done.stderr
    commit = place.hub.repository("me/data").history()[0].sha
    assert "export: made me/data, private" in done.stderr
    assert re.fullmatch(
        r"export: 12 files, \d+ kB, in one commit to me/data, all checksums equal: "
        f"{place.hub.endpoint}/datasets/me/data/commit/{commit}",
        done.last,
    )
    assert uploads(place) == 2
    again = push(place)
    assert again.returncode == 0
    assert again.last == "export: already there, nothing sent: 12 files of me/data"
    assert len(place.hub.repository("me/data").history()) == 2
    assert (uploads(place), place.hub.count("POST", "/commit/")) == (2, 1)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (WRONG, "the Hub does not accept the token (401); log in with `hf auth login` or"),
        (None, "there is no such repository to see without a token (401); log in with"),
        (STRANGER.token, "the token has no right to this (403); use one that may write there"),
        (READER.token, "the token has no right to this (403); use one that may write there"),
    ],
    ids=["wrong token", "no token", "no rights", "read-only token"],
)
def test_who_may_not_push(place, token, said):
    place.hub.store.create("datasets", "me/data", True, OWNER)
    before = place.hub.repository("me/data").branches.copy()
    done = push(place, token=token)
    assert done.returncode == 1
    assert done.last.startswith(f"error: export: me/data: {said}")
    assert place.hub.repository("me/data").branches == before


def test_no_network(place):
    done = sftdiv(
        place.cwd, "http://127.0.0.1:9", "export", place.cwd.parent / "other",
        "--to", "hub:me/data", ACK,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.last.startswith("error: export: me/data: cannot reach http://127.0.0.1:9: ")
    assert done.last.endswith("check the network (or HF_ENDPOINT), then run the command again")


def test_a_killed_push_leaves_no_commit_and_goes_on_with_what_is_lacking(place):
    place.hub.faults.append(Fault("PUT", "/storage/", "hang", skip=1))
    place.killed(
        "export", place.cwd.parent / "sub", "--to", "hub:me/data", ACK, "--max-shard-mb", 1,
        when=lambda: uploads(place) == 1 and place.hub.count("PUT", "/storage/") == 2,
    )  # fmt: skip
    assert len(place.hub.repository("me/data").history()) == 1
    place.hub.faults.clear()
    done = push(place)
    assert done.returncode == 0, done.stderr
    assert uploads(place) == 2  # one before, one now
    assert len(place.hub.repository("me/data").history()) == 2


def test_a_signal_stops_a_push_before_its_commit(place):
    def stop():
        os.kill(place.child, signal.SIGTERM)

    place.hub.faults.append(Fault("PUT", "/storage/", stop, times=1))
    done = push(place)
    assert done.returncode == 75
    assert done.last == "error: export: stopped by SIGTERM; run the same command to resume"
    assert len(place.hub.repository("me/data").history()) == 1
    assert push(place).returncode == 0
    assert uploads(place) == 2


def test_a_connection_that_breaks_in_an_upload_is_taken_up_by_the_client(place):
    place.hub.faults.append(Fault("PUT", "/storage/", "drop", times=1))
    done = push(place)
    assert done.returncode == 0, done.stderr
    assert uploads(place) == 2
    assert len(done.stderr.splitlines()) == 4  # licences, staged, made, pushed


def test_a_refused_upload_leaves_the_repository_as_it_was(place):
    place.hub.faults.append(Fault("PUT", "/storage/", 403, skip=1))
    done = push(place)
    assert done.returncode == 1
    assert done.last.startswith("error: export: me/data: the token has no right to this (403)")
    assert len(place.hub.repository("me/data").history()) == 1


def test_a_commit_that_breaks_off_is_made_by_the_next_run_without_an_upload(place):
    place.hub.faults.append(Fault("POST", "/commit/", "drop"))
    done = push(place)
    assert done.returncode == 1
    assert "cannot reach" in done.last
    assert len(place.hub.repository("me/data").history()) == 1
    place.hub.faults.clear()
    assert push(place).returncode == 0
    assert uploads(place) == 2
    assert len(place.hub.repository("me/data").history()) == 2


def test_a_commit_whose_answer_is_lost_counts(place):
    place.hub.faults.append(Fault("POST", "/commit/", "lost"))
    done = push(place)
    assert done.returncode == 0, done.stderr
    assert "in one commit to me/data, all checksums equal" in done.last
    assert len(place.hub.repository("me/data").history()) == 2


def test_a_commit_of_somebody_else_meanwhile_is_not_gone_over(place):
    def meanwhile():
        place.hub.repository("me/data").edit("notes.md", b"mine")

    place.hub.faults.append(Fault("POST", "/commit/", meanwhile, times=1))
    done = push(place)
    assert done.returncode == 1
    assert done.last == (
        "error: export: me/data: somebody else wrote to it meanwhile (412); "
        "nothing was changed; run the command again"
    )
    assert [c.title for c in place.hub.repository("me/data").history()] == ["edit", "initial"]
    assert push(place).returncode == 0
    assert place.hub.repository("me/data").read("notes.md") == b"mine"


def test_a_file_that_the_hub_stored_wrong_is_noticed(place):
    def rot():
        repository = place.hub.repository("me/data")
        if SHARD in repository.files():
            repository.files()[SHARD] = entry_of(b"rot")

    place.hub.faults.append(Fault("GET", "/tree/", rot))
    done = push(place)
    assert done.returncode == 1
    sha = place.hub.repository("me/data").branches["main"]
    assert done.last == (
        f"error: export: me/data at {sha[:12]}: the Hub's checksum of {SHARD} is not that of "
        "the file here; run the command again with --overwrite"
    )


def test_what_others_changed_is_named_and_gone_over_only_if_told(place):
    assert push(place).returncode == 0
    repository = place.hub.repository("me/data")
    repository.edit("README.md", b"# my own words")
    repository.edit("notes.md", b"kept")
    repository.edit("micro-response-67/data/train-00009-of-00002.parquet", b"PAR1")
    commits = len(repository.history())
    done = push(place)
    assert done.returncode == 1
    assert done.last == (
        "error: export: me/data was changed since the last export: README.md edited, "
        "micro-response-67/data/train-00009-of-00002.parquet added; nothing was pushed; "
        "save what you need, then add --overwrite"
    )
    assert len(repository.history()) == commits
    done = push(place, "--overwrite")
    assert done.returncode == 0, done.stderr
    files = repository.files()
    assert repository.read("README.md").startswith(b"---\n")
    assert repository.read("notes.md") == b"kept"
    assert "micro-response-67/data/train-00009-of-00002.parquet" not in files
    assert push(place).last.startswith("export: already there")


def test_a_repository_of_somebody_else_is_not_gone_over(place):
    place.hub.store.create("datasets", "me/data", False, OWNER).edit("README.md", b"# mine")
    done = push(place)
    assert done.returncode == 1
    assert "me/data has README.md of other origin; nothing was pushed; name another" in done.last
    done = push(place, "--overwrite")
    assert done.returncode == 0
    assert "export: me/data is public and stays so; its settings are on the Hub" in done.stderr


def test_a_config_is_added_beside_the_others_and_replaced_by_its_like_only(place):
    assert push(place).returncode == 0
    done = push(place, "--json", source="other")
    assert json.loads(done.stdout)["hub"]["configs"] == ["micro-response-67", "random"]
    assert uploads(place) == 3
    done = push(place, "--name", "random", source="seed1")
    assert done.returncode == 2
    assert done.last == (
        "error: export: me/data has a config random with seed 0 there, 1 here; "
        "give this one another --name, or add --overwrite"
    )
    done = push(place, "--name", "random", "--overwrite", source="seed1")
    assert done.returncode == 0
    assert "seed1" not in place.hub.repository("me/data").read("README.md").decode()


def test_what_others_did_to_another_config_is_not_taken_for_ours(place):
    assert push(place).returncode == 0
    repository = place.hub.repository("me/data")
    repository.edit("micro-response-67/README.md", b"x")
    done = push(place, "--overwrite", source="other")
    assert done.returncode == 1
    assert "micro-response-67/README.md edited, which is not of what is pushed" in done.last
    repository.commit("main", {}, delete=["micro-response-67"])
    done = push(place, "--overwrite", "--json", source="other")
    assert json.loads(done.stdout)["hub"]["configs"] == ["random"]


def test_branches_and_tags_name_versions(place):
    assert push(place, "--tag", "v1").returncode == 0
    repository = place.hub.repository("me/data")
    first = repository.branches["main"]
    done = push(place, "--branch", "next", "--tag", "v2", source="other")
    assert done.returncode == 0, done.stderr
    assert "in one commit to me/data, branch next" in done.stderr
    assert repository.branches["main"] == first
    assert repository.commits[repository.branches["next"]].parent == first
    assert repository.tags == {"v1": first, "v2": repository.branches["next"]}
    done = push(place, "--tag", "v1", source="other")
    assert done.returncode == 2
    assert f"has a tag v1, of commit {first[:12]}, which holds something else" in done.last
    assert repository.branches["main"] == first
    assert push(place, "--tag", "v1").last.startswith("export: already there")


def test_licences_are_asked_about_before_anything_else(place):
    done = place.run("export", place.cwd.parent / "sub", "--to", "hub:me/data")
    assert done.returncode == 2
    assert done.last == (
        "error: export: licences of 2 of 2 sources need a look: a (no licence stated); "
        "b (no licence stated); may these go to me/data? then add --acknowledge-licences "
        "(or state them with `licences` in --config)"
    )
    assert not place.hub.requests
