"""Parts of a push that need no Hub; tests/hub has the whole of it."""

from __future__ import annotations

import hashlib

import pytest

from sft_diversity.core.errors import UsageError
from sft_diversity.exporting import collection, hub, record, remote, stage
from tests import making
from tests.exporting import fixtures


def staged(root, name, settings, **options):
    source = fixtures.subset(root / f"{name}-source", settings=settings)
    making.export(source, str(root / name), stage.ExportConfig(**options))
    return root / name


@pytest.mark.parametrize("to", ["hub:", "hub:name", "hub:a/b/c", "hub:../x", "hub:a/b c"])
def test_a_repository_name_is_org_and_name(to):
    with pytest.raises(UsageError, match="hub:org/name"):
        hub.repository(to)


def test_a_folder_is_no_repository():
    assert hub.repository("some/folder") is None
    assert hub.repository("hub:org/name-1.0") == "org/name-1.0"


def test_configs_are_named_by_strategy_and_diversity_and_what_else_differs(tmp_path):
    settings = [
        {"strategy": "micro-response", "diversity": 33.5, "seed": 0},
        {"strategy": "micro-response", "diversity": 33.5, "seed": 2},
        {"strategy": "micro-response", "diversity": 33.5, "seed": 0, "objective": "entropy"},
        {"strategy": "random", "diversity": 100.0, "seed": 0},
    ]
    exports = [staged(tmp_path, str(i), one) for i, one in enumerate(settings)]
    exports.append(staged(tmp_path, "alpaca", settings[3], format="messages"))
    names = [one.config for one in collection.config_names(exports, None)]
    assert names == [
        "micro-response-33.5", "micro-response-33.5-seed2", "micro-response-33.5-entropy",
        "random", "random-messages",
    ]  # fmt: skip
    assert collection.config_names(exports[:1], "mine")[0].config == "mine"
    with pytest.raises(UsageError, match="for one export, not for 5"):
        collection.config_names(exports, "mine")
    with pytest.raises(UsageError, match="letters, digits"):
        collection.config_names(exports[:1], "../mine")


def test_equal_names_in_one_push_get_the_size_or_the_digest(tmp_path):
    settings = {"strategy": "random", "seed": 0}
    one = staged(tmp_path, "one", settings)
    less = fixtures.subset(tmp_path / "less-source", fixtures.samples().slice(0, 2), **{})
    manifest = making.export(less, str(tmp_path / "less"), stage.ExportConfig())
    assert manifest["rows"]["kept"] == 2
    twins = [staged(tmp_path, f"t{i}", {**settings, "threshold": i}) for i in range(2)]
    names = [one.config for one in collection.config_names([one, *twins], None)]
    assert names[0].startswith("random-")
    assert len(set(names)) == 3
    with pytest.raises(UsageError, match="named twice"):
        collection.config_names([one, one], None)


def test_a_file_is_known_by_sha256_and_by_the_id_that_git_gives_it(tmp_path):
    (tmp_path / "f").write_bytes(b"hello\n")
    found = remote.item(tmp_path / "f")
    assert found.blob == "ce013625030ba8dba906f756967f9e9ca394464a"  # of `git hash-object`
    assert found.sha256 == hashlib.sha256(b"hello\n").hexdigest()
    assert remote.item(b"hello\n") == remote.Item(b"hello\n", 6, found.sha256, found.blob)


def as_remote(files):
    return remote.Remote("me/x", "dataset", "main", True, "c" * 40, "c" * 40, {}, files)


def held(one: remote.Item, large: bool = False) -> remote.Stored:
    return remote.Stored(one.size, one.sha256 if large else None, one.blob or "")


def test_a_record_tells_what_others_did():
    items = {name: remote.item(name.encode()) for name in ("README.md", "a/x", "a/y", "b/x")}
    files = {path: record.described(one) for path, one in items.items()}
    known = record.read_record(record.record_bytes("t", "a", {"a": {}, "b": {}}, files, {"a": "1"}))
    assert known is not None
    there = {path: held(one, large=path == "b/x") for path, one in items.items()}
    assert record.changes_since(as_remote(there), known) == {}
    there["README.md"] = held(remote.item(b"other"))
    there["b/x"] = held(remote.item(b"b/X"), large=True)
    there["a/new"] = there["notes.md"] = held(remote.item(b"new"))
    del there["a/y"]
    changed = record.changes_since(as_remote(there), known)
    assert changed == {
        "README.md": "edited", "a/new": "added", "a/y": "deleted", "b/x": "edited",
    }  # fmt: skip
    assert record.told(changed) == "README.md edited, a/new added, a/y deleted and 1 more"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"digest": 1, "stage": "export"}'])
def test_what_is_no_record_of_ours_is_none(content):
    assert record.read_record(content) is None


def test_an_edited_record_is_none():
    whole = record.record_bytes("t", "a", {}, {}, {})
    assert record.read_record(whole) is not None
    assert record.read_record(whole.replace(b'"t"', b'"u"')) is None
