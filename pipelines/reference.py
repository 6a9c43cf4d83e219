"""Reference: corpus -> strategies -> fine-tune -> score -> one table.

    sftdiv run reference --config configs/reference/corpus-117k.yaml --out reference

Every run starts from the same base model and sees the same samples × epochs, so that only the data
differ. Run it again and finished steps are reused; add a run to the config and only it is made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core import resources
from sft_diversity.core.config import Config
from sft_diversity.core.folder import dump_json
from sft_diversity.core.progress import say
from sft_diversity.scoring.heldout import compare
from sft_diversity.scoring.stage import read_records
from sft_diversity.verbs import data, measuring, selecting, training


class Run(Config):
    """One row of the table; no `strategy` means the base model, not fine-tuned."""

    strategy: str | None = None
    diversity: float = 100.0
    seed: int = 0
    match_length: str | None = Field(
        default=None, description="name of the run whose lengths to match"
    )
    subset: str | None = Field(default=None, description="name of the run whose subset to train on")
    finetune: dict[str, Any] = Field(default={}, description="options on top of the shared ones")


class ReferenceConfig(Config):
    """Which corpus, how many samples, which runs."""

    ingest: str = Field(description="ingest config, relative to this file")
    size: int = Field(gt=0, description="samples in every subset")
    against: str = Field(description="name of the run that the others are compared with")
    select: dict[str, Any] = Field(
        default={}, description="options of `sftdiv select` for all runs, such as `tokenizer`"
    )
    finetune: dict[str, Any] = Field(
        default={}, description="options of `sftdiv finetune` for all runs"
    )
    score: str | None = Field(default=None, description="score config, relative to this file")
    runs: dict[str, Run]


def main(arguments: list[str] | None = None) -> None:
    """Make the corpus, then subset, model and scores of every run, then the table and a page."""
    parser = argparse.ArgumentParser(
        "sftdiv run reference", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--root", help="folder of the source files, instead of the config's")
    parser.add_argument("--eval-dir", help="folder of the evaluation sets, instead of the default")
    parser.add_argument("--dry-run", action="store_true", help="check all that is asked for; stop")
    asked = parser.parse_args(arguments)
    config = configs.load(asked.config, ReferenceConfig)
    corpus, here = asked.out / "corpus", asked.config.parent
    _check(config, asked.out)
    source = here / config.ingest
    data.ingest(out=corpus, config=source, root=asked.root, dry_run=asked.dry_run)
    if asked.dry_run:
        return
    _check(config, asked.out)  # sizes too
    rows = []
    for number, (name, run) in enumerate(config.runs.items(), start=1):
        say(f"== run {number} of {len(config.runs)}: {name}")
        rows.append({"run": name, **_one(name, run, config, asked)})
    _compare(rows, config.against, asked.out)
    (asked.out / "results.json").write_text(dump_json(rows), "utf-8")
    table = render(rows, config.against)
    (asked.out / "table.md").write_text(table, "utf-8")
    print(table)
    chosen = [run.subset or name for name, run in config.runs.items() if run.strategy or run.subset]
    if chosen:
        page, shown = asked.out / "report.html", [asked.out / "subsets" / c for c in chosen[-2:]]
        measuring.report(*shown, out=page, corpus=corpus, work=asked.out / "work")
        print(f"the last subsets, beside their corpus: open {page}")


def _check(config: ReferenceConfig, out: Path) -> None:
    """Refuse subsets and models that cannot be made, before any is."""
    chosen = {name: run for name, run in config.runs.items() if run.strategy is not None}
    subsets = {name: _options(run, config) for name, run in chosen.items()}
    selecting.check_subsets(out / "corpus", subsets, out=out / "subsets", work=out / "work")
    for run in config.runs.values():
        training.check_training(**config.finetune | run.finetune)


def _one(name: str, run: Run, config: ReferenceConfig, asked: argparse.Namespace) -> dict[str, Any]:
    """Select, fine-tune and score one run; return its row."""
    row: dict[str, Any] = {}
    model: Path | str = config.finetune.get("model") or resources.base_model()
    if run.strategy is not None or run.subset is not None:
        subset = asked.out / "subsets" / (run.subset or name)
        if run.subset is None:
            row["subset"] = _select(subset, run, config, asked.out)
        model = asked.out / "models" / name
        row["training"] = training.finetune(subset, out=model, **config.finetune | run.finetune)
    score = asked.config.parent / config.score if config.score else None
    row["scores"] = training.score(
        model, out=asked.out / "scores" / name, config=score, eval_dir=asked.eval_dir
    )
    return row


def _select(subset: Path, run: Run, config: ReferenceConfig, out: Path) -> dict[str, Any]:
    match = str(out / "subsets" / run.match_length) if run.match_length else None
    return selecting.select(
        out / "corpus",
        out=subset,
        work=out / "work",
        match_length=match,
        **_options(run, config),
    )


def _options(run: Run, config: ReferenceConfig) -> dict[str, Any]:
    return config.select | {
        "strategy": run.strategy,
        "size": config.size,
        "diversity": run.diversity,
        "seed": run.seed,
    }


def _compare(rows: list[dict[str, Any]], against: str, out: Path) -> None:
    """Add to each row its paired difference from the run `against`."""
    yardstick = read_records(out / "scores" / against)
    for row in rows:
        if row["run"] != against:
            records: pa.Table = read_records(out / "scores" / row["run"])
            row["difference"] = compare(yardstick, records)


def render(rows: list[dict[str, Any]], against: str) -> str:
    """Return the table and how to read it, as Markdown."""
    head = (
        "run", "kinds", "tokens instr / resp", "epochs", "steps", "response tokens",
        "first 64", f"vs {against} (95 %)", "short refs", "in-mix",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n" + _READING.format(against=against)


def _cells(row: dict[str, Any]) -> list[str]:
    subset, training = row.get("subset", {}), row.get("training", {})
    headline = row["scores"]["headline"]
    kinds = f"{subset['kinds_covered']:,}" if "kinds_covered" in subset else "–"
    lengths = (
        f"{subset['instruction_tokens']:.0f} / {subset['response_tokens']:.0f}" if subset else "–"
    )
    trained = [
        f"{training['epochs']:g}" if training else "–",
        f"{training['steps']:,}" if training else "–",
        f"{training['response_tokens']:,}" if training else "–",
    ]
    return [
        row["run"],
        kinds,
        lengths,
        *trained,
        _nll(headline["transfer_first64"]),
        _difference(row.get("difference")),
        _nll(headline["short_references"]),
        _nll(row["scores"]["in_mix"]),
    ]


def _nll(figure: dict[str, Any]) -> str:
    return f"{figure['nll_per_token']:.4f}" if figure["records"] else "–"


def _difference(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return "–"
    found = difference["transfer_first64"]
    return f"{found['nll_per_token']:+.4f} ({found['nll_low']:+.4f} to {found['nll_high']:+.4f})"


_READING = """
NLL per response token, lower is better. "First 64" and "short refs" are over prompts of other
origin than the corpus; "in-mix" has the corpus's own mix, where random is hard to beat by
construction. The interval is over evaluation prompts, paired with {against}: it does not contain
the chance of another draw or another training seed, so one row beside another is a hint, not a
finding.
"""


if __name__ == "__main__":
    main()
