import json
import os
import signal
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity import cli
from sft_diversity.core import (
    hashing,
    incidence,
    parquet,
    progress,
    schema,
    seeding,
    stopping,
)
from sft_diversity.core.errors import DataError, Interrupted


@given(st.lists(st.text()), st.lists(st.text()))
def test_text_keys_are_equal_only_for_equal_tuples(left, right):
    assert (hashing.text_key(*left) == hashing.text_key(*right)) == (left == right)


def test_content_key_ignores_the_order_of_keys():
    assert hashing.content_key({"a": 1, "b": [2]}) == hashing.content_key({"b": [2], "a": 1})


def test_streams_are_the_same_for_a_name_and_differ_between_names():
    first = seeding.generator(1, "draws").integers(1 << 60, size=4)
    assert (first == seeding.generator(1, "draws").integers(1 << 60, size=4)).all()
    assert (first != seeding.generator(1, "fill").integers(1 << 60, size=4)).any()


def test_rows_are_drawn_by_seed_without_repeats():
    first, again = (seeding.rows_drawn(100, 10, 3, "x").tolist() for _ in range(2))
    assert first == again == sorted(set(first))
    assert seeding.rows_drawn(100, 10, 4, "x").tolist() != first
    assert seeding.rows_drawn(5, 10, 0, "x").tolist() == [0, 1, 2, 3, 4]


@given(st.lists(st.lists(st.integers(0, 9), unique=True), max_size=20), st.randoms())
def test_an_incidence_keeps_its_rows_through_disk_and_take(tmp_path_factory, rows, random):
    rows = [sorted(row) for row in rows]
    indptr = np.cumsum([0] + [len(row) for row in rows])
    flat = np.array([kind for row in rows for kind in row], dtype=np.int32)
    whole = incidence.Incidence(indptr.astype(np.int64), flat, flat + 1, 10)
    folder = tmp_path_factory.mktemp("incidence")
    ids = pa.array([f"{i:04}" for i in range(len(rows))], pa.string())
    kinds = pa.table({"kind": [str(k) for k in range(10)], "samples": [0] * 10})
    incidence.save(folder, whole, ids, kinds)
    stored = incidence.load(folder)
    assert incidence.load_ids(folder).to_pylist() == ids.to_pylist()
    order = random.sample(range(len(rows)), len(rows))
    taken = stored.take(np.array(order, dtype=np.int64))
    for place, row in enumerate(order):
        got = slice(taken.indptr[place], taken.indptr[place + 1])
        assert taken.indices[got].tolist() == rows[row]
        assert taken.counts[got].tolist() == [kind + 1 for kind in rows[row]]


def test_schema_check_names_what_lacks():
    with pytest.raises(DataError, match=r"select: input lacks id \(string\)"):
        schema.check(pa.table({"id": [1]}), schema.SAMPLES, "select")


def test_clock():
    assert [progress.clock(s) for s in (3, 200, 7500)] == ["3 s", "3 min 20 s", "2 h 05 min"]


def test_a_signal_stops_at_the_next_safe_point():
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        stopping.install()
        stopping.safe_point("embed")
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Interrupted, match="embed: stopped by SIGUSR1") as caught:
            stopping.safe_point("embed")
        assert caught.value.exit_code == 75
        assert stopping.received() == "SIGUSR1"
    finally:
        stopping._received.clear()
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGTERM, before[1])
        signal.signal(signal.SIGINT, interrupt)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2))))
def test_rows_are_counted_by_one_column_or_by_several(rows):
    names, numbers = ([row[i] for row in rows] for i in (0, 1))
    table = pa.table({"name": pa.array(names, pa.string()), "n": pa.array(numbers, pa.int64())})
    assert parquet.counts(table, "name") == Counter(names)
    assert list(parquet.counts(table, "name")) == list(dict.fromkeys(names))
    assert parquet.counts(table, "name", "n") == Counter(rows)


STEERING = "a\x1b[31m\x07\x9b1m\u202eb\r"
SHOWN = r"a\x1b[31m\x07\x9b1m\u202eb\r"


def test_no_text_of_data_steers_a_terminal():
    assert str(DataError(f"{STEERING}\n{STEERING}")) == rf"{SHOWN}\n{SHOWN}"
    assert cli._shown(f"{STEERING}\nplain") == f"{SHOWN}\nplain"
    said = cli._json({"text": STEERING})
    assert said.isprintable()
    assert json.loads(said) == {"text": STEERING}
