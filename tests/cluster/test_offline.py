"""What jobs without internet read is found in the command and fetched first, or refused."""

from __future__ import annotations

import pytest
import yaml

from sft_diversity.cluster import offline, plan
from sft_diversity.cluster.offline import Need
from sft_diversity.cluster.profile import Profile
from sft_diversity.core.errors import DataError, UsageError


def needs(argv):
    return offline.needs(plan.parse(argv))


def stage(argv, profile):
    return offline.stage(plan.parse(argv), profile)


def test_hub_names_are_found_in_options_files_and_files_of_files(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "ingest.yaml").write_text(
        yaml.safe_dump({"sources": [{"name": "a", "path": "hub:org/data@v1"}, {"path": "b.jsonl"}]})
    )
    study = {
        "ingest": {"config": "ingest.yaml"},
        "select": {"tokenizer": "org/model", "embed": {"encoder": "packaged"}},
        "finetune": {"model": "org/model", "revision": "abc"},
        "score": {"sets": [{"name": "x/y"}]},
        "measure": {"encoder": str(tmp_path / "local")},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    assert needs(["study", str(tmp_path / "study.yaml"), "--out", "st"]) == [
        Need("data set", "org/data", "v1"),
        Need("model", "org/model", "abc"),
        Need("tokenizer", "org/model"),
    ]
    assert needs(["score", "org/model", "--out", "s"]) == [Need("scored model", "org/model")]
    assert needs(["embed", "c", "--encoder=org/e", "--revision", "v2"]) == [
        Need("encoder", "org/e", "v2")
    ]
    assert (
        needs(["rewrite", "c", "--out", "r", "--endpoint", "http://x/v1", "--model", "org/served"])
        == []
    )
    assert needs(["finetune", "a/b", "--out", "c/d", "--model", str(tmp_path)]) == []


def test_a_data_set_that_is_streamed_and_a_push_are_refused():
    alone = Profile(offline=True)
    with pytest.raises(UsageError, match=r"data set org/data would be streamed: ingest it here"):
        stage(["ingest", "hub:org/data", "--out", "corpus"], alone)
    with pytest.raises(UsageError, match=r"data set s3://bucket/pool would be streamed"):
        stage(["select", "s3://bucket/pool", "--size=1", "--out", "subset"], alone)
    for place in ("hub:org/name", "s3://bucket/folder"):
        with pytest.raises(UsageError, match="no internet"):
            stage(["export", "subset", "--to", place], alone)
    assert stage(["ingest", "hub:org/data", "--out", "c"], Profile(offline=False)) == []


def test_what_is_in_no_cache_and_cannot_be_fetched_is_listed(tmp_path):
    profile = Profile(offline=True, environment={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    (tmp_path / "judge.yaml").write_text("judge: {model: org/nosuch}\n")  # a tokenizer loads torch
    argv = ["select", "pool", "--out=s", "--size=1", "--encoder=a/b"]
    argv += ["--config", str(tmp_path / "judge.yaml")]
    with pytest.raises(DataError, match=r"from here: encoder a/b, scored model org/nosuch$"):
        stage(argv, profile)
