"""The meso level's phrases beside scikit-learn's n-grams by TF-IDF, judged blind.

    python benchmarks/phrases_vs_ngrams.py sheet CORPUS INDEX FOLDER   # INDEX: of meso-instruction
    python benchmarks/phrases_vs_ngrams.py join FOLDER
    python benchmarks/phrases_vs_ngrams.py score

`sheet` fits the n-grams on the whole corpus, draws 100 samples, and writes to FOLDER the key
(`key.json`: who gave which unit) and two blind sheets, `first.txt` and `second.txt`: for each
sample its text and the units of both, each unit once, in another order of samples and units. The
judge writes `first.csv` and `second.csv` (`place,unit,right`: the numbers that stand in the sheet,
and 1 or 0). `join` joins them with the key: the judged sheet in `judgments/`, with texts of sources
whose licence allows it. `score` reads that sheet alone: precision with the paired gain.

Criterion, fixed before the sheets were drawn: 1 if the unit names a topic of the instruction (or of
the material that it gives to work on), its task, or a requirement, so that a person could write it
down as a tag of this instruction as it stands; case, inflection and missing small words ("history
Rome") are no fault where the meaning is plain at a glance. 0 if it is mentioned in passing, part of
a name or phrase that alone says something else or nothing, words that do not belong together,
function words, a word so general that it would fit any instruction (way, thing, answer, given), or
a choice of a list that is neither the answer nor the topic. Of texts above 2,500 characters the
sheet has the first 1,800 and the last 700.

Equal coverage: of a sample both give as many units as the phrases do. The n-grams' are the first of
their ranking; where units that share words were passed over and too few are left, those fill up;
where there are still too few, as many of the phrases' are left out by lot. A unit that both give
stands once and counts for both. A unit counts as right by the mean of its two judgments; the
interval is the 95 % percentile bootstrap of the difference of the two precisions over samples.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import resource
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from meso_draw import QUOTED, excerpt
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from sft_diversity.core import corpus as corpora
from sft_diversity.core import incidence, seeding
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.embedding.texts import text_encoder
from sft_diversity.levels.choosing import pick_per_sample
from sft_diversity.levels.merging import merge_to_leaders
from sft_diversity.levels.meso import MesoOptions

SEED, SAMPLES, RESAMPLES = 117, 100, 10_000
RESULTS = Path(__file__).parent / "results" / "phrases_vs_ngrams.json"
JUDGED = Path(__file__).parent / "judgments" / "phrases_vs_ngrams.csv"
#: Letters first: numbers alone name nothing. No n-gram crosses a mark or a line's end.
_TOKEN, _MARKS = r"(?u)\b[^\W\d_]\w+\b", re.compile(r"[^\w\s'’-]+|\n+")
_ARMS = ("phrases", "ngrams")
_SHEETS = ("first", "second")


class Ngrams:
    """The other extractor: 1- to 3-grams without English stop words, best by TF-IDF.

    Bounds, most units a sample, merging and the rule against units that share words are those of
    the phrases (`MesoOptions`); what differs is which n-grams there are and what they are worth.
    Chosen on 48 other samples, among n-grams across marks or not, and plain or sublinear counts.
    """

    def __init__(self, texts: Sequence[str], options: MesoOptions) -> None:
        inner = CountVectorizer(ngram_range=(1, 3), stop_words="english", token_pattern=_TOKEN)
        analyze = inner.build_analyzer()
        least, most = options.bounds(len(texts))
        vectorizer = CountVectorizer(
            analyzer=lambda text: [g for piece in _MARKS.split(text) for g in analyze(piece)],
            min_df=least,
            max_df=most,
            dtype=np.int32,
        )
        worth = TfidfTransformer().fit_transform(vectorizer.fit_transform(texts)).tocoo()
        self.names = vectorizer.get_feature_names_out().tolist()
        words: dict[str, int] = {}
        split = [[words.setdefault(w, len(words)) for w in name.split()] for name in self.names]
        self._words = np.array([row + [-1] * (3 - len(row)) for row in split], dtype=np.int32)
        order = np.lexsort((worth.col, worth.row))
        self._rows, self._units = worth.row[order], worth.col[order]
        longer = 1e-9 * (self._words >= 0).sum(
            axis=1
        )  # of equal worth the longer n-gram goes first
        self._worth = worth.data[order] + longer[self._units]
        self._options, self._least = options, least
        self._kind_of = np.arange(len(self.names), dtype=np.int32)

    def _pick(self) -> npt.NDArray[np.bool_]:
        alive = self._kind_of[self._units] >= 0
        picked: npt.NDArray[np.bool_] = pick_per_sample(
            self._rows,
            self._units,
            np.where(alive, self._worth, 0.0),
            self._words,
            self._kind_of,
            self._options.max_units,
            0.0,
        )
        return picked

    def settle(self) -> None:
        """Merge near-synonyms, and leave what too few samples choose."""
        encode = text_encoder(EmbedConfig()).load()
        usage = np.bincount(self._units[self._pick()], minlength=len(self.names))
        standing = np.flatnonzero(usage >= self._least)
        vectors = encode([self.names[i] for i in standing.tolist()])
        leaders = merge_to_leaders(vectors, usage[standing], self._options.threshold)
        self._kind_of[:] = -1
        self._kind_of[standing] = standing[leaders]
        for _ in range(2):
            kinds = self._kind_of[self._units[self._pick()]]
            rare = np.bincount(kinds, minlength=len(self.names)) < self._least
            self._kind_of[rare[np.maximum(self._kind_of, 0)]] = -1

    def ranked(self) -> dict[int, list[str]]:
        """Return for each row its kinds, the picked ones first, then what was passed over."""
        picked = self._pick() & (self._kind_of[self._units] >= 0)
        self.per_sample = float(picked.sum()) / (int(self._rows.max()) + 1)
        found: dict[int, list[str]] = {}
        alive = np.flatnonzero(self._kind_of[self._units] >= 0)
        order = alive[np.lexsort((-self._worth[alive], ~picked[alive], self._rows[alive]))]
        for row, unit in zip(self._rows[order].tolist(), self._units[order].tolist(), strict=True):
            name = self.names[self._kind_of[unit]]
            if name not in (held := found.setdefault(row, [])):
                held.append(name)
        return found


def draw(sources: Sequence[str]) -> list[int]:
    """Return 100 rows, of each source its share of the corpus (largest remainders)."""
    counts = Counter(sources)
    exact = {name: SAMPLES * many / len(sources) for name, many in counts.items()}
    share = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (share[name] - exact[name], name))
    for name in by_remainder[: SAMPLES - sum(share.values())]:
        share[name] += 1
    rows: list[int] = []
    for name in sorted(share):
        own = np.flatnonzero([source == name for source in sources])
        rng = seeding.generator(SEED, "phrases-vs-ngrams", name)
        rows += rng.choice(own, share[name], replace=False).tolist()
    return sorted(rows)


def make_sheet(corpus: Path, index: Path, out: Path) -> None:
    """Write the key and the two blind sheets."""
    table = corpora.read(corpus, ["id", "source", "instruction"])
    texts = table["instruction"].to_pylist()
    began = time.perf_counter()
    ngrams = Ngrams(texts, MesoOptions())
    ngrams.settle()
    ranked = ngrams.ranked()
    cost = {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "units_per_sample_uncut": round(ngrams.per_sample, 2),
        "samples_without_unit_uncut": len(texts) - len(ranked),
    }
    stored = incidence.load(index)
    kinds = pq.read_table(index / "kinds.parquet")["kind"].to_pylist()
    rng = seeding.generator(SEED, "phrases-vs-ngrams", "lot")
    samples = []
    for row in draw(table["source"].to_pylist()):
        phrases = [kinds[k] for k in stored.indices[stored.indptr[row] : stored.indptr[row + 1]]]
        others = ranked.get(row, [])[: len(phrases)]
        left = sorted(rng.choice(len(phrases), len(others), replace=False).tolist())
        samples.append(
            {
                "id": table["id"][row].as_py(),
                "source": table["source"][row].as_py(),
                "text": texts[row],
                "phrases_uncut": len(phrases),
                "phrases": [phrases[i] for i in left],
                "ngrams": others,
            }
        )
    out.mkdir(parents=True, exist_ok=True)
    key: dict[str, Any] = {"cost": cost, "samples": samples}
    for sheet in ("first", "second"):
        order = seeding.generator(SEED, sheet, "samples").permutation(SAMPLES).tolist()
        key[sheet] = []
        lines = []
        for place, number in enumerate(order, 1):
            units = _union(samples[number])
            shuffled = seeding.generator(SEED, sheet, place).permutation(len(units)).tolist()
            key[sheet].append({"sample": number, "units": [units[i] for i in shuffled]})
            lines.append(f"## {place}\n{_shown(samples[number]['text'])}")
            lines += [f"  {place},{i}: {units[j]}" for i, j in enumerate(shuffled, 1)]
        (out / f"{sheet}.txt").write_text("\n".join(lines) + "\n")
    (out / "key.json").write_text(json.dumps(key))


def _union(sample: dict[str, Any]) -> list[str]:
    return sorted({*sample["phrases"], *sample["ngrams"]})


def _shown(text: str) -> str:
    return text if len(text) <= 2_500 else f"{text[:1_800]}\n[…]\n{text[-700:]}"


def join(folder: Path) -> None:
    """Join the judgments with the key; write the judged sheet."""
    key = json.loads((folder / "key.json").read_text())
    judged = {sheet: _judgments(folder / f"{sheet}.csv", key[sheet]) for sheet in _SHEETS}
    rows = [
        {
            "sample": number + 1,
            "id": sample["id"],
            "source": sample["source"],
            "text": excerpt(sample["text"]) if sample["source"] in QUOTED and not i else "",
            "unit": unit,
            **{arm: int(unit in sample[arm]) for arm in _ARMS},
            **{sheet: judged[sheet][number, unit] for sheet in _SHEETS},
        }
        for number, sample in enumerate(key["samples"])
        for i, unit in enumerate(_union(sample))  # the text stands in a sample's first row
    ]
    JUDGED.parent.mkdir(exist_ok=True)
    with JUDGED.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _judgments(path: Path, places: list[dict[str, Any]]) -> dict[tuple[int, str], int]:
    with path.open() as handle:
        given = {(int(r["place"]), int(r["unit"])): int(r["right"]) for r in csv.DictReader(handle)}
    wanted = {
        (place, i): (held["sample"], unit)
        for place, held in enumerate(places, 1)
        for i, unit in enumerate(held["units"], 1)
    }
    if given.keys() != wanted.keys():
        raise SystemExit(f"{path}: lacks or has too many of {given.keys() ^ wanted.keys()}")
    return {wanted[place]: right for place, right in given.items()}


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return precision of both, their difference with its interval, and the judges' agreement."""
    first, second = (np.array([int(r[sheet]) for r in rows]) for sheet in _SHEETS)
    held = {arm: np.array([int(r[arm]) for r in rows]) for arm in _ARMS}
    sample = np.array([int(r["sample"]) for r in rows]) - 1
    agree = float((first == second).mean())
    chance = sum(float((first == v).mean() * (second == v).mean()) for v in (0, 1))
    single = np.array([" " not in r["unit"] for r in rows])
    judgments = {"mean": (first + second) / 2, "first": first, "second": second}
    return {
        "samples": SAMPLES,
        "samples_with_units": len(np.unique(sample)),
        "units_judged": len(rows),
        "units_of_each": int(held["phrases"].sum()),
        "units_of_both": int((held["phrases"] * held["ngrams"]).sum()),
        "agreement": round(agree, 4),
        "cohens_kappa": round((agree - chance) / (1 - chance), 4),
        **{name: _precision(held, right, sample) for name, right in judgments.items()},
        "units_of_one_word": _precision(
            {arm: own * single for arm, own in held.items()}, judgments["mean"], sample
        ),
        "by_words": _by_words(rows, held, judgments["mean"]),
    }


