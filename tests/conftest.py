"""Settings every test needs (no network, no GPU, few threads), and what many tests read, made once.

What is shared is made when it is first asked for, and never written to.
"""

from __future__ import annotations

import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"  # whatever the shell says: sums depend on it slightly
if "gpus=" not in os.environ.get("SFTDIV_DETECT", ""):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests are about CPUs, unless the shell speaks of GPUs
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from pathlib import Path

import pytest
from hypothesis import settings

from tests import processes

settings.register_profile("shared machine", deadline=None)  # no test is about its own speed
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items):
    """Begin with the files beside this one, which hold most long tests: no worker ends on them."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish(session):
    """Let processes be forked from one that has loaded what the tests at hand need."""
    core = all(
        item.nodeid.startswith(("tests/core/", "tests/selection/")) for item in session.items
    )
    light = ["tests.core.making", "sft_diversity.core.kernels"]
    processes.load(*light, *([] if core else ["tests.loaded"]))
    _look_through_no_more()


def pytest_runtest_teardown(item, nextitem):
    """What a file's tests have loaded stays loaded."""
    if nextitem is None or nextitem.path != item.path:
        _look_through_no_more()


def _look_through_no_more():
    """Collect garbage, and spare what is left: a trainer collects once a run, half of its time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def topical(tmp_path_factory):
    """A corpus of 48 samples over eight topics, in shards."""
    from tests.levels import making

    return making.topical(tmp_path_factory.mktemp("topical") / "corpus")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """The `tokenizer.json` of a small byte-level BPE."""
    from tests.levels import making

    return making.tokenizer_file(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A sentence encoder of two layers with random weights."""
    from tests.embedding import make

    return make.encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """A language model of two layers with random weights, and its tokenizer."""
    from tests import tiny

    return tiny.save(tmp_path_factory.mktemp("llama") / "model")
