"""The server of the page, by its routes: equal to the command line, closed to everybody else."""

from __future__ import annotations

import itertools
import json
import shlex

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

import sft_diversity as sd
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.store import corpus_at
from sft_diversity.exploring.app import BODY, Routes
from sft_diversity.exploring.jobs import said
from sft_diversity.exploring.session import Session
from sft_diversity.stages import store
from sft_diversity.verbs.sources import corpus_of
from tests import command
from tests.exploring import BASE, GIVEN, PORT, TOKEN, called, got, picked, posted


def drawn(number, corpus):
    """Return random settings of a page."""
    rng = np.random.default_rng(number)
    ids = corpora.ids(corpus).to_pylist()
    settings = {
        "strategy": str(
            rng.choice(["micro-response", "micro-instruction", "meso-instruction", "random"])
        ),
        "size": int(rng.integers(5, 60)),
        "diversity": float(rng.choice([0, 100, rng.integers(101), 100 * rng.random()])),
        "seed": int(rng.integers(5)),
    }
    if rng.random() < 0.4:
        settings["must_include"] = sorted(rng.choice(ids, 3, replace=False).tolist())
    if rng.random() < 0.4:
        settings["exclude"] = rng.choice(len(ids), 4, replace=False).tolist()
        named = settings.get("must_include", [])
        settings["exclude"] = [row for row in settings["exclude"] if ids[row] not in named]
    if settings["strategy"] != "random":
        settings["fill"] = str(rng.choice(["draws", "balance", "uniform"]))
        settings["no_kind"] = str(rng.choice(["out", "fill"]))
    if settings["strategy"].startswith("micro") and rng.random() < 0.2:
        only = ("strategy", "size", "diversity", "seed", "exclude")
        settings = {name: settings[name] for name in only if name in settings}
        settings |= {"objective": "entropy"}
    if settings.get("exclude") == []:
        del settings["exclude"]
    return settings


def equal_everywhere(client, pool, tmp_path, number):
    corpus, work = pool
    settings = drawn(number, corpus)
    head, rows = picked(client, settings)
    ids = corpora.ids(corpus).take(pa.array(rows)).to_pylist()
    named = dict(settings)
    if "exclude" in settings:
        excluded = corpora.ids(corpus).take(pa.array(settings["exclude"], pa.int64()))
        named["exclude"] = excluded.to_pylist()
    same = sd.select(corpus, **named, index=GIVEN["index"], work=work)
    assert list(same.ids) == ids, settings
    words = shlex.split(head["command"])[1:]
    told = command.sftdiv(*words, "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    figures = json.loads(told.stdout)
    assert figures["ids_key"] == head["digest"] == same.figures["ids_key"], settings
    assert {n: figures[n] for n in head["figures"]} == head["figures"], settings
    assert called(head["python"]).figures["ids_key"] == head["digest"]


@pytest.mark.parametrize("number", range(10))
def test_random_settings_pick_what_the_command_and_python_pick(client, pool, tmp_path, number):
    equal_everywhere(client, pool, tmp_path, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10, 100))
def test_ninety_more_settings_pick_the_same(client, pool, tmp_path, number):
    equal_everywhere(client, pool, tmp_path, number)


def test_a_column_that_a_strategy_has_not_is_refused(pool, tmp_path):
    corpus, work = pool
    given = {"strategy": "random", "size": 5}
    session = Session(corpus_at(corpus), [str(corpus)], work, given, tmp_path)
    client = TestClient(Routes(session).app(TOKEN, PORT), base_url=BASE)
    picked(client, {})
    assert client.get("api/column/kinds").status_code == 422
    assert client.get("api/samples?rows=1").json()[0]["kinds"] is None


def test_the_curve_has_the_figures_of_its_positions(client):
    told = posted(client, "api/curve", settings={"seed": 3}).json()
    for at in (0, 7, 20):
        head, _ = picked(client, {"seed": 3, "diversity": told["diversity"][at]})
        assert told["kinds"][at] == head["figures"]["kinds_covered"]
        assert told["entropy_bits"][at] == head["figures"]["entropy_bits"]
    assert told["diversity"] == list(range(0, 101, 5))


