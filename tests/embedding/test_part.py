"""Parts of a corpus embedded by separate jobs add up to what one process makes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from sft_diversity.core import folder, machine
from sft_diversity.core.errors import UsageError
from sft_diversity.core.parts import Part
from sft_diversity.embedding import part as parts_of
from sft_diversity.embedding import units
from sft_diversity.embedding.stage import EmbedConfig, embed
from sft_diversity.verbs import data
from tests.embedding import make
from tests.embedding.test_stage import files_of, quiet

PAIRS = 120


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "UNIT_CHARACTERS", 600)
    return make.corpus(tmp_path / "corpus", make.pairs(PAIRS), shards=4)


def config(tiny, **options):
    return EmbedConfig(encoder=str(tiny), **options)


def do(corpus, tiny, work, *numbers, of=3):
    return [parts_of.embed_part(corpus, config(tiny), Part(i, of), work, quiet) for i in numbers]


def embedded(manifests):
    return sum(manifest["run"]["texts_embedded"] for manifest in manifests)


def distinct():
    return len({text for pair in make.pairs(PAIRS) for text in pair})


_CHILD = """
import sys
from pathlib import Path
from sft_diversity.core.parts import parse
from sft_diversity.embedding import part, units
from sft_diversity.embedding.stage import EmbedConfig
units.UNIT_CHARACTERS = 300
corpus, encoder, work = map(Path, sys.argv[1:4])
part.embed_part(corpus, EmbedConfig(encoder=str(encoder)), parse(sys.argv[4], "embed"), work)
"""


def start(corpus, tiny, work, part):
    """Begin a part in a process of its own, as jobs are: transformers loads in no two threads."""
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, *map(str, (corpus, tiny, work, part))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_in_any_order_leave_nothing_to_embed_and_the_same_bytes(
    tmp_path, corpus, tiny, order
):
    made = do(corpus, tiny, tmp_path / "work", *order)
    assert embedded(made) == distinct()
    assert sum(manifest["result"]["rows"] for manifest in made) == PAIRS
    assembled = embed(corpus, tmp_path / "out", config(tiny), tmp_path / "work", quiet)
    alone = embed(corpus, tmp_path / "alone", config(tiny), tmp_path / "fresh", quiet)
    assert assembled["run"]["texts_embedded"] == 0
    assert assembled["digest"] == alone["digest"]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "alone")


def test_a_text_that_two_parts_embed_at_once_is_one_in_the_end(tmp_path, corpus, tiny):
    for i in (1, 2, 3):  # each with a cache of its own, as if none saw the others' parts
        do(corpus, tiny, tmp_path / f"work{i}", i)
        shutil.copytree(tmp_path / f"work{i}", tmp_path / "work", dirs_exist_ok=True)
    assert len(list((tmp_path / "work").rglob("manifest.json"))) == 3
    files = (tmp_path / "work").rglob("*.arrow")
    stored = sum(pa.ipc.open_file(path).read_all().num_rows for path in files)
    assert stored > distinct(), "no text stands in two parts; the test shows nothing"
    made = embed(corpus, tmp_path / "out", config(tiny), tmp_path / "work", quiet)
    alone = embed(corpus, tmp_path / "alone", config(tiny), tmp_path / "fresh", quiet)
    assert made["digest"] == alone["digest"]


def test_parts_at_once_in_one_work_folder(tmp_path, corpus, tiny):
    jobs = [start(corpus, tiny, tmp_path / "work", f"{i}/3") for i in (1, 2, 3)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    made = embed(corpus, tmp_path / "out", config(tiny), tmp_path / "work", quiet)
    alone = embed(corpus, tmp_path / "alone", config(tiny), tmp_path / "fresh", quiet)
    assert made["run"]["texts_embedded"] == 0
    assert made["digest"] == alone["digest"]


def test_a_finished_part_is_found_finished_and_verifies(tmp_path, corpus, tiny):
    first = do(corpus, tiny, tmp_path / "work", 2)[0]
    place = data.part_folder("embed", corpus, "2/3", work=tmp_path / "work", encoder=str(tiny))
    assert not folder.verify(place)["faults"]
    assert do(corpus, tiny, tmp_path / "work", 2)[0] == first
    said = parts_of.plan(corpus, config(tiny), Part(2, 3), tmp_path / "work")
    assert (said["cached"], said["out"]) == (True, str(place))
    shutil.rmtree(tmp_path / "work" / "vectors")
    assert embedded(do(corpus, tiny, tmp_path / "work", 2)) == first["run"]["texts_embedded"]


def test_a_killed_part_goes_on_where_it_was(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(units, "UNIT_CHARACTERS", 300)
    corpus = make.corpus(tmp_path / "corpus", make.pairs(900))
    work = tmp_path / "work"
    child = start(corpus, tiny, work, "1/2")
    while child.poll() is None and len(list(work.rglob("*.arrow"))) < 4:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = {path: path.stat().st_mtime_ns for path in work.rglob("*.arrow")}
    assert len(kept) >= 4
    assert parts_of.parts.finished(next(work.glob("parts/*")), parts_of.STAGE) == {}
    resumed = do(corpus, tiny, work, 1, of=2)[0]
    other = do(corpus, tiny, tmp_path / "other", 1, of=2)[0]
    assert 0 < resumed["run"]["texts_embedded"] < other["run"]["texts_embedded"]
    assert resumed["digest"] == other["digest"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a unit was made again"
    names = {path.name for path in work.rglob("*.arrow")}
    assert names == {path.name for path in (tmp_path / "other").rglob("*.arrow")}


def test_parts_of_another_precision_are_refused(tmp_path, corpus, tiny, monkeypatch):
    work = tmp_path / "work"
    monkeypatch.setenv(machine.DETECT, "bf16=0")
    do(corpus, tiny, work, 1)
    monkeypatch.setenv(machine.DETECT, "bf16=1")
    with pytest.raises(UsageError, match="part 1/3 was embedded in float32 but precision is bf"):
        do(corpus, tiny, work, 2)
    with pytest.raises(UsageError, match="give --precision on every machine"):
        data.embed(corpus, work=work, encoder=str(tiny))
    assert data.embed(corpus, work=work, encoder=str(tiny), precision="float32")["dim"] == 16


def test_the_verb_takes_part_and_leaves_out_to_the_work_folder(tmp_path, corpus, tiny):
    told = data.embed(corpus, part="1/2", work=tmp_path / "work", encoder=str(tiny))
    assert told["part"] == "1/2"
    plan = data.embed(corpus, part="2/2", work=tmp_path / "work", encoder=str(tiny), dry_run=True)[
        "plan"
    ]
    assert plan[0]["state"] == "to do"
    assert plan[0]["texts_to_embed"] > 0
    assert not Path(plan[0]["out"]).exists()
    with pytest.raises(UsageError, match="leave out --out"):
        data.embed(corpus, part="1/2", out=tmp_path / "out", work=tmp_path / "work")
    with pytest.raises(UsageError, match="part is `3/2`"):
        data.embed(corpus, part="3/2", work=tmp_path / "work")
