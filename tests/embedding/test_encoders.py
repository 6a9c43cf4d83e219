"""Which encoders are taken, and what names them."""

import shutil
from pathlib import Path

import pytest

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.embedding.encoders import ENCODERS
from tests.embedding import make


def test_equal_files_have_one_key_wherever_they_lie(tmp_path, tiny):
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    assert ENCODERS.find(str(copy)).key == ENCODERS.find(str(tiny)).key
    (copy / "README.md").write_text("other words", "utf-8")
    assert ENCODERS.find(str(copy)).key == ENCODERS.find(str(tiny)).key
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n", "utf-8")
    assert ENCODERS.find(str(copy)).key != ENCODERS.find(str(tiny)).key


def test_a_name_in_manifests_is_no_path(tiny):
    assert ENCODERS.find(str(tiny)).name == "tiny"


def test_what_is_neither_folder_nor_hub_id_is_refused():
    with pytest.raises(UsageError, match="no such folder"):
        ENCODERS.find("/nowhere/at/all")


def test_a_hub_encoder_that_is_not_to_be_had_is_refused_by_a_plan_too():
    with pytest.raises(UsageError, match=r"nothing-of-that-name` is no folder.* offline mode is"):
        ENCODERS.at_hand("nobody/nothing-of-that-name")


def test_a_hub_encoder_that_cannot_be_had_is_an_error_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="the Hub does not give it") as told:
        ENCODERS.find("nobody/nothing-of-that-name")
    assert "\n" not in str(told.value)


def test_pickled_weights_are_refused(tmp_path, tiny):
    pickled = Path(shutil.copytree(tiny, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UsageError, match="no safetensors"):
        ENCODERS.find(str(pickled))


def test_a_part_with_pickled_weights_alone_is_refused(tmp_path, tiny):
    dense = Path(shutil.copytree(tiny, tmp_path / "dense"))
    make.modules(dense, [{"path": ""}, {"path": "2_Dense"}])
    (dense / "2_Dense").mkdir()
    (dense / "2_Dense" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match="2_Dense has only pickled weights"):
        ENCODERS.find(str(dense))


@pytest.mark.parametrize("path", ["../elsewhere", "/etc"])
def test_a_module_path_that_leaves_the_model_is_refused(tmp_path, tiny, path):
    astray = Path(shutil.copytree(tiny, tmp_path / "astray"))
    make.modules(astray, [{"path": path}])
    with pytest.raises(UsageError, match="outside it"):
        ENCODERS.find(str(astray))


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no modules\.json"):
        ENCODERS.find(str(tmp_path))