def test_figures_beside_those_of_picks_are_of_the_corpus_and_of_random_rows(client, session):
    head, rows = picked(client, {"size": 20})
    beside, figures = head["beside"], head["figures"]
    assert beside["corpus"]["coverage"] == 1
    assert sum(beside["corpus"]["lengths"]) == session.n
    assert sum(beside["random"]["lengths"]) == sum(beside["picked"]["lengths"]) == 20
    assert beside["picked"]["kinds"] == figures["kinds_covered"] > beside["random"]["kinds"]
    edges = head["lengths"]
    lengths = np.frombuffer(got(client, "api/column/response_tokens").content, "<f4")[rows]
    inside = [int(((lengths >= a) & (lengths < b)).sum()) for a, b in itertools.pairwise(edges)]
    assert inside == beside["picked"]["lengths"]


def test_why_a_sample_is_in_or_out_is_what_explain_says(client, session, pool, tmp_path):
    settings = {"diversity": 40, "size": 25}
    head, rows = picked(client, settings)
    corpus, work = pool
    subset = sd.select(
        corpus, **settings, strategy="micro-response", index=GIVEN["index"], work=work
    )
    out = sorted({*range(session.n)} - {*rows.tolist()})
    for row in [*rows[:3].tolist(), *out[:12]]:
        answer = posted(client, "api/explain", settings=settings, row=row).json()
        assert answer["told"] == subset.explain(session.ids[row].as_py())
        assert all(answer["lines"])
    assert head["digest"] == subset.figures["ids_key"]


def test_the_map_has_a_place_for_every_sample_that_holds_a_kind(client, session):
    picked(client, {})
    places = np.frombuffer(got(client, "api/map").content, "<u2").reshape(-1, 2)
    nowhere = (places == 65_535).any(axis=1)
    kinds = np.frombuffer(got(client, "api/column/kinds").content, "<f4")
    assert len(places) == session.n
    assert (nowhere == (kinds == 0)).all()
    told = got(client, "api/corpus").json()["map"]
    assert told["ready"]
    assert all(region["words"] for region in told["regions"])


def test_a_search_finds_what_holds_a_text_in_any_case(client, session):
    texts = session.samples.select(["instruction", "response"]).to_pylist()
    for query, where in (("THE ", "both"), ("a.b", "both"), ("(", "response"), ("zqx", "both")):
        parts = ("instruction", "response") if where == "both" else (where,)
        wanted = [
            row
            for row, one in enumerate(texts)
            if any(query.lower() in one[part].lower() for part in parts)
        ]
        answer = client.get("api/search", params={"q": query, "in": where})
        assert np.frombuffer(answer.content, "<u4").tolist() == wanted
        assert answer.headers["x-total"] == str(len(wanted))


def test_the_nearest_share_the_most_kinds(client, session):
    picked(client, {})
    held = session.incidence(None).pool.kinds
    kinds = [{*held.indices[a:b]} for a, b in itertools.pairwise(held.indptr)]
    near = np.frombuffer(got(client, "api/nearest?row=5&many=8").content, "<u4")

    def jaccard(row):
        return len(kinds[5] & kinds[row]) / max(1, len(kinds[5] | kinds[row]))

    order = sorted((row for row in range(session.n) if row != 5), key=lambda r: (-jaccard(r), r))
    assert near.tolist() == order[:8]


def test_marks_stand_where_the_kinds_are(client, session):
    for strategy, role in (("micro-response", "assistant"), ("meso-instruction", "user")):
        picked(client, {"strategy": strategy})
        opened = session.incidence(strategy)
        held, marked, every = opened.pool.kinds, 0, 0
        for row in range(40):
            told = got(client, f"api/sample?row={row}&strategy={strategy}").json()
            sizes = held.indptr[row + 1] - held.indptr[row]
            marks = [(t["text"][a:b], kind) for t in told["turns"] for a, b, kind in t["marks"]]
            assert all(t["role"] == role or not t["marks"] for t in told["turns"])
            if strategy.startswith("micro"):
                assert len({kind for _, kind in marks}) == sizes
                assert all(text in kind for text, kind in marks if text.isascii())
            marked, every = marked + len({kind for _, kind in marks}), every + sizes
        assert marked > 0.9 * every > 0


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"http://127.0.0.1:{PORT}/another-token/api/corpus", {}),
        (f"http://127.0.0.1:{PORT}/{TOKEN}", {}),
        (f"http://127.0.0.1:{PORT}/api/corpus", {}),
        (BASE + "api/corpus", {"host": f"evil.example:{PORT}"}),
        (BASE + "api/corpus", {"host": "127.0.0.1:99"}),
    ],
)
def test_who_does_not_know_the_token_or_comes_by_another_name_gets_nothing(client, path, headers):
    answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (404, b"")


