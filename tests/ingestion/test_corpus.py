"""What is kept: duplicates, empties, draws, ids, shards and accounts."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_diversity.core import config as configs
from sft_diversity.core import corpus, folder
from sft_diversity.core.errors import BadRowsError, DataError, UsageError
from sft_diversity.core.hashing import text_key
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.ingestion.fetched import Fetcher
from sft_diversity.ingestion.stage import check_rows, resolve
from sft_diversity.ingestion.text import normalise
from tests.ingestion.making import quarantine, responses, row, run, samples, write_lines
from tests.making import ingest, plan

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY / "data" / "sample"
PUBLISHED = REPOSITORY.parent / "shared" / "data" / "sources"

WORDS = st.sampled_from(["", " ", "a", "A", "ａ", "b", "a\n\nb", "a b", "é"])


def _brute(rows):
    """Kept row numbers by the rule's own words; equal messages count as equal too."""
    kept, triples, rendered = [], set(), set()
    for number, one in enumerate(rows):
        triple = tuple(normalise(one[name]) for name in ("instruction", "input", "output"))
        if not triple[2] or not (triple[0] or triple[1]):
            continue
        parts = [one[name] for name in ("instruction", "input") if one[name].strip()]
        text = ("\n\n".join(parts), one["output"])
        if triple not in triples and text not in rendered:
            kept.append(number)
            rendered.add(text)
        triples.add(triple)
    return kept


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=25))
def test_the_exact_rule_is_its_brute_force(tmp_path_factory, texts):
    rows = [dict(zip(("instruction", "input", "output"), text, strict=True)) for text in texts]
    rows.append(row(1))
    folder_ = tmp_path_factory.mktemp("exact")
    run(write_lines(folder_ / "a.jsonl", rows), folder_ / "out")
    assert [one["source_row"] for one in samples(folder_ / "out")] == _brute(rows)


def test_a_duplicate_is_found_across_sources_and_names_its_twin(tmp_path):
    first = write_lines(tmp_path / "a.jsonl", [{"question": "Why?", "answer": "So."}])
    pairs = [{"prompt": "x", "completion": "y"}, {"prompt": " WHY?", "completion": "so."}]
    other = write_lines(tmp_path / "b.jsonl", pairs)
    run([first, other], tmp_path / "out")
    (gone,) = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    twin = next(one for one in samples(tmp_path / "out") if one["source"] == "a")
    assert gone == {
        "source": "b",
        "source_file": "b.jsonl",
        "source_row": 1,
        "reason": "duplicate",
        "duplicate_of": twin["id"],
    }


