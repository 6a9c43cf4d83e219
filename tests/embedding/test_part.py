"""Texts that parts of a corpus share are embedded once, or count once where they were twice."""

import shutil

import pyarrow as pa
import pytest

from sft_diversity.core import folder, machine
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from tests import making
from tests.embedding import make

PAIRS = make.pairs(120)
DISTINCT = len({text for pair in PAIRS for text in pair})
PARTS = [Part(number, 3) for number in (3, 1, 2)]


@pytest.fixture
def corpus(tmp_path):
    return make.corpus(tmp_path / "corpus", PAIRS, shards=4)


def embed_part(corpus, tiny, work, part):
    """Make a part; return the manifest of its record."""
    made = making.store(work).get_part("embed", {"encoder": str(tiny)}, corpus, part)
    return folder.read_manifest(made.path)


def embed(corpus, tiny, work):
    return making.make("embed", {"encoder": str(tiny)}, work / "out", corpus, work=work)


def test_a_text_of_several_parts_is_embedded_once(tmp_path, corpus, tiny):
    made = [embed_part(corpus, tiny, tmp_path, part) for part in PARTS]
    assert sum(manifest["run"]["texts_embedded"] for manifest in made) == DISTINCT
    assert sum(manifest["result"]["rows"] for manifest in made) == len(PAIRS)
    assert embed(corpus, tiny, tmp_path)["run"]["texts_embedded"] == 0


def test_a_text_that_parts_embedded_at_once_is_one_in_the_end(tmp_path, corpus, tiny):
    for part in PARTS:  # each with a cache of its own, as if none saw the others' vectors
        embed_part(corpus, tiny, tmp_path / part.name, part)
        shutil.copytree(tmp_path / part.name, tmp_path / "work", dirs_exist_ok=True)
    files = (tmp_path / "work").rglob("*.arrow")
    stored = sum(pa.ipc.open_file(path).read_all().num_rows for path in files)
    assert stored > DISTINCT, "no text stands in two parts; the test shows nothing"
    made = embed(corpus, tiny, tmp_path / "work")
    assert made["digest"] == embed(corpus, tiny, tmp_path / "fresh")["digest"]


def test_parts_of_another_precision_are_refused(tmp_path, corpus, tiny, monkeypatch):
    monkeypatch.setenv(machine.DETECT, "bf16=0")
    embed_part(corpus, tiny, tmp_path, PARTS[1])
    monkeypatch.setenv(machine.DETECT, "bf16=1")
    said = r'part 1/3 was made otherwise .*: precision changed: "float32" -> "bfloat16"'
    with pytest.raises(UsageError, match=said):
        embed_part(corpus, tiny, tmp_path, PARTS[2])
    with pytest.raises(UsageError, match="give that option on every machine"):
        embed(corpus, tiny, tmp_path)
    named = {"encoder": str(tiny), "precision": "float32"}
    assert making.store(tmp_path).get("embed", named, corpus).there