def test_a_page_of_another_origin_cannot_steer(client):
    for origin in ("http://evil.example", f"http://localhost:{PORT}", "null"):
        answer = client.post("api/select", json={"settings": {}}, headers={"origin": origin})
        assert (answer.status_code, answer.content) == (403, b"")
    own = {"origin": f"http://127.0.0.1:{PORT}"}
    assert client.post("api/select", json={"settings": {}}, headers=own).status_code in (200, 202)
    plain = client.post("api/select", content="{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 422  # what a form could send without asking


def test_every_answer_closes_the_page_to_all_else(client):
    for path in ("", "api/corpus", "api/nothing", "api/sample?row=x"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


def test_a_wrong_setting_is_named_in_one_line(client):
    for settings, name in (
        ({"diversity": 140}, "diversity"),
        ({"size": "many"}, "size"),
        ({"strategy": "macro"}, "strategy"),
        ({"tokenizer": "/etc"}, "tokenizer"),
        ({"embeddings": "/etc/passwd"}, "embeddings"),
        ({"must_include": "/etc/passwd"}, "must_include"),
        ({"exclude": [[]]}, "exclude"),
        ({"match_length": "/etc"}, "match_length"),
    ):
        answer = client.post("api/select", json={"settings": settings})
        assert (answer.status_code, answer.json()["field"]) == (422, name), settings
        assert "\n" not in answer.json()["error"]
    for settings in ([], None, "x", {"exclude": [10**9]}, {"exclude": [-1]}):
        assert client.post("api/select", json={"settings": settings}).status_code == 422
    too_many = posted(client, "api/select", settings={"size": 10**6})
    assert "lower" in (too_many.json() if hasattr(too_many, "json") else too_many)["error"]


def test_wrong_questions_are_refused_in_one_line(client):
    for path in (
        "api/sample?row=-1", "api/sample?row=350", "api/samples?rows=1,,2", "api/search?q=",
        f"api/samples?rows={','.join('1' * 201)}", "api/column/meta", "api/search?q=a&in=meta",
        "api/nearest?row=1e3", "api/sample?row=" + "9" * 5_000,
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 422, path
        assert answer.json()["error"].isprintable()
    headers = {"content-type": "application/json"}
    for content in (b"", b"[", b"[" * 100_000, b"[1]", b"\xff\xfe"):
        assert client.post("api/select", content=content, headers=headers).status_code == 422
    large = b'{"settings": "' + b" " * BODY + b'"}'
    assert client.post("api/select", content=large, headers=headers).status_code == 422
    assert client.get("api/job/nothing").status_code == 404
    assert "secret" not in said(ValueError("secret"))


@pytest.mark.parametrize("name", ["../page/index.html", "%2e%2e/app.py", "app.py", "/etc/passwd"])
def test_files_beside_the_page_are_not_sent(client, name):
    assert client.get(name).status_code == 404


HOSTILE = [
    '<script>alert("x")</script>', "</script><img src=x onerror=alert(1)>", "\u202eright to left",
    "nul \x00 bell \x07 escape \x1b[31m", "\u2028 line \u2029 paragraph", "&lt;b&gt; &amp; ${x}",
    "word " * 2_000_000,
]  # fmt: skip


def test_markup_control_characters_and_10_mb_come_back_as_text(tmp_path):
    rows = [{"instruction": f"say {i}", "output": text} for i, text in enumerate(HOSTILE)]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = corpus_of(store(tmp_path / "work"), [raw], {})
    session = Session(made, [str(raw)], tmp_path / "work", {**GIVEN, "size": 2}, tmp_path)
    client = TestClient(Routes(session).app(TOKEN, PORT), base_url=BASE)
    seen = []
    for row in range(session.n):
        for path in (f"api/sample?row={row}", f"api/samples?rows={row}"):
            answer = client.get(path)
            assert answer.headers["content-type"] == "application/json"
            assert b"<" not in answer.content
            assert answer.content.isascii()
        told = client.get(f"api/sample?row={row}").json()
        text = told["turns"][-1]["text"]
        assert len(text) <= 200_000
        assert told["cut"] == (told["total_characters"] > 200_000)
        seen.append(text)
    stored = corpora.read(made.path, ["response"])["response"].to_pylist()
    assert all(whole.startswith(text) for text, whole in zip(seen, stored, strict=True))
    assert [*map(len, seen)] == [min(len(text), 200_000 - len("say 6")) for text in stored]
    assert {*HOSTILE[:2]} <= {*seen}


TAKEN_HOME = [
    ("settings", "../out.yaml"), ("share", "/tmp/out.html"), ("subset", "a/../../out"),
    ("subset", ".hidden"), ("settings", ".git/hooks.yaml"), ("subset", ""), ("subset", "a\x00b"),
    ("subset", "link/out"), ("subset", "."), ("subset", "there"), ("settings", "x.sh"),
    ("subset", "x" * 5_000), ("export", ".."), ("nothing", "x"), ("subset", None),
]  # fmt: skip


@pytest.mark.parametrize(("what", "to"), TAKEN_HOME)
def test_nothing_is_written_out_of_the_root_nor_over_what_is_there(client, session, what, to):
    outside = session.root.parent / "elsewhere"
    outside.mkdir(exist_ok=True)
    (session.root / "there").mkdir(exist_ok=True)
    link = session.root / "link"
    if not link.is_symlink():
        link.symlink_to(outside, target_is_directory=True)
    before = sorted(session.root.parent.rglob("*"))
    answer = client.post("api/keep", json={"settings": {}, "what": what, "to": to})
    assert answer.status_code == 422
    assert sorted(session.root.parent.rglob("*")) == before


def test_a_subset_an_export_and_settings_are_taken_home(client, session, tmp_path):
    settings = {"diversity": 35, "size": 22, "must_include": [1, 2]}
    head, _ = picked(client, settings)
    kept = {}
    for what, to in (("subset", "s/one"), ("export", "s/out"), ("settings", "s/it.yaml")):
        answer = posted(client, "api/keep", settings=settings, what=what, to=to)
        kept[what] = answer if isinstance(answer, dict) else {"result": answer.json()}
        kept[what] = kept[what]["result"]
    made = folder.read_manifest(session.root / "s/one")
    assert made["result"]["ids_key"] == head["digest"] == kept["subset"]["digest"]
    assert folder.stage_of(session.root / "s/out") == "export"
    told = command.sftdiv(
        "select", session.sources[0], "--config", session.root / "s/it.yaml", "--json",
        "--out", tmp_path / "again", "--work", session.work,
    )  # fmt: skip
    assert json.loads(told.stdout)["ids_key"] == head["digest"]
    again = client.post("api/keep", json={"settings": settings, "what": "subset", "to": "s/one"})
    assert again.status_code == 422


def test_a_strategy_that_is_not_made_yet_is_a_job_with_its_time(pool, tmp_path):
    corpus, _ = pool
    given = {**GIVEN, "strategy": "micro-instruction"}
    session = Session(corpus_at(corpus), [str(corpus)], tmp_path / "work", given, tmp_path)
    client = TestClient(Routes(session).app(TOKEN, PORT), base_url=BASE)
    told = {one["name"]: one for one in client.get("api/strategies").json()}
    assert not told["micro-instruction"]["ready"]
    answer = client.post("api/select", json={"settings": {}})
    if answer.status_code == 202:
        assert answer.json()["seconds"] > 0
        assert "tokens" in answer.json()["what"]
    head, rows = picked(client, {})
    assert len(rows) == GIVEN["size"]
    assert head["figures"]["strategy"] == "micro-instruction"
    told = {one["name"]: one for one in client.get("api/strategies").json()}
    assert told["micro-instruction"]["ready"]
