"""Readers yield the same rows whatever the packing, the layout and the block size."""

import csv
import gzip
import io
import json
import random

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import text_key
from sft_diversity.ingestion import hub, json_rows
from sft_diversity.ingestion.config import Table
from sft_diversity.ingestion.rows import BadRow
from sft_diversity.ingestion.separated import separated_blocks
from sft_diversity.ingestion.text import digest, normal_bytes, normalise
from tests.ingestion.making import responses, row, rows_of, run, write_lines

ROWS = [row(i, output=f'naïve \u2028 {i} "quoted" \\ [{{]') for i in range(40)]
WANTED = [one["output"] for one in ROWS]


def _write(folder, name):
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in ROWS).encode()
    path = folder / name
    kind = name.removeprefix("a.")
    if kind in ("jsonl", "data"):
        path.write_bytes(lines)
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=2))
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "json.zst":
        path.write_bytes(zstandard.compress(json.dumps(ROWS).encode()))
    elif kind in ("csv", "tsv"):
        text = io.StringIO()
        writer = csv.DictWriter(
            text, list(ROWS[0]), delimiter="," if kind == "csv" else "\t", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(ROWS)
        path.write_text(text.getvalue(), "utf-8", newline="")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)
    elif kind == "feather":
        pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist(ROWS)
        with path.open("wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    return path


KINDS = (
    "json",
    "jsonl",
    "data",
    "jsonl.gz",
    "json.zst",
    "csv",
    "tsv",
    "parquet",
    "feather",
    "arrow",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind):
    run(_write(tmp_path, f"a.{kind}"), tmp_path / "out")
    assert responses(tmp_path / "out") == WANTED


@given(
    items=st.lists(
        st.dictionaries(st.text(max_size=3), st.recursive(st.none() | st.text(max_size=5),
                        lambda inner: st.lists(inner, max_size=3)), max_size=3)
        | st.integers() | st.text(max_size=4) | st.none() | st.lists(st.booleans(), max_size=2),
        max_size=6,
    ),
    seed=st.integers(0, 2**16),
    indent=st.sampled_from([None, 1]),
)  # fmt: skip
def test_a_list_is_cut_as_the_standard_parser_reads_it(items, seed, indent):
    raw = json.dumps(items, indent=indent, ensure_ascii=seed % 2 == 0).encode()
    cuts = sorted(random.Random(seed).choices(range(len(raw) + 1), k=4))
    blocks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found = rows_of(json_rows.blocks(iter(blocks), 1 << 20))
    assert [None if isinstance(one.value, BadRow) else one.value for one in found] == [
        item if isinstance(item, dict) else None for item in items
    ]
    places = [(one.offset or 0, one.size) for one in found]
    assert [json.loads(raw[start : start + size]) for start, size in places] == items


@given(
    fields=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"),
                         max_size=5), min_size=2, max_size=2),
        min_size=1, max_size=6,
    ),
    size=st.integers(1, 9),
)  # fmt: skip
def test_a_csv_is_read_as_the_standard_module_reads_it(fields, size):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["a", "b"], *fields])
    raw = text.getvalue().encode()
    blocks = (raw[i : i + size] for i in range(0, len(raw), size))
    found = separated_blocks(blocks, Table.model_validate({}), ",", 1 << 20, "a.csv")
    values = [one.value for one in rows_of(found)]
    assert [list(value.values()) for value in values if isinstance(value, dict)] == fields


@given(
    st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.characters(max_codepoint=127))
)
def test_the_ascii_table_normalises_as_the_rule_does(text):
    once = normalise(text)
    assert once == once.strip()
    assert "  " not in once
    raw = text.encode()
    assert normal_bytes(text, raw).decode() == once
    assert normal_bytes(once, once.encode()).decode() == normalise(once)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("ﬁne", "FINE"),
        ("a\u00a0\n b", " A B "),
        ("①", "1"),
        ("é", "e\u0301"),
    ],
)
def test_texts_that_look_alike_are_equal(one, other):
    assert normalise(one) == normalise(other)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_digests_are_those_of_core(parts):
    assert digest([part.encode() for part in parts]).hex() == text_key(*parts)


def test_header_faults_stop_the_file(tmp_path):
    for header, said in (("question,question", "names column 'question' twice"),
                         ('"question,answer', "the header is no row: .*quote")):  # fmt: skip
        (tmp_path / "a.csv").write_text(f"{header}\na,b\n")
        with pytest.raises(DataError, match=rf"^ingest: a\.csv: .*{said}"):
            run(tmp_path / "a.csv", tmp_path / "out")


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Folders as `datasets` writes them."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(tmp_path / "two")
    return tmp_path


def test_a_saved_dataset_and_its_train_split_are_read(saved):
    run(saved / "one", saved / "out")
    run(saved / "two", saved / "out2")
    assert responses(saved / "out") == responses(saved / "out2") == WANTED
    source = {"name": "t", "path": str(saved / "two"), "split": "test"}
    run([], saved / "out3", sources=[source])
    assert responses(saved / "out3") == WANTED[:1]
    with pytest.raises(UsageError, match="has splits train, test"):
        run([], saved / "out4", sources=[source | {"split": "other"}])


def test_a_folder_of_files_leaves_other_splits_out(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    for name, part in {"train-0": ROWS[:9], "train-1": ROWS[9:], "test-0": [row(99)]}.items():
        pq.write_table(pa.Table.from_pylist(part), tmp_path / "set" / "data" / f"{name}.parquet")
    (tmp_path / "set" / "README.md").write_text("# A set")
    run(tmp_path / "set", tmp_path / "out")
    assert responses(tmp_path / "out") == WANTED


def test_the_stream_of_the_hub_reader_is_that_of_load_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_lines(tmp_path / "train.jsonl", ROWS)
    found = hub.hub_rows(str(tmp_path), None, "train")
    assert [one.value for one in found] == ROWS


def test_an_unreachable_hub_is_one_line_without_the_token(monkeypatch):
    token = "hf_" + "secretsecretsecret"
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(
        DataError, match=r"^ingest: hub:none/such@v1: offline mode is set; "
    ) as found:
        hub.commit_of(hub.address("hub:none/such@v1"))
    assert "\n" not in str(found.value)
    assert token not in str(found.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hub:org/name", ("org/name", None, None, None)),
        ("org/name@refs/pr/1", ("org/name", None, None, "refs/pr/1")),
        ("hub:org/name/low-33.5/test@v1.0", ("org/name", "low-33.5", "test", "v1.0")),
    ],
)
def test_an_address_names_data_set_config_split_and_revision(text, parts):
    found = hub.address(text)
    assert (found.name, found.config, found.split, found.revision) == parts
    assert hub.address(found.at("a" * 40)) == hub.Address(*parts[:3], "a" * 40)
    assert hub.commit_of(hub.address(found.at("a" * 40))) == "a" * 40  # asked of nobody


@pytest.mark.parametrize("text", ["hub:name", "hub:a/b/c/d/e", "hub:a/b@", "hub:a/../b c"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="is not of the form hub:org/name"):
        hub.address(text)
