import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest

from sft_diversity.core import drafts, folder
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import rows_account, verify

WORK = Work("demo", 1, {"corpus": "abc"}, {"size": 3})


def finish(out, work=WORK, text="hello"):
    draft = open_draft(out, work)
    if not draft.reused:
        with draft.writing("data/a.txt") as path:
            path.write_text(text)
        draft.commit(rows=rows_account(3, 2, {"empty": 1}))
    return draft


def test_no_folder_before_commit_and_a_manifest_after(tmp_path):
    out = tmp_path / "x"
    draft = open_draft(out, WORK)
    draft.write_table("t.parquet", pa.table({"a": [1]}))
    assert not out.exists()
    draft.commit()
    assert folder.read_manifest(out, "demo")["key"] == WORK.key
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "t.parquet"]


def test_same_work_is_reused_and_other_work_says_what_changed(tmp_path):
    finish(tmp_path / "x")
    assert finish(tmp_path / "x").state == "reused"
    other = finish(tmp_path / "x", Work("demo", 1, {"corpus": "abc"}, {"size": 4}), "new")
    assert other.reason == "recomputed because size changed: 3 -> 4"
    assert (tmp_path / "x/data/a.txt").read_text() == "new"


def test_a_changed_input_or_version_is_named(tmp_path):
    assert Work("demo", 2, {}, {}).difference(WORK.as_json()) == (
        "the stage's version went from 1 to 2"
    )
    changed = Work("demo", 1, {"corpus": "abd"}, {"size": 3}).difference(WORK.as_json())
    assert changed == 'input corpus changed: "abc" -> "abd"'


def test_a_stopped_draft_is_taken_up_again_only_for_the_same_work(tmp_path):
    out = tmp_path / "x"
    first = open_draft(out, WORK)
    first.write_json("shard-0.json", [1])
    again = open_draft(out, WORK)
    assert (again.state, again.has("shard-0.json")) == ("resumed", True)
    other = open_draft(out, Work("demo", 1, {"corpus": "abc"}, {"size": 9}))
    assert (other.state, other.has("shard-0.json")) == ("new", False)


def test_killed_between_manifest_and_rename_ends_as_done(tmp_path):
    out = tmp_path / "x"
    finish(out)
    out.rename(tmp_path / ".x.partial")
    (tmp_path / ".x.partial" / "work.json").write_text(json.dumps(WORK.as_json()))
    assert open_draft(out, WORK).reused
    assert verify(out)["faults"] == []


def test_a_failed_write_leaves_no_file(tmp_path):
    draft = open_draft(tmp_path / "x", WORK)
    with pytest.raises(ValueError, match="boom"), draft.writing("a.txt") as path:
        path.write_text("half")
        raise ValueError("boom")
    assert not draft.has("a.txt")
    assert [p.name for p in draft.path.iterdir()] == ["work.json"]


def test_what_a_killed_writer_of_a_single_file_left_goes_with_the_next(tmp_path):
    (tmp_path / ".page.[1].html.there-7.writing").write_text("half")
    with folder.replacing(tmp_path / "page.[1].html", "report") as scratch:
        scratch.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["page.[1].html"]
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(DataError, match="report: cannot write"),
        folder.replacing(tmp_path / "file" / "page.html", "report"),
    ):
        pass


