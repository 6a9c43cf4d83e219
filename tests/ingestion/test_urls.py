"""Sources behind URLs: equal to files of this machine, fetched once, no credential anywhere."""

import contextlib
import gzip
import json
import logging

import fsspec
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem

from sft_diversity import library
from sft_diversity.core import config as configs
from sft_diversity.core import extras, folder
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.fetched import FOLDER
from sft_diversity.training import samples
from sft_diversity.verbs import data, measuring, selecting
from tests import making, places
from tests.ingestion.making import row, write_lines

SECRETS = ("kim", "pass%40word", "pass@word", "s1gnature", "sig=")


@pytest.fixture
def pool(tmp_path):
    """A folder with a plain, a gz and a zst file, another split, and what is no data."""
    made = tmp_path / "here" / "pool"
    made.mkdir(parents=True)
    write_lines(made / "a.jsonl", [row(i) for i in range(40)])
    text = b"".join(json.dumps(row(i)).encode() + b"\n" for i in range(40, 80))
    (made / "b.jsonl.gz").write_bytes(gzip.compress(text))
    text = b"".join(json.dumps(row(i)).encode() + b"\n" for i in range(80, 120))
    (made / "c.jsonl.zst").write_bytes(zstandard.compress(text))
    write_lines(made / "test.jsonl", [row(500)])
    (made / "photo.jpg").write_bytes(b"no data")
    return made


@pytest.fixture(params=["memory", "s3", "http"])
def elsewhere(request, pool, monkeypatch):
    """The URL of the folder above a copy of the pool."""
    with contextlib.ExitStack() as stack:
        if request.param == "http":
            pytest.importorskip("aiohttp")
            yield stack.enter_context(places.served(pool.parent))[0]
            return
        here = places.in_memory() if request.param == "memory" else places.on_s3(monkeypatch)
        url = stack.enter_context(here)
        places.put(url, pool.parent)
        yield url


def made(source, out, **options):
    """Ingest a source; return the output's contents."""
    config = configs.build(IngestConfig, options, "test")
    making.make("ingest", ingesting.resolve([source], config), out)
    return making.contents(out)


@pytest.mark.parametrize("named", ["pool/a.jsonl", "pool/b.jsonl.gz", "pool/", "pool/*.jsonl*"])
def test_what_a_url_names_becomes_the_corpus_that_files_here_become(
    named, elsewhere, pool, tmp_path
):
    there = made(f"{elsewhere}/{named}", tmp_path / "there")
    assert there == made(str(pool.parent / named), tmp_path / "near")
    account = folder.read_manifest(tmp_path / "there")["run"]["fetched"]
    assert list(account.values()) == [f"{elsewhere}/{named}"]


def test_a_split_is_chosen_as_in_a_folder_here(elsewhere, pool, tmp_path):
    source = {"name": "pool", "split": "test"}
    both = [
        made_of([source | {"path": path}], tmp_path / out)
        for path, out in ((f"{elsewhere}/pool/", "there"), (str(pool), "near"))
    ]
    assert both[0] == both[1]
    assert folder.read_manifest(tmp_path / "there")["rows"]["kept"] == 1


def made_of(sources, out):
    making.make("ingest", configs.build(IngestConfig, {"sources": sources}, "test"), out)
    return making.contents(out)


def test_an_export_elsewhere_is_read_back_with_the_sources_that_it_had(elsewhere, pool, tmp_path):
    if elsewhere.startswith("http"):
        pytest.skip("only read")
    data.ingest(pool, out=tmp_path / "corpus")
    data.export(tmp_path / "corpus", to=tmp_path / "export")
    places.put(f"{elsewhere}/export", tmp_path / "export")
    there = made(f"{elsewhere}/export", tmp_path / "there")
    assert there == made(str(tmp_path / "export"), tmp_path / "near")
    assert [
        one["name"] for one in folder.read_manifest(tmp_path / "there")["result"]["sources"]
    ] == ["pool"]


