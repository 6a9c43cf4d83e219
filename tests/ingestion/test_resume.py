"""A run that was killed goes on and ends with the bytes of an undisturbed one."""

import gzip
import json
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from sft_diversity.core import machine
from sft_diversity.core.errors import BadRowsError, DataError
from sft_diversity.ingestion import worker
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.parts import PARTS
from tests.ingestion.making import row, run, write_lines
from tests.making import ingest
from tests.processes import Child

RUN = """
import sys
from pathlib import Path
from sft_diversity.ingestion import parts, worker
from sft_diversity.ingestion.stage import IngestConfig
from tests.making import ingest

parts._PART_BYTES = 1 << 16
worker._WORTH_BYTES = int(sys.argv[3])
files = sorted(Path(sys.argv[1]).glob("*.gz"))
ingest(files, Path(sys.argv[2]), IngestConfig(), lambda line: print(line, file=sys.stderr))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve files of some hundred kilobytes, one bad row in each."""
    folder = tmp_path_factory.mktemp("files")
    rng = random.Random(0)
    for number in range(12):
        rows = [row(1000 * number + i, output=rng.randbytes(300).hex()) for i in range(400)]
        lines = [json.dumps(one) for one in rows]
        lines[number] = "broken"
        (folder / f"{number:02d}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), 1))
    return folder


def _tree(folder: Path) -> dict[str, bytes]:
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["run"]
    return found | {"manifest": json.dumps(manifest, sort_keys=True).encode()}


@pytest.mark.parametrize("damaged", ["run", "counts", "no run"])
def test_what_a_stopped_run_left_damaged_is_named_or_made_again(tmp_path, damaged):
    source = write_lines(tmp_path / "a.jsonl", [*map(row, range(300)), "broken"])
    with pytest.raises(BadRowsError):
        run(source, tmp_path / "out", max_bad_fraction=0)
    parts = tmp_path / ".out.partial" / PARTS
    (path,) = parts.glob("*.arrow")
    raw = path.read_bytes()
    if damaged == "run":
        path.write_bytes(raw.replace(raw[400:600], b"\xff" * 200))
        with pytest.raises(DataError, match=r"\.arrow is damaged .*; remove .*\.out\.partial"):
            run(source, tmp_path / "out")
        return
    if damaged == "counts":
        (parts / "00000.json").write_text('{"runs": ')
    else:
        path.unlink()
    assert run(source, tmp_path / "out")["rows"]["kept"] == 300


def test_what_a_stopped_run_of_another_form_has_read_is_read_again(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [*map(row, range(300)), "broken"])
    with pytest.raises(BadRowsError):
        run(source, tmp_path / "out", max_bad_fraction=0)
    draft = tmp_path / ".out.partial"
    (draft / PARTS).rename(draft / ".parts")
    assert run(source, tmp_path / "out")["rows"]["kept"] == 300
    assert not list((tmp_path / "out").glob(".parts*"))


@pytest.mark.parametrize("worth", [0, 1 << 40], ids=["workers", "alone"])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, files, worth):
    undisturbed = tmp_path / "undisturbed"
    ingest(sorted(files.glob("*.gz")), undisturbed, IngestConfig(), say=lambda _: None)
    out = tmp_path / "out"
    process = Child(RUN, files, out, worth)
    parts = tmp_path / ".out.partial" / PARTS
    process.until(lambda: len(list(parts.glob("*.json"))) >= 3)
    assert process.kill() == -signal.SIGKILL
    assert not out.exists(), "killed too late to show anything"
    done = len(list(parts.glob("*.json")))
    time.sleep(0.3)
    assert len(list(parts.glob("*.json"))) <= done + 1, "a worker outlived the main process"
    again = Child(RUN, files, out, worth)
    assert again.wait() == 0, again.stderr
    assert "resumed at part" in again.stderr
    assert _tree(out) == _tree(undisturbed)
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (3, 2)])
def test_as_many_workers_as_cores_are_seen_and_the_same_bytes(
    tmp_path, files, monkeypatch, cores, workers
):
    sources = sorted(files.glob("*.gz"))
    ingest(sources, tmp_path / "alone", IngestConfig(), say=lambda _: None)
    started: list[object] = []
    begin = worker._start
    monkeypatch.setattr(worker, "_WORTH_BYTES", 0)
    monkeypatch.setattr(worker, "_start", lambda *job: started.append(job) or begin(*job))
    monkeypatch.setenv(machine.DETECT, f"cores={cores}")
    ingest(sources, tmp_path / "out", IngestConfig(), say=lambda _: None)
    assert len(started) == workers
    assert _tree(tmp_path / "out") == _tree(tmp_path / "alone")


def test_what_a_worker_leaves_undone_is_done_by_the_main_process(tmp_path, files, monkeypatch):
    monkeypatch.setenv(machine.DETECT, "cores=3")
    monkeypatch.setattr(worker, "_WORTH_BYTES", 0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    manifest = ingest(
        sorted(files.glob("*.gz")), tmp_path / "out", IngestConfig(), say=lambda _: None
    )
    assert manifest["rows"]["in"] == 4800
    assert manifest["rows"]["quarantined"] == 12
