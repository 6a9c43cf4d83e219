"""The costly pass behind an index, done by parts, gives the bytes of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_diversity.core import folder, parts
from sft_diversity.core.errors import UsageError
from sft_diversity.verbs import data
from tests.levels import making

MICRO = {"strategy": "micro-response", "micro": {"band": "2:40"}}
MESO = {"strategy": "meso-instruction", "meso": {"min_samples": 2, "merge": "none"}}


@pytest.fixture
def asked(tmp_path, tiny):
    """The options of an index by name, each with what its level reads."""
    file = making.tokenizer_file(tmp_path / "tokenizer.json")
    macro = {"strategy": "macro-response", "macro": {"k": 4}, "encoder": str(tiny)}
    return {"micro": {**MICRO, "tokenizer": str(file)}, "meso": MESO, "macro": macro}


def contents(place: Path) -> dict[str, bytes]:
    files = {f.name: f.read_bytes() for f in place.iterdir() if f.name != folder.MANIFEST}
    manifest = folder.read_manifest(place)
    del manifest["run"]
    return files | {"manifest": json.dumps(manifest).encode()}


def counted_reads(monkeypatch, module, name):
    """Count the texts that a function of a module is given."""
    seen: list[int] = []
    function = getattr(module, name)

    def count(*given):
        seen.append(len(given[-1]))
        return function(*given)

    monkeypatch.setattr(module, name, count)
    return seen


@pytest.mark.parametrize("level", ["micro", "meso", "macro"])
@pytest.mark.parametrize(("digits", "of"), [(0, 3), (1, 2)])
def test_parts_in_any_order_give_the_bytes_of_one_process(tmp_path, asked, level, digits, of):
    corpus, options = making.topical(tmp_path / "corpus", digits), asked[level]
    for number in range(of, 0, -1):
        part = f"{number}/{of}"
        told = data.index(corpus, part=part, work=tmp_path / "work", **options)
        place = data.part_folder("index", corpus, part, work=tmp_path / "work", **options)
        assert told["out"] == str(place)
        assert not folder.verify(place)["faults"]
        again = data.index(corpus, part=part, work=tmp_path / "work", **options)
        assert again == told
    data.index(corpus, out=tmp_path / "by-parts", work=tmp_path / "work", **options)
    data.index(corpus, out=tmp_path / "alone", work=tmp_path / "fresh", **options)
    assert contents(tmp_path / "by-parts") == contents(tmp_path / "alone")


@pytest.mark.parametrize("level", ["micro", "meso"])
def test_what_parts_have_read_is_not_read_again_and_what_they_lack_is(
    tmp_path, asked, level, monkeypatch
):
    from sft_diversity.levels import passes, tokens

    corpus, options = making.topical(tmp_path / "corpus"), asked[level]
    work = tmp_path / "work"
    where = (tokens, "count_tokens") if level == "micro" else (passes, "read_stream")
    read = counted_reads(monkeypatch, *where)
    told = [data.index(corpus, part=f"{n}/4", work=work, **options)["rows"] for n in (1, 3)]
    data.index(corpus, part="1/3", work=work, **options)  # less of this split is finished
    assert sum(read) > sum(told)
    read.clear()
    data.index(corpus, out=tmp_path / "out", work=work, **options)
    assert sum(read) == 48 - sum(told)
    read.clear()
    data.index(corpus, out=tmp_path / "alone", work=tmp_path / "fresh", **options)
    assert sum(read) == 48
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_damaged_part_is_read_anew(tmp_path, asked):
    corpus, options = making.topical(tmp_path / "corpus"), asked["micro"]
    for n in (1, 2):
        data.index(corpus, part=f"{n}/2", work=tmp_path / "work", **options)
    place = data.part_folder("index", corpus, "1/2", work=tmp_path / "work", **options)
    next(place.glob("*.parquet")).write_bytes(b"PAR1")
    data.index(corpus, out=tmp_path / "out", work=tmp_path / "work", **options)
    data.index(corpus, out=tmp_path / "alone", work=tmp_path / "fresh", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_parts_of_another_tokenizer_do_not_count(tmp_path, asked):
    corpus, options = making.topical(tmp_path / "corpus"), asked["micro"]
    for n in (1, 2):
        data.index(corpus, part=f"{n}/2", work=tmp_path / "work", **options)
    making.tokenizer_file(Path(options["tokenizer"]), vocabulary=320)  # same path, other contents
    data.index(corpus, out=tmp_path / "out", work=tmp_path / "work", **options)
    data.index(corpus, out=tmp_path / "alone", work=tmp_path / "fresh", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


RUN = """
import sys, time
from pathlib import Path
from sft_diversity.verbs import data
from sft_diversity.levels import passes
read = passes.read_stream
passes.read_stream = lambda texts: (time.sleep(0.15), read(texts))[1]
data.index(sys.argv[1], part="1/2", work=sys.argv[2], strategy="meso-instruction")
"""


def test_a_killed_part_keeps_its_shards(tmp_path, monkeypatch):
    from sft_diversity.levels import passes

    corpus, work = making.topical(tmp_path / "corpus"), tmp_path / "work"
    command = [sys.executable, "-c", RUN, str(corpus), str(work)]
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    while len(list(work.rglob("*.codes.parquet"))) < 2:
        assert child.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not list(work.rglob(folder.MANIFEST))
    read = counted_reads(monkeypatch, passes, "read_stream")
    told = data.index(corpus, part="1/2", work=work, strategy="meso-instruction")
    assert 0 < sum(read) < told["rows"]
    place = data.part_folder("index", corpus, "1/2", work=work, strategy="meso-instruction")
    other = data.index(corpus, part="1/2", work=tmp_path / "w2", strategy="meso-instruction")
    assert contents(place) == contents(Path(other["out"]))


def test_the_plan_of_a_part_touches_nothing(tmp_path, asked):
    corpus = making.topical(tmp_path / "corpus")
    for level, stage in (("micro", "tokens"), ("meso", "words"), ("macro", "embed")):
        told = data.index(corpus, part="1/2", work=tmp_path / "work", dry_run=True, **asked[level])
        assert [step["stage"] for step in told["plan"]] == [stage]
        assert told["plan"][0]["state"] == "to do"
    assert not (tmp_path / "work").exists()


def test_tags_of_a_model_are_no_work_for_an_array(tmp_path):
    corpus = making.topical(tmp_path / "corpus")
    tagged = {"extractor": "llm", "endpoint": {"url": "http://localhost:1/v1", "model": "m"}}
    with pytest.raises(UsageError, match=r"leave out --part and raise meso\.endpoint"):
        data.index(corpus, part="1/2", strategy="meso-instruction", meso=tagged)


def test_a_verb_without_parts_says_so(tmp_path):
    with pytest.raises(UsageError, match="clean: does not work by parts"):
        data.part_folder("clean", tmp_path, parts.Part(1, 2))
