"""Which encoders are taken, and what names them."""

import shutil
from pathlib import Path

import pytest

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.embedding.locate import locate, revision_of
from tests.embedding import make


def test_equal_files_have_one_revision_wherever_they_lie(tmp_path, tiny):
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    assert revision_of(copy) == revision_of(tiny)
    (copy / "README.md").write_text("other words", "utf-8")
    assert revision_of(copy) == revision_of(tiny)
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n", "utf-8")
    assert revision_of(copy) != revision_of(tiny)


def test_a_name_in_manifests_is_no_path(tiny):
    files = locate(str(tiny))
    assert files is not None
    assert files.name == "tiny"


def test_what_is_neither_folder_nor_hub_id_is_refused():
    with pytest.raises(UsageError, match="no such folder"):
        locate("/nowhere/at/all")


def test_a_hub_encoder_that_is_not_to_be_had_is_refused_by_a_plan_too():
    with pytest.raises(UsageError, match=r"nothing-of-that-name` is no folder.* offline mode is"):
        locate("nobody/nothing-of-that-name", download=False)


def test_a_hub_encoder_that_cannot_be_had_is_an_error_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="the Hub did not give it") as told:
        locate("nobody/nothing-of-that-name")
    assert "\n" not in str(told.value)


def test_pickled_weights_are_refused(tmp_path, tiny):
    pickled = Path(shutil.copytree(tiny, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UsageError, match="no safetensors"):
        revision_of(pickled)


def test_a_part_with_pickled_weights_alone_is_refused(tmp_path, tiny):
    dense = Path(shutil.copytree(tiny, tmp_path / "dense"))
    make.modules(dense, [{"path": ""}, {"path": "2_Dense"}])
    (dense / "2_Dense").mkdir()
    (dense / "2_Dense" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match="2_Dense has only pickled weights"):
        revision_of(dense)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc"])
def test_a_module_path_that_leaves_the_model_is_refused(tmp_path, tiny, path):
    astray = Path(shutil.copytree(tiny, tmp_path / "astray"))
    make.modules(astray, [{"path": path}])
    with pytest.raises(UsageError, match="outside it"):
        revision_of(astray)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no modules\.json"):
        revision_of(tmp_path)
