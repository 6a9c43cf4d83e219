"""The steps from tags to kinds, against plain loops over sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.levels.tag_steps import (
    applied,
    association_step,
    floor_step,
    gather,
    lexical_step,
    normal_form,
    report,
)
from sft_diversity.levels.words import lemmatizer

HELD = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=5, unique=True), max_size=30)


def as_sets(tags):
    found = [set() for _ in range(tags.n_rows)]
    for row, tag in zip(tags.rows.tolist(), tags.tags.tolist(), strict=True):
        found[row].add(tags.names[tag])
    return found


@given(held=HELD)
def test_gathering_loses_nothing(held):
    tags = gather(held)
    assert as_sets(tags) == [set(one) for one in held]
    assert tags.samples().tolist() == [sum(n in one for one in held) for n in tags.names]


@given(held=HELD, least=st.integers(1, 5))
def test_the_floor_keeps_tags_that_enough_samples_hold(held, least):
    tags = gather(held)
    left = applied(tags, floor_step(tags, least))
    count = {name: sum(name in one for one in held) for name in "abcdefg"}
    assert as_sets(left) == [{n for n in one if count[n] >= least} for one in held]


def test_case_signs_and_inflection_are_no_difference():
    lemma = lemmatizer("en")
    same = [
        "Data Analysis",
        "data-analysis",
        "data_analyses",
        " DATA  analysis!",
        "ｄａｔａ analysis",
    ]
    assert {normal_form(tag, lemma) for tag in same} == {"data analysis"}
    languages = ["c", "C++", "c#", "F#", "notepad++"]
    assert len({normal_form(tag, lemma) for tag in languages}) == len(languages)
    assert normal_form("C++", lemma) == normal_form("c++ ", lemma) == "c++"
    assert normal_form("!?", lemma) == ""
    assert normal_form("数据 分析", lemmatizer("none")) == "数据 分析"


def test_the_most_frequent_spelling_stands_and_signs_alone_are_nothing():
    tags = gather([["Cats", "??"], ["cat"], ["cat"], ["Cats", "cat"], ["dog"]])
    stands = lexical_step(tags, lemmatizer("en"))
    assert as_sets(applied(tags, stands)) == [{"cat"}, {"cat"}, {"cat"}, {"cat"}, {"dog"}]
    said = report("lexical", tags, stands)
    assert (said["before"], said["after"], said["merged"], said["dropped"]) == (4, 2, 1, 1)
    assert said["merged_examples"] == ["Cats (2) -> cat"]
    assert said["dropped_examples"] == ["?? (1)"]
    assert said["samples_with_a_tag"] == 5


def plain_association(held, support, confidence):
    """The same by sets: find rules, follow each to its end, merge, until there are none."""
    held = [set(one) for one in held]
    while True:
        names = sorted(set().union(*held))
        count = {n: sum(n in one for one in held) for n in names}
        rule = {}
        for a in names:
            fit = []
            for b in names:
                both = sum(a in one and b in one for one in held)
                above = (-count[b], b) < (-count[a], a)
                if above and both >= support and both / count[a] >= confidence:
                    fit.append((-both / count[a], -count[b], b))
            if fit:
                rule[a] = min(fit)[2]
        if not rule:
            return held

        def end(name, rule=rule):
            return end(rule[name]) if name in rule else name

        held = [{end(n) for n in one} for one in held]


@given(held=HELD, support=st.integers(1, 4), confidence=st.sampled_from([0.5, 0.75, 0.99, 1.0]))
def test_association_is_that_of_plain_loops(held, support, confidence):
    tags = gather(held)
    stands = association_step(tags, support, confidence)
    assert as_sets(applied(tags, stands)) == plain_association(held, support, confidence)
    assert (stands[stands] == stands).all()


def test_a_tag_that_never_stands_alone_joins_the_other():
    held = [["maths", "algebra"]] * 5 + [["maths"]] * 5 + [["poetry", "maths"]] * 2
    tags = gather(held)
    stands = association_step(tags, 4, 0.99)
    assert [tags.names[i] for i in stands.tolist()] == ["maths", "maths", "poetry"]
    assert (association_step(tags, 6, 0.99) == np.arange(3)).all(), "too few samples hold both"
