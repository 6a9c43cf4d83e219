"""The dial in one file: what is in it, how large it may be, and that nothing else can run there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re

import numpy as np
import pytest

from sft_diversity.exploring import keeping
from tests import command
from tests.exploring import got, picked, posted


def data_in(page):
    """Return the data of a shared page."""
    (text,) = re.findall(r'<script type="application/json" id="embedded">(.*?)</script>', page)
    assert "<" not in text
    return json.loads(text)


def unpacked(text, dtype):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), dtype)


@pytest.fixture(scope="module")
def shared(client, session):
    """A shared page, and what it was asked for."""
    settings = {"size": 25, "seed": 2}
    told = posted(client, "api/keep", settings=settings, what="share", to="home/dial.html")
    told = told["result"] if isinstance(told, dict) else told.json()
    assert told["written"].endswith("home/dial.html")
    return (session.root / "home/dial.html").read_text("utf-8"), settings


def test_a_shared_page_has_the_picks_figures_and_map_of_the_server(client, session, shared):
    page, settings = shared
    whole = data_in(page)
    assert whole["positions"] == list(range(0, 101, 5))
    steps = unpacked(whole["picks"], "<u4").reshape(21, settings["size"])
    for at in (0, 9, 20):
        head, rows = picked(client, {**settings, "diversity": whole["positions"][at]})
        assert np.cumsum(steps[at]).tolist() == sorted(rows.tolist())
        assert whole["select"][at]["digest"] == head["digest"]
        assert whole["curve"]["kinds"][at] == head["figures"]["kinds_covered"]
    assert unpacked(whole["map"], "<u2").tobytes() == got(client, "api/map").content
    tokens = got(client, "api/column/response_tokens").content
    assert unpacked(whole["columns"]["response_tokens"], "<f4").tobytes() == tokens
    samples = json.loads(gzip.decompress(base64.b64decode(whole["samples"])))
    assert sorted(row for row, *_ in samples) == list(range(session.n))  # all of so few
    for row, id, *texts in samples[:20]:
        assert session.ids[row].as_py() == id
        assert all(len(text) <= 200 for text in texts)


def test_nothing_but_its_own_script_and_style_can_run_in_a_shared_page(shared):
    page, _ = shared
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for part, text in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{part} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_a_module_runs_after_those_that_it_imports():
    order = list(keeping.modules(keeping.PAGE))
    assert order[-1] == "main.js"
    assert {*order} == {path.name for path in keeping.PAGE.glob("*.js")}
    for at, name in enumerate(order):
        text = (keeping.PAGE / name).read_text("utf-8")
        needed = re.findall(r'^import .*"\./([\w.-]+)";', text, re.MULTILINE)
        assert {*needed} <= {*order[:at]}, name


def test_a_shared_page_keeps_to_its_size_by_fewer_texts(session, client, monkeypatch, shared):
    whole, _ = shared
    most = len(whole.encode()) - len(data_in(whole)["samples"]) // 2
    monkeypatch.setattr(keeping, "_SHARED", most)
    monkeypatch.setattr(keeping, "_TOGETHER", 20)
    posted(client, "api/keep", settings={"size": 25, "seed": 2}, what="share", to="less.html")
    less = (session.root / "less.html").read_text("utf-8")
    assert most / 2 < len(less.encode()) <= most
    texts = json.loads(gzip.decompress(base64.b64decode(data_in(less)["samples"])))
    assert 0 < len(texts) < session.n
    picks = np.cumsum(unpacked(data_in(less)["picks"], "<u4").reshape(21, 25), axis=1)
    first = np.unique(picks).tolist()
    assert [row for row, *_ in texts][: len(first)] == first[: len(texts)]


def test_the_command_writes_the_shared_page_and_serves_nothing(pool, tmp_path):
    corpus, work = pool
    told = command.sftdiv(
        "explore", corpus, "--work", work, "--size", 20, "--share", "dial.html", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["written"] == "dial.html"
    assert data_in((tmp_path / "dial.html").read_text("utf-8"))["settings"]["size"] == 20
