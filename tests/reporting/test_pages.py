"""What pages hold: safe text, no request, figures equal to those counted by hand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest

from sft_diversity.core import corpus as corpora
from sft_diversity.levels.tokenizing import load_tokenizer
from sft_diversity.reporting.page import embedded, page_html
from tests.reporting import making
from tests.reporting.conftest import DATA, PAGE

SORTS = ("subset", "comparison", "study", "corpus")


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.styles, self._in = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in = (tag, dict(attrs))

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in:
            kept = self.styles if self._in[0] == "style" else self.scripts
            kept.append((self._in[1].get("type"), data))


@pytest.mark.parametrize("sort", SORTS)
def test_texts_of_the_data_stay_text(pages, sort):
    found = Tags((pages / sort / PAGE).read_text())
    names = {tag for tag, _ in found.tags}
    assert not names & {"img", "b", "iframe", "link", "object", "form", "base"}
    assert not [a for _, attrs in found.tags for a in attrs if a.startswith("on") or a == "style"]
    assert len([1 for kind, _ in found.scripts if kind is None]) == 1
    if sort != "corpus":
        assert "&lt;/script&gt;" in (pages / sort / PAGE).read_text()


@pytest.mark.parametrize("sort", SORTS)
def test_the_policy_names_just_the_style_and_script_that_are_there(pages, sort):
    found = Tags((pages / sort / PAGE).read_text())
    policy = next(a["content"] for tag, a in found.tags if "http-equiv" in a)
    code = [text for kind, text in found.scripts if kind is None] + [found.styles[0][1]]
    for text in code:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert policy.count("sha256-") == 2


@pytest.mark.parametrize("sort", SORTS)
def test_nothing_on_a_page_is_loaded_from_elsewhere(pages, sort):
    found = Tags((pages / sort / PAGE).read_text())
    for tag, attrs in found.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attrs.get(name, "#").startswith("#"), (tag, attrs)
    assert "url(" not in found.styles[0][1]
    assert (pages / sort / PAGE).stat().st_size < 5_000_000


@pytest.mark.parametrize("sort", SORTS)
def test_every_link_leads_to_a_part_of_the_page_and_ids_are_there_once(pages, sort):
    found = Tags((pages / sort / PAGE).read_text())
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for tag, attrs in found.tags if tag == "a"]
    assert {link[1:] for link in links} <= set(ids)


@pytest.mark.parametrize("sort", SORTS)
def test_every_picture_has_a_name_or_is_told_by_the_table_it_stands_in(pages, sort):
    found = Tags((pages / sort / PAGE).read_text())
    for tag, attrs in found.tags:
        if tag == "svg":
            assert attrs.get("aria-hidden") == "true" or attrs.get("aria-label")


def test_embedded_json_cannot_end_its_element_and_reads_back():
    value = {"a": making.NASTY, "b": ["<!--", "]]>", "\u2028", "&amp;", "é"]}
    text = str(embedded(value))
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == value


@pytest.mark.parametrize("sort", SORTS)
def test_a_page_is_made_of_its_data_alone(pages, sort):
    page = json.loads((pages / sort / DATA).read_text())
    assert page_html(page) == (pages / sort / PAGE).read_text()


def test_shares_of_kinds_and_lengths_are_those_counted_by_hand(made, pages, tokenizer):
    page = json.loads((pages / "subset" / DATA).read_text())
    kinds = page["kinds"][0]
    assert kinds["strategy"] == "micro-response"  # its own comes first
    assert kinds["held"] == kinds["total"] == making.KINDS  # rows 0 to 59 hold each kind five times
    assert kinds["evenness"] == 1.0
    assert [r for r in kinds["per_kind"] if r["kinds"]] == [{"samples": "4–7", "kinds": 12}]
    whole = corpora.read(made["corpus"])["response"].to_pylist()
    begins = load_tokenizer(str(tokenizer)).encode(whole)[1]
    tokens = np.diff(begins).tolist()
    facts = page["lengths"]["response"]
    assert facts["mean"] == pytest.approx(np.mean(tokens[:60]), abs=1e-3)
    assert facts["corpus_mean"] == pytest.approx(np.mean(tokens), abs=1e-3)
    assert sum(facts["subset"]) == pytest.approx(1, abs=1e-4)


def test_a_comparison_counts_what_two_subsets_share(pages):
    page = json.loads((pages / "comparison" / DATA).read_text())
    one, two = set(range(60)), set(range(40, 240, 2))
    assert page["overlap"]["both"] == len(one & two)
    assert page["overlap"]["only_second"] == len(two - one)
    assert page["overlap"]["jaccard"] == pytest.approx(len(one & two) / len(one | two), abs=1e-6)
    # Even rows alone hold even kinds alone.
    assert page["kinds"][0]["only_first"] == making.KINDS // 2
    groups = {group["title"]: group["samples"] for group in page["samples"]}
    assert len(groups["In both"]) == len(one & two)


def test_samples_that_were_not_picked_are_not_in_the_subset(made, pages):
    page = json.loads((pages / "subset" / DATA).read_text())
    groups = {group["title"]: group["samples"] for group in page["samples"]}
    own = set(pq.read_table(made["one"] / "samples")["id"].to_pylist())
    assert {sample["id"] for sample in groups["Picked"]} <= own
    assert not {sample["id"] for sample in groups["Not picked"]} & own


def test_a_study_shows_each_score_and_the_verdict_of_regime_b_first(pages):
    text = (pages / "study" / PAGE).read_text()
    page = json.loads((pages / "study" / DATA).read_text())
    assert page["regime"] == "B"
    (answer,) = (said for said in page["fit"]["headlines"] if said.startswith("Regime B"))
    assert answer == page["fit"]["verdict"][0]
    opening = text[text.index('id="verdict"') : text.index("<table>")]
    assert [unescape(said) for said in re.findall(r'<p class="lead">(.*?)</p>', opening)] == [
        answer,
        page["fit"]["rests_on"]["sentence"],
    ]
    assert unescape(text).count(answer) == 1  # the rest is the rest
    for i, row in enumerate(page["fit"]["slopes"]):
        row["claimed"] = i == 1
    assert (
        page_html(page).count('<td class="differ">') == 1
    )  # what is claimed, whatever its interval
    dots = re.findall(r"<title>draw: ", text)
    assert len(dots) == 2 * 24  # once on the common scale, once on its own
    assert "KKT gap" in text
    assert "A-longest-n40-s0-t0" in text  # failed, and said so
