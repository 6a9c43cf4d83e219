"""Texts that a spreadsheet would take for formulas."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core.spreadsheet import quoted, unquoted

TEXTS = st.text(st.sampled_from("=+-@\t\r'a1.\n\" ,;"), max_size=6)


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r="])
def test_a_formula_becomes_a_text(text):
    assert quoted(text) == "'" + text


@pytest.mark.parametrize("value", [-1.5, 3, None, True, "-1.5", "+3e-7", "-inf", "a=b", "", "'a"])
def test_numbers_and_other_texts_are_left_alone(value):
    assert quoted(value) is value


@given(TEXTS)
def test_every_text_comes_back_and_none_begins_a_formula(text):
    written = io.StringIO()
    csv.writer(written).writerow(["x", quoted(text)])
    read = next(csv.reader(io.StringIO(written.getvalue(), newline="")))[1]
    assert unquoted(read) == text
    if read[:1] in ("=", "+", "-", "@", "\t", "\r"):
        float(read)
