"""What a verdict says of figures made by hand, and what it must not say of them."""

from __future__ import annotations

import pytest

from sft_diversity.fitting.claims import claims, judge_claims
from sft_diversity.fitting.config import FitConfig
from sft_diversity.fitting.headline import headlines
from sft_diversity.fitting.show import fitted
from sft_diversity.fitting.verdict import verdict_sentences

PLACE = {"regime": "B", "size": 10_000}
CONFIG = FitConfig()


def contrast(difference, p, level=100.0, other=67.0):
    """A difference of two levels."""
    return {
        "level": level, "other": other, "difference": difference, "low": difference - 0.01,
        "high": difference + 0.01, "df": 8, "p": p,
    }  # fmt: skip


def slope(strategy, change, p, **more):
    """A strategy whose line changes by `change` over the dial, ± 0.05."""
    per = change / 100
    row = PLACE | {
        "strategy": strategy, "levels": [0.0, 33.0, 67.0, 100.0], "slope": per, "p": p,
        "ci_low": per - 5e-4, "ci_high": per + 5e-4, "ci_kind": "t", "t_df": 2, "pearson_r": 0.9,
        "spearman_r": 0.8, "points": [{"mean": i, "draws": 3} for i in range(4)],
        "best_level": 100.0, "best_level_share": {"67": 0.4, "100": 0.6}, "published": None,
        "ends": None, "curvature": None, "best_margin": None,
    }  # fmt: skip
    return row | more


def against(strategy, difference, p, baseline="random", chosen="best", level=100.0):
    """A strategy less a baseline."""
    return PLACE | contrast(difference, p, level) | {
        "strategy": strategy, "baseline": baseline, "chosen": chosen,
    }  # fmt: skip


def metric(name, r, p, strategy="m"):
    """A correlation with the score."""
    return PLACE | {"strategy": strategy, "metric": name, "r": r, "p": p}


def judged(slopes=(), baselines=(), metrics=(), config=CONFIG):
    """A result with its p-values corrected."""
    result = {
        "slopes": list(slopes), "baselines": list(baselines), "metrics": list(metrics),
        "training_noise": [], "notes": [], "score": "score", "score_kind": "accuracy; on what",
        "correction": config.correction, "confidence": config.confidence,
    }  # fmt: skip
    judge_claims(result, config)
    result["rests_on"] = {"sentence": "On what this rests."}
    result["headlines"], result["verdict"] = headlines(result), verdict_sentences(result)
    return result


def answer(*args, **more):
    (line,) = judged(*args, **more)["headlines"]
    return line


PAYS = [slope("m", 0.3, 1e-4), slope("n", -0.01, 0.8)]


def test_what_pays_opens_with_how_much_how_sure_and_where_random_stands():
    beside = [against("m", 0.04, 0.002), against("n", -0.01, 0.5)]
    result = judged(PAYS, beside)
    assert result["verdict"][0] == result["headlines"][0]
    assert result["headlines"] == [
        "Regime B, N = 10,000: with lengths held, the diversity of m pays: the score (accuracy) "
        "rises by +0.3 from 0 to 100 % (95 % interval +0.25 to +0.35, corrected p < 0.001); m at "
        "100 % (+0.04, 95 % interval +0.03 to +0.05, corrected p 0.004) is above random."
    ]


def test_what_pays_and_is_not_above_random_says_so():
    said = answer(PAYS, [against("m", 0.04, 0.04), against("n", -0.01, 0.5)])
    assert "is above random" not in said
    assert said.endswith(
        "m at 100 % (+0.04, 95 % interval +0.03 to +0.05, corrected p 0.080) is not "
        "distinguishable from random."
    )


def test_where_nothing_pays_the_largest_slope_is_named_and_not_claimed():
    rows = [slope("m", 0.04, 0.2), slope("n", -0.3, 0.06)]
    assert answer(rows, [against("m", 0.04, 0.4), against("n", 0.02, 0.5)]) == (
        "Regime B, N = 10,000: with lengths held, no strategy's diversity is shown to pay (score: "
        "accuracy): the largest slope, that of m, is +0.04 from 0 to 100 % (95 % interval −0.01 to "
        "+0.09, corrected p 0.200); no strategy's best level is distinguishable from random."
    )


def test_ends_that_differ_where_no_slope_does_are_said_at_once():
    rows = [slope("m", 0.04, 0.2, ends=contrast(0.3, 1e-5, other=0.0)), slope("n", 0.0, 0.9)]
    assert answer(rows, [against("m", 0.02, 0.4)]).endswith(
        " But m at 100 % is above its own 0 % by +0.3 (95 % interval +0.29 to +0.31, corrected p "
        "< 0.001)."
    )


def test_two_that_pay_are_not_ranked():
    said = answer([slope("m", 0.3, 1e-4), slope("n", 0.2, 1e-4)], [])
    assert "the diversity of m and n pays: the score (accuracy) rises by +0.3 from" in said
    assert "corrected p < 0.001) for m, by +0.2 from" in said
    assert "which of them pays more is not tested" in said
    assert "whether any level is above random cannot be said" in said


def test_a_falling_slope_costs_and_never_pays():
    said = answer([slope("m", -0.3, 1e-4), slope("n", 0.01, 0.9)], [against("m", -0.2, 1e-4)])
    assert "no strategy's diversity is shown to pay" in said
    assert "the largest slope, that of n, is +0.01" in said
    assert "with the diversity of m the score falls by −0.3 from 0 to 100 %" in said
    assert (
        "m at 100 % (−0.2, 95 % interval −0.21 to −0.19, corrected p < 0.001) is below random"
        in said
    )