def test_a_folder_that_is_not_ours_is_never_overwritten(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no output of `demo`"):
        open_draft(tmp_path / "x", WORK)
    assert (tmp_path / "x/thesis.txt").read_text() == "mine"


def test_nothing_is_written_into_a_finished_output_or_a_source_but_into_what_grows(tmp_path):
    done = open_draft(tmp_path / "done", WORK)
    done.commit()
    with pytest.raises(UsageError, match=r"lies in .*done, an output of `demo`, which is finished"):
        open_draft(tmp_path / "done" / "deep" / "x", WORK)
    assert folder.verify(tmp_path / "done")["faults"] == []
    (tmp_path / "raw").mkdir()
    drafts.check_out(tmp_path / "raw" / "x", "demo")
    with pytest.raises(UsageError, match=r"lies in .*raw, which is read"):
        drafts.check_out(tmp_path / "raw" / "x", "demo", [tmp_path / "raw"])
    drafts.check_out(tmp_path / "raw" / ".work" / "x", "demo", [tmp_path / "raw"])  # is not read
    manifest = tmp_path / "raw" / "manifest.json"
    manifest.write_text(json.dumps({"stage": "study", "digest": "x", "grows": True}))
    drafts.check_out(tmp_path / "raw" / "x", "demo")
    manifest.write_text('{"name": "a web page"}')
    drafts.check_out(tmp_path / "raw" / "x", "demo")


def test_an_output_behind_a_link_is_made_and_made_anew_where_the_link_leads(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    for size in (3, 4, 5):
        finish(link, Work("demo", 1, {"corpus": "abc"}, {"size": size}), f"text {size}")
        assert link.readlink().name == "real"
        assert verify(tmp_path / "real")["faults"] == []
        assert (tmp_path / "real/data/a.txt").read_text() == f"text {size}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_no_output_is_made_at_a_link_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="link is a link to nothing; name another folder"):
        open_draft(tmp_path / "link", WORK)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_place_that_cannot_be_written_to_is_refused_unless_it_is_there(tmp_path, monkeypatch):
    open_draft(tmp_path / "done", WORK).commit()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file is a file; name another folder"):
        drafts.check_out(tmp_path / "file" / "x", "demo")
    real = os.access  # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode))
    with pytest.raises(DataError, match="may not be written to"):
        drafts.check_out(tmp_path / "new", "demo")
    drafts.check_out(tmp_path / "done", "demo")


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda d: (d / "data/a.txt").write_text("hellO"), "contents differ"),
        (lambda d: (d / "data/a.txt").unlink(), "missing"),
        (lambda d: (d / "b.txt").write_text(""), "not in the manifest"),
    ],
)
def test_verify_finds(tmp_path, harm, fault):
    finish(tmp_path / "x")
    assert verify(tmp_path / "x")["faults"] == []
    harm(tmp_path / "x")
    assert any(fault in said for said in verify(tmp_path / "x")["faults"])


@pytest.mark.parametrize(
    ("old", "new"),
    [('"kept": 2', '"kept": 1'), ('"files": [', '"files": 7, "x": ['), ('"run": {', '"ran": {')],
)
def test_an_edited_manifest_is_named_by_whoever_reads_it(tmp_path, old, new):
    finish(tmp_path / "x")
    manifest = tmp_path / "x" / "manifest.json"
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))
    for read in (verify, folder.read_manifest, folder.read_input, finish):
        with pytest.raises(DataError, match=r"x: manifest.json was changed after it was written"):
            read(tmp_path / "x")


def test_equal_runs_have_equal_bytes_but_for_the_run_block(tmp_path):
    bodies = []
    for name in ("x", "y"):
        finish(tmp_path / name)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        del manifest["run"]
        bodies.append(manifest)
    assert bodies[0] == bodies[1]


def test_rows_must_add_up():
    with pytest.raises(AssertionError):
        rows_account(5, 2, {"empty": 1})


def test_what_killed_writers_of_a_shared_folder_left_is_swept_and_no_other_scratch(tmp_path):
    """What lives, and what another host writes, stays: of that nobody here knows."""
    dead = subprocess.run(
        [sys.executable, "-c", "import os, platform; print(f'{platform.node()}-{os.getpid()}')"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    here = dead.rpartition("-")[0]
    for name in (dead, f"{here}-{os.getpid()}", "elsewhere-999999999"):
        (tmp_path / f".a.arrow.{name}.writing").write_text("half")
    (tmp_path / "a.arrow").write_text("whole")
    folder.sweep(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(
        [
            f".a.arrow.{here}-{os.getpid()}.writing",
            ".a.arrow.elsewhere-999999999.writing",
            "a.arrow",
        ]
    )


def test_kill_during_a_write_never_leaves_half_a_file(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from sft_diversity.core.drafts import Work, open_draft
work = Work("demo", 1, {{"corpus": "abc"}}, {{"size": 3}})
draft = open_draft(Path({str(tmp_path / "x")!r}), work)
draft.write_json("one.json", [1])
with draft.writing("two.json") as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert run.returncode == -9
    assert not (tmp_path / "x").exists()
    again = open_draft(tmp_path / "x", WORK)
    assert again.state == "resumed"
    assert again.has("one.json")
    assert not again.has("two.json")
    again.write_json("two.json", [2])
    again.commit()
    assert verify(tmp_path / "x")["faults"] == []


@pytest.mark.parametrize("change", [(b'"size"', b'"sixe"'), (b"{", b"\xee"), (b"{", b"[")])
def test_a_json_file_of_other_bytes_is_named_by_who_reads_it(change, tmp_path):
    """Also where it still is JSON: a key of other letters would be a traceback later."""
    draft = open_draft(tmp_path / "x", WORK)
    draft.write_json("fit.json", {"size": 3})
    assert folder.read_json(draft.path / "fit.json") == {"size": 3}
    draft.commit()
    path = tmp_path / "x/fit.json"
    assert folder.read_json(path) == {"size": 3}
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(DataError, match=r"fit\.json is damaged"):
        folder.read_json(path)
