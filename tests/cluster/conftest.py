"""A real Slurm of one node, started once, and small work for it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sft_diversity.core import machine
from sft_diversity.verbs import data
from tests import tiny
from tests.cluster.controlling import PAIRS, Controller, files_of

SCRIPT = Path(__file__).parent / "one_node.sh"


@pytest.fixture(scope="session")
def slurm() -> Iterator[Controller]:
    """Start Slurm, installing it where it is missing.

    Whoever asks for `-m slurm` wants one: a machine that cannot have it fails, it does not skip.
    """
    if os.geteuid() != 0:
        pytest.fail("needs root: slurmd starts jobs as other users")
    if shutil.which("sbatch") is None and shutil.which("apt-get") is None:
        pytest.fail("no Slurm here, and no apt-get to install it with")
    if machine.cores() < 2 or psutil.virtual_memory().total < 6.5e9:
        pytest.fail("needs two cores and 6.5 GB: two tasks are held at once")
    # not in pytest's folders: the path of munge's socket would be too long
    place = Path(tempfile.mkdtemp(prefix="sftdiv-slurm-", dir="/tmp"))
    controller = Controller(SCRIPT, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFTDIV_INSTALL_SLURM", os.environ.get("SFTDIV_INSTALL_SLURM", "1"))
        patch.setenv("SLURM_GRACE_S", "60")
        patch.setenv("SLURM_CONF", str(place / "slurm.conf"))
        controller.do("start")
        try:
            yield controller
        finally:
            controller.do("stop")
    shutil.rmtree(place)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Iterator[Path]:
    """Return an empty current folder; afterwards nothing is left in the queue."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    subprocess.run(["scancel", "--quiet", f"--user={getpass.getuser()}"], check=False)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Return a folder with a file system of its own, of 64 MB; `mount` changes it."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Path:
    from tests.embedding import make

    return make.encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Texts that are all distinct, in three shards: parts of it share nothing."""
    from tests.embedding import make

    pairs = [(ask, f"{reply} {i}") for i, (ask, reply) in enumerate(make.pairs(PAIRS))]
    return make.corpus(tmp_path_factory.mktemp("corpus") / "corpus", pairs, shards=3)


@pytest.fixture(scope="session")
def embedded(corpus, encoder, tmp_path_factory) -> dict[str, bytes]:
    """The files that one process makes of the corpus."""
    place = tmp_path_factory.mktemp("alone")
    data.embed(corpus, out=place / "out", work=place / "work", encoder=str(encoder))
    return files_of(place / "out")
