"""What is damaged is named before anything is made of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sft_diversity.core import folder, incidence
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.errors import DataError

WORK = Work("demo", 1, {}, {})


@pytest.fixture
def made(tmp_path):
    draft = open_draft(tmp_path / "x", WORK)
    draft.write_json("a.json", [1, 2, 3])
    draft.commit()
    return tmp_path / "x"


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: path.unlink(), "a.json is missing"),
        (lambda path: path.write_text("[1]"), r"a.json has 3 bytes, not \d+"),
    ],
)
def test_a_folder_without_one_of_its_files_is_neither_read_nor_reused(made, harm, what):
    harm(made / "a.json")
    with pytest.raises(DataError, match=what):
        folder.read_input(made)
    with pytest.raises(DataError, match=what):
        open_draft(made, WORK)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\0"])
def test_a_damaged_manifest_is_named_and_taken_for_nothing_else(made, text):
    (made / "manifest.json").write_text(text)
    for read in (folder.read_manifest, folder.verify, lambda place: open_draft(place, WORK)):
        with pytest.raises(DataError, match=r"x: manifest\.json is damaged, .* make it again"):
            read(made)


@pytest.mark.parametrize(
    ("name", "array", "what"),
    [
        ("indices", np.array([0, 7, 1], np.int32), "an index is not a kind of the 2"),
        ("indices", np.array([0, -1, 1], np.int32), "an index is not a kind"),
        ("indptr", np.array([0, 2, 9]), "indptr does not rise"),
        ("indptr", np.array([0, 3, 1, 3]), "indptr does not rise"),
        ("counts", np.array([1], np.int32), "1 counts for 3 indices"),
        ("counts", np.array([0.5, 1, 1]), "whole numbers"),
    ],
)
def test_an_incidence_whose_arrays_do_not_fit_is_refused(tmp_path, name, array, what):
    indptr = np.array([0, 2, 3], np.int64)
    flat = np.array([0, 1, 1], np.int32)
    good = incidence.Incidence(indptr, flat, np.ones(3, np.int32), 2)
    kinds = pa.table({"kind": ["a", "b"], "samples": [1, 2]})
    incidence.save(tmp_path, good, pa.array(["1", "2"]), kinds)
    assert incidence.load(tmp_path).n_samples == 2
    np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(DataError, match=what):
        incidence.load(tmp_path)


def test_an_incidence_that_is_cut_short_is_refused(tmp_path):
    flat = np.arange(100, dtype=np.int32)
    good = incidence.Incidence(np.arange(101), flat, np.ones(100, np.int32), 100)
    kinds = pa.table({"kind": [str(i) for i in range(100)], "samples": [1] * 100})
    incidence.save(tmp_path, good, pa.array([f"{i:03}" for i in range(100)]), kinds)
    path = tmp_path / "indices.npy"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="the incidence is damaged"):
        incidence.load(tmp_path)
