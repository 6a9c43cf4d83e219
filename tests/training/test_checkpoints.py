from __future__ import annotations

from sft_diversity.training import checkpoints


def write(folder, step, whole=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    if whole:
        checkpoints.mark_complete(path)
    return path


def test_the_newest_whole_checkpoint_is_taken_by_number(tmp_path):
    write(tmp_path, 9)
    newest = write(tmp_path, 10)
    assert checkpoints.last_complete(tmp_path) == newest
    assert checkpoints.step_of(newest) == checkpoints.peek(tmp_path) == 10


def test_half_a_checkpoint_is_never_taken_and_goes(tmp_path):
    whole = write(tmp_path, 3)
    cut = write(tmp_path, 6)
    (cut / "model.safetensors").write_bytes(b"wei")
    unmarked = write(tmp_path, 9, whole=False)
    assert checkpoints.peek(tmp_path) == 3
    assert cut.exists()
    assert checkpoints.last_complete(tmp_path) == whole
    assert not cut.exists()
    assert not unmarked.exists()


def test_no_folder_means_no_checkpoint(tmp_path):
    assert checkpoints.last_complete(tmp_path / "none") is None
    assert checkpoints.peek(tmp_path / "none") is None