def test_a_dry_run_fetches_nothing_and_a_second_run_nothing_again(pool, tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.chdir(tmp_path)
    with places.served(pool.parent) as (url, seen):
        source = f"{url}/pool/a.jsonl"
        plan = data.ingest(source, out="corpus", dry_run=True)["plan"]
        assert plan[0]["sources"][0]["bytes"] == (pool / "a.jsonl").stat().st_size
        plan = selecting.select(source, size=9, strategy="random", out="subset", dry_run=True)[
            "plan"
        ]
        assert [step["state"] for step in plan] == ["to do"] * len(plan)
        assert not (tmp_path / ".sftdiv" / FOLDER).exists()
        assert {one.split()[0] for one in seen} == {"HEAD"}
        data.ingest(source, out="corpus")
        data.ingest(source, out="corpus")
        assert sum(one.startswith("GET") for one in seen) == 1
        assert data.ingest(source, out="corpus", dry_run=True)["plan"][0]["state"] == "cached"
        write_lines(pool / "a.jsonl", [row(i) for i in range(7)])
        assert data.ingest(source, out="corpus", dry_run=True)["plan"][0]["state"] == "to do"
        assert data.ingest(source, out="corpus")["accounting"]["kept"] == 7


def test_a_stopped_fetch_goes_on_with_the_files_that_are_left(pool, tmp_path, monkeypatch):
    with places.in_memory() as url:
        places.put(url, pool.parent)
        fetched = []
        plain = MemoryFileSystem.get_file

        def broken(self, rpath, lpath, **options):
            fetched.append(rpath.rpartition("/")[2])
            if len(fetched) == 2:
                raise ConnectionResetError("gone")
            return plain(self, rpath, lpath, **options)

        monkeypatch.setattr(MemoryFileSystem, "get_file", broken)
        with pytest.raises(DataError, match=r"cannot be reached: gone.*run the command again"):
            made(f"{url}/pool", tmp_path / "out")
        there = made(f"{url}/pool", tmp_path / "out")
        assert fetched == ["a.jsonl", "b.jsonl.gz", "b.jsonl.gz", "c.jsonl.zst"]
        assert there == made(str(pool), tmp_path / "near")


def test_what_is_gone_elsewhere_is_not_read_again(pool, tmp_path):
    with places.in_memory() as url:
        places.put(url, pool.parent)
        made(f"{url}/pool", tmp_path / "out")
        fsspec.filesystem("memory").rm_file("/bucket/place/pool/a.jsonl")
        made(f"{url}/pool", tmp_path / "out")
        assert folder.read_manifest(tmp_path / "out")["rows"]["kept"] == 80


def test_no_credential_is_in_any_file_line_or_log(pool, tmp_path, monkeypatch, capfd, caplog):
    pytest.importorskip("aiohttp")
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(extras, "has", lambda module: False)  # no encoder: it takes half a minute
    with places.served(pool.parent) as (url, _):
        host = url.partition("://")[2]
        source = f"http://kim:pass%40word@{host}/pool/a.jsonl?sig=s1gnature"
        data.ingest(source, out="corpus")
        selecting.select(source, size=9, strategy="random", out="subset")
        measuring.measure(source, source, out="measures")
        messages = []
        for wrong in (
            f"http://kim:pass%40word@{host}/none.jsonl?sig=s1gnature",
            f"http://kim:pass%40word@{host}/pool/a.jsonl?sig=wrong-s1gnature",
            f"http://kim:pass%40word@{host}/pool/photo.jpg?sig=s1gnature",
            "http://kim:pass%40word@127.0.0.1:9/pool/a.jsonl?sig=s1gnature",
        ):
            with pytest.raises((DataError, UsageError)) as fault:
                data.ingest(wrong, out="other")
            messages.append(str(fault.value))
    assert "no such file or folder (404); check the name" in messages[0]
    assert "access is denied (403); give the credentials" in messages[1]
    assert "unknown kind of file" in messages[2]
    assert "cannot be reached" in messages[3]
    said = [*messages, *capfd.readouterr(), *(one.getMessage() for one in caplog.records)]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and pool not in path.parents]
    assert len(files) > 10
    for secret in SECRETS:
        assert not [text for text in said if secret in text]
        assert not [path for path in files if secret in path.name]
        assert not [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("name", ["../../escaped.jsonl", "a/../../../escaped.jsonl", "a\\b.jsonl"])
def test_no_name_elsewhere_leads_out_of_the_copy(name, pool, tmp_path, monkeypatch):
    with places.in_memory() as url:
        places.put(url, pool.parent)
        path = f"/bucket/place/pool/{name}"
        plain = MemoryFileSystem.find

        def find(self, *args, **options):
            return plain(self, *args, **options) | {
                path: {"name": path, "size": 1, "type": "file", "created": "now"}
            }

        monkeypatch.setattr(MemoryFileSystem, "find", find)
        with pytest.raises(DataError, match="is no plain path below it"):
            made(f"{url}/pool", tmp_path / "out")
        assert not list(tmp_path.rglob("escaped*"))
    with pytest.raises((DataError, UsageError)):
        made("memory://bucket/..", tmp_path / "out")


def test_a_file_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    with places.in_memory() as url:
        with fsspec.open(f"{url}/a.jsonl", "wb") as handle:
            handle.write(b"{}\n" * 1000)
        plain = MemoryFileSystem.info
        monkeypatch.setattr(
            MemoryFileSystem, "info",
            lambda self, path, **options: plain(self, path, **options) | {"size": None},
        )  # fmt: skip
        with pytest.raises(DataError, match=r"a\.jsonl is larger than 1,073 bytes"):
            made(f"{url}/a.jsonl", tmp_path / "out", max_expanded_gb=1e-6)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("none://a/b.jsonl", "none:// is nothing that fsspec knows"),
        ("file:///etc/passwd", "name the path itself, without file://"),
        ("simplecache::s3://a/b.jsonl", "no such file"),
        ("zip://a.jsonl::https://x/b.zip?sig=s1gnature", "URLs in a chain are not read"),
        ("memory://none.jsonl", "no such file or folder; check the name"),
        ("memory://none/*.jsonl", "no data file of split `train` there"),
        ("hf://datasets/org/name/a.jsonl", "offline mode is set; unset HF_HUB_OFFLINE"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_way_out(url, said, tmp_path):
    with pytest.raises((DataError, UsageError)) as fault:
        made(url, tmp_path / "out")
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)
    assert "s1gnature" not in str(fault.value)


@pytest.mark.parametrize(
    ("url", "package"), [("s3://a/b.jsonl", "s3fs"), ("gs://a/b.jsonl", "gcsfs")]
)
def test_a_missing_package_is_named(url, package, tmp_path, monkeypatch):
    def missing(protocol):
        raise ImportError(f"Install {package}")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(UsageError, match=f"not installed; pip install {package}$"):
        made(url, tmp_path / "out")


def test_python_takes_urls_and_finetune_ingests_them_first(pool, tmp_path):
    with places.in_memory() as url:
        places.put(url, pool.parent)
        there = library.select(f"{url}/pool", size=30, work=tmp_path / "one")
        near = library.select(str(pool), size=30, work=tmp_path / "two")
        assert there.ids == near.ids
        assert samples.is_raw(f"{url}/pool")