def _by_words(
    rows: Sequence[dict[str, Any]], held: dict[str, npt.NDArray[Any]], right: npt.NDArray[Any]
) -> dict[str, dict[str, Any]]:
    """Return units and share right of both, by how many words a unit has."""
    words = np.array([len(r["unit"].split()) for r in rows])
    return {
        str(n): {
            arm: {"units": int(own.sum()), "right": round(float(right[own].mean()), 4)}
            for arm in _ARMS
            if (own := (words == n) & (held[arm] == 1)).any()
        }
        for n in np.unique(words).tolist()
    }


def _precision(
    held: dict[str, npt.NDArray[Any]], right: npt.NDArray[Any], sample: npt.NDArray[Any]
) -> dict[str, Any]:
    """Return both precisions and the interval of the gain: samples are drawn, with all units."""
    drawn = seeding.generator(SEED, "bootstrap").integers(SAMPLES, size=(RESAMPLES, SAMPLES))
    share, resampled = {}, {}
    for arm in _ARMS:
        many = np.bincount(sample, held[arm], SAMPLES)
        good = np.bincount(sample, held[arm] * right, SAMPLES)
        share[arm] = good.sum() / many.sum()
        resampled[arm] = good[drawn].sum(axis=1) / many[drawn].sum(axis=1)
    gain = resampled["phrases"] - resampled["ngrams"]
    return {
        **{arm: round(float(share[arm]), 4) for arm in _ARMS},
        "gain": round(float(share["phrases"] - share["ngrams"]), 4),
        "interval": [round(float(x), 4) for x in np.quantile(gain, (0.025, 0.975))],
    }


def score() -> None:
    """Print and keep the figures of the judged sheet."""
    with JUDGED.open(newline="") as handle:
        written = json.dumps(figures(list(csv.DictReader(handle))), indent=1)
    RESULTS.write_text(f"{written}\n")
    print(written)


def main() -> None:
    """Make the sheets, join them with the key, or score what was judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("sheet", "join", "score"))
    parser.add_argument("paths", type=Path, nargs="*")
    chosen = parser.parse_args()
    if chosen.step == "sheet":
        make_sheet(*chosen.paths)
    elif chosen.step == "join":
        join(*chosen.paths)
    else:
        score()


if __name__ == "__main__":
    main()