def sentences(result):
    """What follows the headline, without the regime and size before it."""
    return [said.removeprefix("Regime B, N = 10,000: ") for said in result["verdict"][1:]]


def test_every_side_reads_forwards():
    rows = [
        against("m", 0.04, 1e-4, chosen="highest"),
        against("n", -0.04, 1e-4, chosen="highest"),
        against("o", 0.01, 0.5, chosen="highest"),
        against("longest", 0.1, 1e-4, chosen="only"),
        against("m", -0.1, 1e-4, baseline="longest", chosen="highest"),
    ]
    assert sentences(judged(PAYS, rows))[-3:] == [
        "m (+0.04) is above random; n (−0.04) is below random; o (+0.01) is not distinguishable "
        "from random, at the highest level.",
        "longest (+0.1) is above random.",
        "m (−0.1) is below longest, at the highest level.",
    ]


def table_of(kind, p, others=0):
    """A table whose first figure of a kind has a p-value; `others` more have 0.9."""
    kinds = {
        "slope": lambda name, p: {"slopes": [slope(name, 0.3, p)]},
        "ends differ": lambda name, p: {"slopes": [slope(name, 0, 1, ends=contrast(0.3, p))]},
        "no line": lambda name, p: {
            "slopes": [slope(name, 0, 1, curvature={"test": "lack of fit", "p": p})]
        },
        "best level clear": lambda name, p: {
            "slopes": [slope(name, 0, 1, best_margin=contrast(0.3, p))]
        },
        "against random, best": lambda name, p: {"baselines": [against(name, 0.3, p)]},
        "against random, highest": lambda name, p: {
            "baselines": [against(name, 0.3, p, chosen="highest")]
        },
        "against base, highest": lambda name, p: {
            "baselines": [against(name, 0.3, p, "base", "highest")]
        },
        "metric, within": lambda name, p: {"metrics": [metric(name, 0.9, p)]},
        "metric, pooled": lambda name, p: {"metrics": [metric(name, 0.9, p, "pooled")]},
    }  # fmt: skip
    found = {"slopes": [] if kind in ("slope", "ends differ", "no line", "best level clear") else [
        slope("z", 0, 1)]}  # fmt: skip
    for i in range(1 + others):
        for name, rows in kinds[kind]("abcdef"[i], 0.9 if i else p).items():
            found.setdefault(name, []).extend(rows)
    return found


SAYS = {
    "slope": "the diversity of a pays",
    "ends differ": "a at 100 % is above its own 67 % by +0.3",
    "no line": "a departs from a line (lack of fit, corrected p 0.",
    "best level clear": "the best level is clear for a 100 % (+0.3 above 67 %, corrected p 0.",
    "against random, best": "a (+0.3) is above random",
    "against random, highest": "a (+0.3) is above random",
    "against base, highest": "a (+0.3) is above base",
    "metric, within": "survive the correction: strongest a of m (+0.90)",
    "metric, pooled": "survive the correction: strongest a (+0.90)",
}


@pytest.mark.parametrize("kind", SAYS)
@pytest.mark.parametrize(
    ("p", "others", "confidence", "is_claimed"),
    [
        (0.0499, 0, 0.95, True),
        (0.0501, 0, 0.95, False),
        (0.0166, 2, 0.95, True),  # 0.0498 after Holm
        (0.0167, 2, 0.95, False),  # 0.0501 after Holm
        (0.0999, 0, 0.9, True),
        (0.0499, 0, 0.99, False),
    ],
)
def test_a_claim_stands_on_its_corrected_p_alone(kind, p, others, confidence, is_claimed):
    result = judged(**table_of(kind, p, others), config=FitConfig(confidence=confidence))
    assert [one["kind"] for one in claims(result)] == [kind] * is_claimed
    assert (SAYS[kind] in " ".join(result["verdict"])) == is_claimed


def test_families_are_those_of_a_regime_and_a_kind():
    rows = [slope("a", 0.3, 0.03), slope("b", 0.3, 0.03) | {"regime": "A"}]
    beside = [against("a", 0.3, 0.03), against("a", 0.3, 0.03, baseline="base")]
    assert len(claims(judged(rows, beside))) == 4
    assert not claims(judged([rows[0], slope("b", 0.3, 0.03)]))


def test_a_slope_whose_wider_interval_holds_0_is_not_claimed():
    wide = slope("a", 0.3, 1e-4, ci_low=-1e-4, ci_kind="bootstrap")
    assert "no strategy's diversity is shown to pay" in answer([wide])
    low = slope("a", -0.3, 1e-4, ci_high=1e-4)
    assert "falls" not in answer([low])


def test_marks_of_tables_are_those_of_the_verdict():
    rows = [
        slope("some", 0.3, 1e-4, best_margin=contrast(0.1, 1e-4)),
        slope("none", 0.3, 0.06, best_margin=contrast(0.1, 0.06)),
    ]
    beside = [against("some", 0.3, 1e-4), against("none", 0.3, 0.06)]
    text = fitted(judged(rows, beside, [metric("x", 0.9, 1e-4), metric("y", 0.9, 0.06)]))
    lines = [line for line in text.splitlines() if line.split(" ")[0] in ("some", "none", "x", "y")]
    assert [line.count("*") for line in lines] == [2, 0, 1, 0, 1, 0]
    assert text.startswith("Regime B, N = 10,000: with lengths held, the diversity of some pays")
