"""Draw samples with their meso units, as the table of docs/meso-units.md (judgements by hand).

    python benchmarks/meso_draw.py CORPUS INDEX_INSTRUCTION INDEX_RESPONSE --seed 117 --samples 50

prints `samples` rows of each component; texts are quoted only from sources whose licence allows it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow.parquet as pq

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, incidence, seeding

#: Sources under MIT, Apache-2.0 or CC-BY-SA licences.
QUOTED = {
    "alpaca_en_demo", "dolly_3k", "flan_cot", "glaive_toolcall_en_demo",
    "gpteacher_codegen", "gpteacher_roleplay", "gpteacher_toolformer", "gsm8k_train",
    "t0_p3_per_template", "vicuna_identity_dummy",
}  # fmt: skip
_EXCERPT = 120


def excerpt(text: str) -> str:
    """Return the ends of a text on one line, at most 120 characters, safe inside a table."""
    flat = " ".join(text.split()).replace("|", "¦").replace("`", "'").replace("<", "‹")
    if len(flat) > _EXCERPT:
        flat = f"{flat[:70].rstrip()} … {flat[-44:].lstrip()}"
    return flat


def draw(corpus: Path, index: Path, seed: int, samples: int) -> list[str]:
    """Return table rows: number, source, excerpt, units."""
    component = folder.read_manifest(index, "index")["result"]["component"]
    stored = incidence.load(index)
    kinds = pq.read_table(index / "kinds.parquet")["kind"].to_pylist()
    table = corpora.read(corpus, ["source", component])
    rng = seeding.generator(seed, "meso-draw", component)
    rows = []
    for row in sorted(rng.choice(stored.n_samples, samples, replace=False).tolist()):
        units = [kinds[k] for k in stored.indices[stored.indptr[row] : stored.indptr[row + 1]]]
        source = table["source"][row].as_py()
        text = excerpt(table[component][row].as_py()) if source in QUOTED else "*(not quoted)*"
        rows.append(f"| {source} | {text} | {'; '.join(units) or '—'} |")
    return rows


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("index", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=117)
    parser.add_argument("--samples", type=int, default=50)
    chosen = parser.parse_args()
    for index in chosen.index:
        print("\n".join(draw(chosen.corpus, index, chosen.seed, chosen.samples)), end="\n\n")


if __name__ == "__main__":
    main()