def test_dialogues_are_equal_when_all_turns_are(tmp_path):
    def talk(*said):
        speakers = ("human", "gpt") * 3
        turns = [{"from": s, "value": v} for s, v in zip(speakers, said, strict=False)]
        return {"conversations": turns}

    rows = [talk("a", "b", "c", "d"), talk("A", "b ", "c", "d"), talk("a", "b", "c", "e")]
    manifest = run(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert manifest["rows"] == {"in": 3, "kept": 2, "dropped": {"duplicate": 1}, "quarantined": 0}


def test_without_deduplication_every_row_has_an_id_of_its_own(tmp_path):
    manifest = run(write_lines(tmp_path / "a.jsonl", [row(1)] * 3), tmp_path / "out", dedup="none")
    assert manifest["rows"]["kept"] == 3
    assert len({one["id"] for one in samples(tmp_path / "out")}) == 3


def test_ids_are_content_keys_and_do_not_depend_on_file_order(tmp_path):
    files = [write_lines(tmp_path / f"{i}.jsonl", [row(i), row(i + 10)]) for i in range(3)]
    run(files, tmp_path / "out")
    run(files[::-1], tmp_path / "back")
    ids = corpus.read(tmp_path / "out")["id"].to_pylist()
    assert ids == sorted(ids) == corpus.read(tmp_path / "back")["id"].to_pylist()
    one = samples(tmp_path / "out")[0]
    assert one["id"] == text_key("user", one["instruction"], "assistant", one["response"])


def _sources(tmp_path, **more):
    made = []
    for name in ("a", "b"):
        rows = [row(i, output=f"{name} {i}") for i in range(50)]
        made.append({"name": name, "path": str(write_lines(tmp_path / f"{name}.jsonl", rows))})
    made[1] |= more
    return made


def _taken(out):
    return Counter(one["source"] for one in samples(out)), {one["id"] for one in samples(out)}


@pytest.mark.parametrize(
    ("options", "more", "wanted"),
    [
        ({}, {"take": 7}, {"a": 50, "b": 7}),
        ({"size": 60}, {"fill": True}, {"a": 50, "b": 10}),
        ({"size": 100}, {"fill": True}, {"a": 50, "b": 50}),
    ],
)
def test_take_and_fill_keep_exactly_what_is_asked(tmp_path, options, more, wanted):
    manifest = run([], tmp_path / "out", sources=_sources(tmp_path, **more), **options)
    assert _taken(tmp_path / "out")[0] == wanted
    account = manifest["rows"]
    assert account["in"] == account["kept"] + account["dropped"].get("not_taken", 0)


def test_a_size_without_fill_is_drawn_from_all_and_by_the_seed(tmp_path):
    sets: list[set[str]] = []
    for seed in (0, 0, 1):
        out = tmp_path / f"out{len(sets)}"
        run([], out, sources=_sources(tmp_path), size=40, seed=seed)
        sets.append(_taken(out)[1])
    assert len(sets[0]) == 40
    assert sets[0] == sets[1]
    assert 5 < len(sets[0] & sets[2]) < 30  # 16 expected of two independent draws


def test_a_draw_mostly_survives_a_growing_source(tmp_path):
    sources = _sources(tmp_path, take=25)
    run([], tmp_path / "out", sources=sources)
    rows = [row(i, output=f"b {i}") for i in range(55)]
    write_lines(tmp_path / "b.jsonl", rows[::-1])
    run([], tmp_path / "more", sources=sources)
    before, after = (
        {one["id"] for one in samples(tmp_path / out) if one["source"] == "b"}
        for out in ("out", "more")
    )
    assert len(before & after) >= 20  # only new samples push old ones out


@pytest.mark.parametrize(
    ("options", "more"),
    [({}, {"take": 51}), ({"size": 101}, {}), ({"size": 101}, {"fill": True}),
     ({"size": 40}, {"fill": True})],
)  # fmt: skip
def test_more_than_is_there_is_an_error(tmp_path, options, more):
    with pytest.raises(DataError, match=r"but (50|100|the other)"):
        run([], tmp_path / "out", sources=_sources(tmp_path, **more), **options)


def test_configs_that_contradict_themselves_are_refused(tmp_path):
    same = {"name": "a", "path": "x"}
    for bad in (
        {"sources": [same, same]},
        {"sources": [same | {"fill": True}]},
        {"size": 3, "sources": [same | {"fill": True}, same | {"name": "b", "fill": True}]},
        {"sources": [same | {"format": "mapping"}]},
        {"sources": [same | {"name": "../up"}]},
        {"sources": [same | {"table": {"header": False}}]},
    ):
        with pytest.raises(UsageError):
            configs.build(IngestConfig, bad, "test")
    with pytest.raises(UsageError, match="no source"):
        ingest([], tmp_path / "out", IngestConfig(), say=lambda _: None)


def test_many_rows_are_sharded_by_id_and_verify(tmp_path):
    rows = [row(i) for i in range(20_001)]
    run(write_lines(tmp_path / "a.jsonl", rows), tmp_path / "out")
    shards = corpus.shards(tmp_path / "out")
    assert [path.stem for path in shards] == list("0123456789abcdef")
    for path in shards:
        ids = pq.read_table(path, columns=["id"])["id"].to_pylist()
        assert ids == sorted(ids)
        assert {id[0] for id in ids} == {path.stem}
    assert corpus.read(tmp_path / "out").num_rows == 20_001
    assert folder.verify(tmp_path / "out")["faults"] == []


def test_the_same_call_is_reused_and_a_change_is_named(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [row(1)])
    said: list[str] = []
    config = IngestConfig()
    assert plan("ingest", resolve([file], config), tmp_path / "out")["state"] == "to do"
    assert not list(tmp_path.glob(".out*"))
    ingest([file], tmp_path / "out", config, said.append)
    ingest([file], tmp_path / "out", config, said.append)
    assert any("is up to date" in line for line in said)
    assert plan("ingest", resolve([file], config), tmp_path / "out")["state"] == "cached"
    write_lines(file, [row(1), row(2)])
    ingest([file], tmp_path / "out", config, said.append)
    assert any("recomputed because input a changed" in line for line in said)
    assert len(responses(tmp_path / "out")) == 2


def test_neither_paths_nor_limits_are_part_of_the_output(tmp_path):
    bodies: list[dict[str, Any]] = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write_lines(tmp_path / place / "a.jsonl", [row(1), row(2)])
        source = {"name": "a", "path": "a.jsonl"}
        fraction = {"max_bad_fraction": len(bodies) / 2}
        manifest = run(
            [], tmp_path / place / "out", sources=[source], root=str(tmp_path / place), **fraction
        )
        bodies.append({key: value for key, value in manifest.items() if key != "run"})
    assert bodies[0] == bodies[1]
    assert str(tmp_path) not in json.dumps(bodies)


def test_the_sample_is_as_its_manifest_says(tmp_path):
    listed = yaml.safe_load((SAMPLE / "MANIFEST.yaml").read_text("utf-8"))
    config = configs.load(
        REPOSITORY / "configs" / "ingest" / "sample.yaml", IngestConfig, {"root": str(SAMPLE)}
    )
    manifest = ingest([], tmp_path / "out", config, say=lambda _: None)
    assert manifest["rows"]["in"] == listed["rows"] <= 3000
    assert manifest["rows"]["quarantined"] == 0
    found = {f["file"]: f["sha256"] for s in manifest["result"]["sources"] for f in s["files"]}
    wanted = {one["file"]: one["sha256"] for one in listed["files"]}
    assert found == {name: sha for name, sha in wanted.items() if not name.startswith("eval/")}
    assert all(
        one["licence"].startswith(("MIT", "Apache-2.0", "CC-BY-SA")) for one in listed["files"]
    )
    for one in samples(tmp_path / "out"):
        assert "<|endoftext|>" not in one["instruction"] + one["response"]
        assert [turn["role"] for turn in one["messages"]] == ["user", "assistant"]
        if one["source"] == "flan_cot":
            assert "\\n" not in one["instruction"] + one["response"]
            assert "\nThe answer is " in one["response"]


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published sources are not here")
def test_the_reference_corpus_has_the_published_counts(tmp_path):
    config = configs.load(
        REPOSITORY / "configs" / "ingest" / "reference-117k.yaml",
        IngestConfig,
        {"root": str(PUBLISHED)},
    )
    manifest = ingest([], tmp_path / "out", config, say=lambda _: None)
    listed = yaml.safe_load((PUBLISHED / "MANIFEST.yaml").read_text("utf-8"))
    assert len(listed["sources"]) == 18
    for wanted, found in zip(listed["sources"], manifest["result"]["sources"], strict=True):
        rows = found["rows"]
        dropped = {"empty": 0, "duplicate": 0, "not_taken": 0} | rows["dropped"]
        assert found["name"] == wanted["name"]
        assert rows["in"] == wanted["records"]
        assert dropped["empty"] == wanted["empty"]
        assert dropped["duplicate"] == wanted["exact_duplicates"]
        assert rows["kept"] + dropped["not_taken"] == wanted["kept"]
        assert rows["kept"] == wanted["corpus_records"]
    total = manifest["rows"]
    assert (total["in"], total["kept"], total["quarantined"]) == (137_216, 117_000, 0)
    assert total["dropped"] == {"empty": 1474, "duplicate": 3647, "not_taken": 15_095}
    assert quarantine(tmp_path / "out") == []
    for one in samples(tmp_path / "out"):
        assert "<|endoftext|>" not in one["instruction"] + one["response"]
        assert one["source"] != "flan_cot" or "\\n" not in one["instruction"] + one["response"]


def test_a_source_of_which_nothing_is_kept_gets_a_warning_each_time(tmp_path):
    rows = [{"instruction": f"q{i}", "output": "a"} for i in range(5)]
    for name in ("first", "second"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    empty = [{"instruction": f"q{i}", "output": " "} for i in range(3)]
    (tmp_path / "third.jsonl").write_text("\n".join(map(json.dumps, [*empty, rows[0]])), "utf-8")
    for _ in range(2):  # made, and found
        told: list[str] = []
        paths = [tmp_path / f"{name}.jsonl" for name in ("first", "second", "third")]
        ingest(paths, tmp_path / "out", IngestConfig(), told.append)
        assert [line for line in told if "warning" in line] == [
            "ingest: warning: source second: none of its 5 rows is kept: 5 duplicate; "
            "see dropped.parquet and quarantine.jsonl",
            "ingest: warning: source third: none of its 4 rows is kept: 3 empty, 1 duplicate; "
            "see dropped.parquet and quarantine.jsonl",
        ]


def test_too_many_bad_rows_are_told_with_the_commonest_reason_and_the_first_of_them(tmp_path):
    rows = [{"instruction": "q", "output": 3 if i == 0 else None} for i in range(60)]
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    reason = (
        r"source bad: 60 of 60 rows are bad \(100.0%\), 59 for null-text: null \(or NaN\) where "
        r"text is due, as in row 1 of bad.jsonl \(output: null\); `max_bad_fraction` allows 1.0%"
    )
    with pytest.raises(BadRowsError, match=reason):
        ingest([tmp_path / "bad.jsonl"], tmp_path / "out", IngestConfig())


@pytest.mark.parametrize("ending", ["json", "jsonl.gz", "csv", "parquet", "arrow"])
def test_a_file_is_never_said_to_have_fewer_rows_than_it_has(tmp_path, ending):
    table = pa.table({"instruction": [f"{{q}} {i}" for i in range(9)], "output": ["a"] * 9})
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    elif ending == "arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    elif ending == "csv":
        path.write_text("instruction,output\n" + "q,a\n" * 9, "utf-8")
    else:
        text = json.dumps(table.to_pylist()) if ending == "json" else ""
        text = text or "\n".join(map(json.dumps, table.to_pylist()))
        path.write_bytes(gzip.compress(text.encode()) if ending == "jsonl.gz" else text.encode())
    fetcher = Fetcher(tmp_path / "work", True, lambda key, make: make())
    check_rows(resolve([path], IngestConfig()), fetcher, 9)
    with pytest.raises(DataError, match=r"size is 40 but the sources have (9|11|18) rows at most"):
        check_rows(resolve([path], IngestConfig()), fetcher, 40)


def test_shards_are_of_fewer_rows_where_texts_are_long():
    """A shard is made in memory, and the texts of a column are 2 GB at most."""
    assert corpus.bucket_digits(20_000, 200 << 20) == 0
    assert corpus.bucket_digits(20_001, 200 << 20) == 1
    assert corpus.bucket_digits(64, 1 << 30) == 1
    assert corpus.bucket_digits(200_000, 300 << 30) == 3
