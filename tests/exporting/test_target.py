"""Exports copied to URLs: whole where they have a manifest, taken up again, others' files kept."""

import json

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sft_diversity.core import folder
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.exporting import stage, target
from sft_diversity.verbs import data
from tests import making, places
from tests.exporting import fixtures


@pytest.fixture(params=["memory", "s3"])
def place(request, monkeypatch):
    """The URL of an empty folder."""
    made = places.in_memory() if request.param == "memory" else places.on_s3(monkeypatch)
    with made as url:
        yield url


def exported(root, name="one", rows=None):
    """A finished export of a corpus of the first rows."""
    table = fixtures.samples()
    source = fixtures.subset(root / f"{name}-source", table.slice(0, rows or table.num_rows))
    making.export(source, str(root / name), stage.ExportConfig())
    return root / name


def copied(export, url, overwrite=False):
    return target.copy_to(export, target.place_to_write(url), overwrite, lambda _: None)


def back(url, to):
    """Fetch a copy; return the faults that `verify` finds in it."""
    fs, path = fsspec.core.url_to_fs(url)
    for name in sorted(places.names(url)):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(f"{path}/{name}", str(to / name))
    return folder.verify(to)["faults"]


def test_a_copy_is_whole_says_nothing_of_this_machine_and_is_made_once(place, tmp_path):
    export = exported(tmp_path)
    told = copied(export, place)
    files = {path.relative_to(export).as_posix() for path in export.rglob("*") if path.is_file()}
    assert places.names(place) == files
    assert (told["state"], told["files"]) == ("copied", len(files))
    assert back(place, tmp_path / "back") == []
    assert "run" not in json.loads((tmp_path / "back" / "manifest.json").read_text())
    assert copied(export, place)["state"] == "already there"


def test_another_export_takes_its_place_and_leaves_nothing_of_it(place, tmp_path):
    copied(exported(tmp_path), place)
    other = exported(tmp_path, "other", rows=2)
    assert copied(other, place)["state"] == "copied"
    assert back(place, tmp_path / "back") == []
    assert folder.read_manifest(tmp_path / "back")["rows"]["kept"] == 2


def test_what_others_wrote_is_refused_and_stays(place, tmp_path):
    with fsspec.open(f"{place}/notes.txt", "wb") as handle:
        handle.write(b"mine")
    export = exported(tmp_path)
    with pytest.raises(UsageError, match=r"holds what no export wrote \(notes.txt\).*--overwrite"):
        copied(export, place)
    assert places.names(place) == {"notes.txt"}
    copied(export, place, overwrite=True)
    assert {"notes.txt", "manifest.json"} < places.names(place)
    copied(exported(tmp_path, "other", rows=2), place)
    with fsspec.open(f"{place}/notes.txt", "rb") as handle:
        assert handle.read() == b"mine"


@pytest.mark.parametrize("replacing", [False, True])
def test_killed_anywhere_it_is_not_whole_and_goes_on(replacing, tmp_path, monkeypatch):
    """After each write or removal in turn the process ends; what lies there then is looked at."""
    old, new = exported(tmp_path, "old", rows=2), exported(tmp_path, "new")
    digests = {folder.read_manifest(one)["digest"]: one for one in (old, new)}
    put, remove = MemoryFileSystem.put_file, MemoryFileSystem.rm_file
    for most in range(100):
        done = sent = 0

        def counted(plain, most=most):
            def act(self, *args, **options):
                nonlocal done
                if done == most:
                    raise KeyboardInterrupt
                done += 1
                return plain(self, *args, **options)

            return act

        with places.in_memory() as url:
            if replacing:
                copied(old, url)
            monkeypatch.setattr(MemoryFileSystem, "put_file", counted(put))
            monkeypatch.setattr(MemoryFileSystem, "rm_file", counted(remove))
            try:
                copied(new, url)
                finished = True
            except KeyboardInterrupt:
                finished = False
            monkeypatch.setattr(MemoryFileSystem, "put_file", put)
            monkeypatch.setattr(MemoryFileSystem, "rm_file", remove)
            here = tmp_path / f"killed-{most}"
            if "manifest.json" in places.names(url):
                faults = [f for f in back(url, here) if not f.startswith(target.UNFINISHED)]
                assert faults == []  # who has a manifest is whole
                assert folder.read_manifest(here)["digest"] in digests
            sent = len(places.names(url) - {target.UNFINISHED})
            again = copied(new, url)
            assert back(url, tmp_path / f"again-{most}") == []
            if not replacing and sent:
                assert again["files"] < len(list(new.rglob("*")))
        if finished:
            assert most > 5
            return
    raise AssertionError("never finished")


def test_a_file_that_arrives_short_leaves_no_manifest(tmp_path, monkeypatch):
    def short(self, lpath, rpath, **options):
        self.pipe_file(rpath, b"" if rpath.endswith(".parquet") else b"{}")

    with places.in_memory() as url:
        monkeypatch.setattr(MemoryFileSystem, "put_file", short)
        with pytest.raises(DataError, match="has not arrived whole; run the command again"):
            copied(exported(tmp_path), url)
        assert "manifest.json" not in places.names(url)


def test_a_manifest_elsewhere_names_nothing_to_remove_outside(tmp_path):
    with places.in_memory() as url:
        with fsspec.open("memory://bucket/other.txt", "wb") as handle:
            handle.write(b"mine")
        wrong = {"stage": "export", "files": [{"path": "../other.txt"}], "digest": "0"}
        with fsspec.open(f"{url}/manifest.json", "wb") as handle:
            handle.write(json.dumps(wrong).encode())
        copied(exported(tmp_path), url)
        assert fsspec.filesystem("memory").exists("/bucket/other.txt")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://host/folder?sig=s1gnature", "a web server is only read"),
        ("memory://bucket/*", "has wildcards; name one folder"),
        ("none://bucket/x", "is nothing that fsspec knows"),
        ("file:///tmp/x", "name the path itself"),
    ],
)
def test_what_cannot_be_written_to_is_refused_first(url, said, tmp_path):
    source = fixtures.corpus(tmp_path / "corpus")
    with pytest.raises(UsageError) as fault:
        data.export(source, to=url, work=tmp_path / "work")
    assert said in str(fault.value)
    assert "s1gnature" not in str(fault.value)
    assert not (tmp_path / "work").exists()


def test_the_verb_asks_for_licences_and_says_what_it_did(tmp_path):
    source = fixtures.corpus(tmp_path / "corpus")
    with places.in_memory() as url:
        plan = data.export(source, to=url, work=tmp_path / "work", dry_run=True)["plan"]
        assert plan[-1]["out"] == url
        with pytest.raises(UsageError, match=f"may these go to {url}.*--acknowledge-licences"):
            data.export(source, to=url, work=tmp_path / "work")
        assert places.names(url) == set()
        told = data.export(source, to=url, work=tmp_path / "work", acknowledge_licences=True)
        assert (told["out"], told["copied"]["state"]) == (url, "copied")
        with pytest.raises(UsageError, match="branch, tag and name are of the Hub"):
            data.export(source, to=url, work=tmp_path / "work", branch="x")
