"""`clean` from a corpus to a corpus: what goes, with which twin, and that nothing is lost."""

from __future__ import annotations

import json
import random
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from sft_diversity.cleaning import settle
from sft_diversity.cleaning.chain import chain
from sft_diversity.cleaning.config import CleanConfig
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, vectors
from sft_diversity.core.errors import DataError, UsageError
from tests.cleaning import making
from tests.cleaning.making import clean
from tests.making import plan, quiet
from tests.processes import Child

VOCABULARY = [f"word{i}" for i in range(3_000)]


def prose(rng, words):
    return " ".join(rng.choices(VOCABULARY, k=words))


def edited(rng, text):
    """Change one word of a hundred, and the writing."""
    words = text.split()
    for _ in range(len(words) // 100 + 1):
        words[rng.randrange(len(words))] = "edit"
    return "  ".join(words).upper() + " "


def pool(seed=0):
    """60 plain samples, twins of the first 10 with longer responses, leaks of 5 eval prompts."""
    rng = random.Random(seed)
    plain = [(prose(rng, 120), prose(rng, 150)) for _ in range(60)]
    twins = [(edited(rng, i), edited(rng, r) + "more") for i, r in plain[:10]]
    halves = [(i, prose(rng, 150)) for i, _ in plain[10:15]]  # one instruction, other answers
    asked = [prose(rng, 30) for _ in range(8)]
    leaks = []
    for number, question in enumerate(asked[:5]):
        part = " ".join(question.split()[7:20]).title()
        lead, response = prose(rng, 50), prose(rng, 60)
        leaks.append((f"{lead} {part}!", response) if number % 2 else (lead, f"{response}, {part}"))
    return plain, twins, halves, asked, leaks


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    where = tmp_path_factory.mktemp("planted")
    plain, twins, halves, asked, leaks = pool()
    source = making.corpus(where / "corpus", [*plain, *twins, *halves, *leaks], shards=4)
    rows = "\n".join(json.dumps({"prompt": question}) for question in asked)
    (where / "eval.jsonl").write_text(rows)
    return where, source


def report_of(out):
    rows = pq.read_table(out / "removed.parquet").to_pylist()
    lines = [json.loads(line) for line in (out / "removed.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    return rows, lines


def nothing_lost(source, out, manifest):
    assert folder.verify(out)["faults"] == []
    before, after = corpora.read(source), corpora.read(out)
    gone = pq.read_table(out / "removed.parquet")
    ids = after["id"].to_pylist()
    assert sorted(ids + gone["id"].to_pylist()) == before["id"].to_pylist()
    kept = set(ids)
    assert after.to_pylist() == [row for row in before.to_pylist() if row["id"] in kept]
    rows = manifest["rows"]
    assert rows["in"] == before.num_rows
    assert rows["kept"] == len(ids)
    for reason, number in rows["dropped"].items():
        assert gone["reason"].to_pylist().count(reason) == number
    assert sum(one["rows"]["kept"] for one in manifest["result"]["sources"]) == len(ids)
    assert set(gone["twin"].drop_null().to_pylist()) <= kept


def test_planted_twins_and_leaks_go_and_nothing_else(planted, tmp_path):
    where, source = planted
    plain, twins, _, asked, leaks = pool()
    config = CleanConfig(against=[str(where / "eval.jsonl")])
    out = tmp_path / "out"
    manifest = clean(source, out, config, say=quiet)
    nothing_lost(source, out, manifest)
    assert manifest["rows"]["dropped"] == {"contaminated": 5, "near_duplicate": 10}
    rows, lines = report_of(out)
    ids = {pair: making.sample(*pair)["id"] for pair in [*plain, *twins, *leaks]}
    by_id = {row["id"]: row for row in rows}
    for short, long in zip(plain[:10], twins, strict=True):  # the longer response stays
        row = by_id[ids[short]]
        assert row["twin"] == row["linked_to"] == ids[long]
        assert row["similarity"] == row["link_similarity"] == making.jaccard(short, long)
    for number, leak in enumerate(leaks):
        row = by_id[ids[leak]]
        assert (row["eval_file"], row["eval_row"], row["eval_field"]) == (
            "eval.jsonl", number, "prompt",
        )  # fmt: skip
        assert row["ngram"] == " ".join(asked[number].split()[7:20])
        assert row["shared_ngrams"] == 1
        assert row["similarity"] == pytest.approx(1 / 18)
    [told] = manifest["result"]["evaluation"]
    assert told == {"file": "eval.jsonl", "rows": 8, "texts": 8, "rows_hit": 5, "samples": 5}
    leaked = next(line for line in lines if line["reason"] == "contaminated")
    assert leaked["eval_text"] in asked
    twin = next(line for line in lines if line["reason"] == "near_duplicate")
    assert twin["twin_response"].endswith(("…", "more"))
    groups = pq.read_table(out / "clusters.parquet").to_pylist()
    assert [row["size"] for row in groups] == [2] * 10
    assert [row["id"] for row in groups] == sorted(ids[pair] for pair in twins)


def test_components_and_the_rule_of_who_stays_are_options(planted, tmp_path):
    _, source = planted
    plain, twins, _, _, _ = pool()
    asked = CleanConfig(component="instruction", keep="first")
    manifest = clean(source, tmp_path / "one", asked, say=quiet)
    assert manifest["rows"]["dropped"] == {"near_duplicate": 15}
    kept = set(corpora.read(tmp_path / "one")["id"].to_pylist())
    for short, long in zip(plain[:10], twins, strict=True):
        first, second = sorted(making.sample(*pair)["id"] for pair in (short, long))
        assert first in kept
        assert second not in kept
    manifest = clean(source, tmp_path / "two", CleanConfig(component="response"), say=quiet)
    assert manifest["rows"]["dropped"] == {"near_duplicate": 10}


def test_equal_runs_write_equal_bytes_however_the_corpus_is_sharded(planted, tmp_path):
    where, source = planted
    plain, twins, halves, _, leaks = pool()
    again = making.corpus(tmp_path / "corpus", [*leaks, *halves, *twins, *plain], shards=1)
    config = CleanConfig(against=[str(where / "eval.jsonl")])
    for number, corpus in enumerate((source, again)):
        clean(corpus, tmp_path / str(number), config, say=quiet)
    for name in ("removed.parquet", "removed.jsonl", "clusters.parquet"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    assert corpora.read(tmp_path / "0").equals(corpora.read(tmp_path / "1"))


def test_what_is_clean_stays_as_it_is_and_a_second_run_is_reused(planted, tmp_path):
    _, source = planted
    first, second = tmp_path / "first", tmp_path / "second"
    clean(source, first, CleanConfig(), say=quiet)
    said = []
    manifest = clean(first, second, CleanConfig(), say=said.append)
    assert manifest["rows"]["dropped"] == {}
    assert corpora.key(first) == corpora.key(second)
    assert clean(first, second, CleanConfig(), say=said.append) == manifest
    assert any(line.endswith("is up to date") for line in said)
    assert plan("clean", CleanConfig(), second, first)["state"] == "cached"
    assert plan("clean", CleanConfig(jaccard=0.7), second, first)["state"] == "to do"
    clean(first, second, CleanConfig(jaccard=0.7), say=said.append)
    assert any("recomputed because jaccard changed: 0.8 -> 0.7" in line for line in said)


def test_a_report_alone_is_no_corpus_but_says_the_same(planted, tmp_path):
    where, source = planted
    options = {"against": [str(where / "eval.jsonl")]}
    whole = clean(source, tmp_path / "whole", CleanConfig(**options), say=quiet)
    alone = clean(source, tmp_path / "report", CleanConfig(**options, report_only=True), say=quiet)
    assert alone["rows"] == whole["rows"]
    assert not corpora.is_corpus(tmp_path / "report")
    assert not (tmp_path / "report" / "samples").exists()
    for name in ("removed.parquet", "removed.jsonl"):
        assert (tmp_path / "report" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def chained(rng, length):
    """Samples in a row, each a twin of the next, the ends unlike each other."""
    words = rng.choices(VOCABULARY, k=200)
    made = []
    for step in range(length):
        words = [*words[10:], *rng.choices(VOCABULARY, k=10)]
        made.append((" ".join(words), "answer" + "!" * step))
    return made


def test_a_chain_is_cut_unless_clusters_are_asked_for(tmp_path):
    rows = chained(random.Random(0), 12)
    source = making.corpus(tmp_path / "corpus", rows)
    options = {"component": "instruction", "jaccard": 0.85}
    direct = clean(source, tmp_path / "direct", CleanConfig(**options), say=quiet)
    assert 2 < direct["rows"]["kept"] < 12
    for row in report_of(tmp_path / "direct")[0]:
        assert row["similarity"] >= 0.85
    asked = CleanConfig(**options, clusters="chain")
    whole = clean(source, tmp_path / "chain", asked, say=quiet)
    nothing_lost(source, tmp_path / "chain", whole)
    assert whole["rows"]["kept"] == 1
    [stays] = corpora.read(tmp_path / "chain").to_pylist()
    assert stays["response"] == max((r for _, r in rows), key=len)
    for row in report_of(tmp_path / "chain")[0]:
        assert row["link_similarity"] >= 0.85
        assert row["twin"] == stays["id"]
    assert min(row["similarity"] for row in report_of(tmp_path / "chain")[0]) < 0.5


def embedded(where, source, seed=0, dim=8):
    """Vectors near a few directions, for both components."""
    ids = corpora.read(source, ["id"])["id"].to_pylist()
    rng = np.random.default_rng(seed)
    found, matrices = {}, []
    group = rng.integers(0, len(ids) // 3 + 1, len(ids))
    for name in corpora.COMPONENTS:
        centres = rng.normal(size=(len(ids), dim))[group]
        matrix = vectors.unit(centres + 0.1 * rng.normal(size=(len(ids), dim)))
        stored = matrix.astype(np.float16)
        found[name] = (ids, stored)
        np.savez(where / f"{name}.npz", ids=ids, matrix=stored)
        matrices.append(vectors.unit(stored).astype(np.float64))
    return found, np.minimum(*(m @ m.T for m in matrices))


def test_cosine_twins_are_those_of_all_pairs(planted, tmp_path):
    _, source = planted
    found, cosines = embedded(tmp_path, source)
    config = CleanConfig(minhash=False, cosine=0.97, keep="first")
    manifest = clean(source, tmp_path / "out", config, found, say=quiet)
    nothing_lost(source, tmp_path / "out", manifest)
    ids = corpora.read(source, ["id"])["id"].to_pylist()
    near = np.where(cosines >= 0.97, cosines, -1.0)
    staying, twins = making.settle(range(len(ids)), near)
    assert 0 < len(staying) < len(ids)
    assert corpora.read(tmp_path / "out")["id"].to_pylist() == [ids[i] for i in staying]
    for row in report_of(tmp_path / "out")[0]:
        place = ids.index(row["id"])
        assert row["reason"] == "near_embedding"
        assert row["twin"] == ids[twins[place]]
        assert row["similarity"] == pytest.approx(near[place, twins[place]], abs=1e-6)


def test_embeddings_of_another_corpus_are_refused(planted, tmp_path):
    _, source = planted
    other = making.corpus(tmp_path / "other", [("a", "b"), ("c", "d")])
    found, _ = embedded(tmp_path, other)
    with pytest.raises(UsageError, match="holds other ids than the corpus"):
        clean(source, tmp_path / "out", CleanConfig(cosine=0.9), found, say=quiet)


def test_a_pool_that_is_leaked_whole_is_an_error(tmp_path):
    source = making.corpus(tmp_path / "corpus", [("one two three four", "x")], shards=1)
    (tmp_path / "eval.jsonl").write_text('{"prompt": "One, two: three four"}')
    config = CleanConfig(against=[str(tmp_path / "eval.jsonl")])
    with pytest.raises(DataError, match=r"left of 1 \(1 [a-z-]+\); raise .* what `against`"):
        clean(source, tmp_path / "out", config, say=quiet)


RUN = """
import sys
from pathlib import Path
import numpy as np
from sft_diversity.cleaning import settle
from sft_diversity.cleaning.config import CleanConfig
from tests.cleaning import making
import sft_diversity.cleaning.chain

settle.BLOCK = sys.modules["sft_diversity.cleaning.chain"].BLOCK = 4
config = CleanConfig(cosine=0.97, clusters=sys.argv[4], against=[sys.argv[3]])
where, out = Path(sys.argv[1]), Path(sys.argv[2])
loaded = {name: np.load(where / f"{name}.npz") for name in ("instruction", "response")}
found = {name: (one["ids"].tolist(), one["matrix"]) for name, one in loaded.items()}
making.clean(where / "corpus", out, config, found, say=lambda line: print(line, file=sys.stderr))
"""


def tree(out):
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["run"]
    return found | {"manifest": json.dumps(manifest, sort_keys=True).encode()}


@pytest.mark.parametrize(
    ("clusters", "parts"),
    [
        pytest.param("direct", 2, id="direct, in words"),
        pytest.param("direct", 60, id="direct, in twins"),
        pytest.param("chain", 60, id="chain, in twins"),
        pytest.param("direct", 180, id="direct, late", marks=pytest.mark.slow),
        pytest.param("chain", 180, id="chain, late", marks=pytest.mark.slow),
        pytest.param("chain", 2, id="chain, in words", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, monkeypatch, clusters, parts):
    rng = random.Random(1)
    pairs = [(prose(rng, 40), prose(rng, 40)) for _ in range(150)]
    pairs += [(i, r + " more") for i, r in pairs[:40]]
    source = making.corpus(tmp_path / "corpus", pairs, shards=6)
    found, _ = embedded(tmp_path, source)
    sheet = tmp_path / "eval.jsonl"
    sheet.write_text("\n".join(json.dumps({"question": i}) for i, _ in pairs[60:65]))

    def start(out):
        return Child(RUN, tmp_path, out, sheet, clusters)

    monkeypatch.setattr(settle, "BLOCK", 4)
    monkeypatch.setattr(sys.modules[chain.__module__], "BLOCK", 4)
    config = CleanConfig(cosine=0.97, clusters=clusters, against=[str(sheet)])
    clean(source, tmp_path / "whole", config, found, say=quiet)
    killed = start(tmp_path / "out")
    made = tmp_path / ".out.partial" / ".parts"
    killed.until(lambda: len(list(made.glob("*.npy"))) >= parts)
    killed.kill()
    assert not (tmp_path / "out").exists(), "killed too late to show anything"
    again = start(tmp_path / "out")
    assert again.wait() == 0, again.stderr
    said = again.stderr
    assert "goes on at shard " in said or "goes on at block " in said
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert not list(tmp_path.glob(".out*"))
