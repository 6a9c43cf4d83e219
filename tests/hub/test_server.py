"""The stand-in itself: the clients that others use do their work against it."""

from __future__ import annotations

import hashlib
import json

from tests.hub.client import OWNER, READER, STRANGER, WRONG, python
from tests.hub.server import running

WRITE = """
import io, sys
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
api = HfApi()
name = "me/data"
api.create_repo(name, repo_type="dataset", private=True)
head = api.dataset_info(name).sha
large = bytes(range(256)) * 5000
first = api.create_commit(
    name,
    [CommitOperationAdd("README.md", b"# hello\\n"), CommitOperationAdd("d/x.parquet", large)],
    commit_message="first", repo_type="dataset", parent_commit=head,
)
try:
    api.create_commit(name, [CommitOperationAdd("late.md", b"x")], commit_message="late",
                      repo_type="dataset", parent_commit=head)
except Exception as fault:
    print(fault.response.status_code)
api.create_branch(name, branch="v/2", repo_type="dataset")
api.create_tag(name, tag="one", revision=first.oid, repo_type="dataset")
api.create_commit(name, [CommitOperationDelete("README.md")], commit_message="second",
                  repo_type="dataset", revision="v/2")
print(sorted(api.list_repo_files(name, repo_type="dataset", revision="v/2")))
print(sorted(api.list_repo_files(name, repo_type="dataset", revision="one")))
print([c.title for c in api.list_repo_commits(name, repo_type="dataset", revision="v/2")])
info = api.get_paths_info(name, ["d/x.parquet", "d"], repo_type="dataset")
print(info[0].lfs.sha256, info[0].size, type(info[1]).__name__)
path = api.hf_hub_download(name, "d/x.parquet", repo_type="dataset")
print(open(path, "rb").read() == large)
from huggingface_hub import HfFileSystem
with HfFileSystem().open("datasets/me/data/d/x.parquet", block_size=1000) as handle:
    handle.seek(1_000_000)
    print(handle.read(3).hex())
"""


def test_the_hub_client_writes_and_reads(tmp_path):
    with running(OWNER) as hub:
        hub.page = 2
        said = python(tmp_path, hub, WRITE).splitlines()
        large = bytes(range(256)) * 5000
        assert said == [
            "412",
            "['.gitattributes', 'd/x.parquet']",
            "['.gitattributes', 'README.md', 'd/x.parquet']",
            "['second', 'first', 'initial']",
            f"{hashlib.sha256(large).hexdigest()} {len(large)} RepoFolder",
            "True",
            large[1_000_000:1_000_003].hex(),
        ]
        assert hub.count("PUT", "/storage/", 200) == 1
        assert hub.repository("me/data").private
        assert any(r.status == 206 for r in hub.requests)


DATASETS = """
import datasets, json, os
datasets.disable_progress_bars()
rows = datasets.Dataset.from_dict({"a": list(range(50)), "b": ["x" * i for i in range(50)]})
rows.push_to_hub("me/rows", private=True, num_shards=3)
back = datasets.load_dataset("me/rows", split="train")
stream = datasets.load_dataset("me/rows", split="train", streaming=True)
print(json.dumps([back.to_list() == rows.to_list(), list(stream) == rows.to_list()]), flush=True)
os._exit(0)  # threads that have read for the stream now and then abort a process that ends
"""


def test_datasets_pushes_loads_and_streams(tmp_path):
    with running(OWNER) as hub:
        assert json.loads(python(tmp_path, hub, DATASETS)) == [True, True]


ASK = """
import json, sys
from huggingface_hub import HfApi
for token, call, repository, options in json.loads(sys.argv[1]):
    try:
        getattr(HfApi(token=token), call)(repository, **options)
        print("done")
    except Exception as fault:
        print(type(fault).__name__, fault.response.status_code)
"""
INFO, DATA = ("dataset_info", "me/data"), {"repo_type": "dataset"}
RIGHTS = [
    ((WRONG, *INFO, {}), "HfHubHTTPError 401"),
    ((False, *INFO, {}), "RepositoryNotFoundError 401"),
    ((STRANGER.token, *INFO, {}), "RepositoryNotFoundError 404"),
    ((READER.token, *INFO, {}), "done"),
    ((READER.token, *INFO, {"revision": "no"}), "RevisionNotFoundError 404"),
    ((READER.token, "create_tag", "me/data", {"tag": "b", **DATA}), "HfHubHTTPError 403"),
    ((STRANGER.token, "create_repo", "me/new", DATA), "HfHubHTTPError 403"),
    ((OWNER.token, "create_repo", "me/data", DATA), "HfHubHTTPError 409"),
]


def test_rights_are_those_of_the_token(tmp_path):
    with running(OWNER, READER, STRANGER) as hub:
        hub.store.create("datasets", "me/data", True, OWNER)
        asked = json.dumps([call for call, _ in RIGHTS])
        said = python(tmp_path, hub, ASK, asked, token=None).splitlines()
        assert said == [answer for _, answer in RIGHTS]
