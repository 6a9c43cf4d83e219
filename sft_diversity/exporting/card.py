"""The dataset card: metadata for the Hub and `datasets`, figures and lineage for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from sft_diversity.core import lineage
from sft_diversity.exporting.licences import identifier
from sft_diversity.exporting.rows import is_dialogue

CONFIGS = {"default": (), "messages": ("messages",), "prompt-completion": ("prompt", "completion")}
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
_SIZE_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "n>100M")
#: Figures of a selection that a reader looks for, in this order.
_FIGURES = (
    "strategy", "objective", "fill", "diversity", "seed", "kinds_total", "k_min", "k_max",
    "kinds_target", "kinds_covered", "coverage_bound", "share_of_optimum", "random_kinds",
    "random_bits", "random_percent", "free_picks", "pool", "evenness", "entropy_bits",
    "band", "eligible", "no_kind", "no_kind_picks", "instruction_tokens", "response_tokens",
)  # fmt: skip


@dataclass
class Statistics:
    """What a card says of the rows; `add` counts a shard's."""

    rows: int = 0
    dialogues: int = 0
    with_system: int = 0
    prompt_characters: int = 0
    completion_characters: int = 0
    sources: Counter[str] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        """Count the rows of an exported table."""
        self.rows += rows.num_rows
        for source in rows["source"].to_pylist():
            self.sources[source or "(not named)"] += 1
        for turns in rows["messages"].to_pylist():
            self.dialogues += is_dialogue(turns)
            self.with_system += turns[0]["role"] == "system"
        self.prompt_characters += _characters(rows["prompt"])
        self.completion_characters += _characters(rows["completion"])

    def as_json(self) -> dict[str, Any]:
        """Return the counts and means as JSON values."""
        return {
            "rows": self.rows,
            "dialogues": self.dialogues,
            "with_system": self.with_system,
            "mean_prompt_characters": round(self.prompt_characters / max(self.rows, 1), 1),
            "mean_completion_characters": round(self.completion_characters / max(self.rows, 1), 1),
            "sources": dict(sorted(self.sources.items(), key=lambda item: (-item[1], item[0]))),
        }


def _characters(column: pa.ChunkedArray) -> int:
    turns = pc.list_flatten(column)
    return int(pc.sum(pc.utf8_length(pc.struct_field(turns, "content"))).as_py() or 0)


def dataset_card(
    title: str,
    columns: list[str],
    statistics: Statistics,
    licences: Mapping[str, str],
    manifest: Mapping[str, Any],
    file_type: str,
    trainers: str,
) -> str:
    """Return the README.md of an exported dataset.

    Parameters
    ----------
    columns : list of str
        Columns of the shards.
    licences : mapping
        Source -> licence as its publisher states it; sources without one are said to be unknown.
    manifest : mapping
        That of the exported folder, for figures and lineage.
    file_type : str
        Ending of the data files.
    trainers : str
        The table of `clients.notes`.
    """
    known = {name: licences.get(name, "unknown") for name in statistics.sources}
    head = yaml.safe_dump(
        metadata(title, columns, statistics.rows, known, str(manifest["stage"]), file_type),
        sort_keys=False,
        allow_unicode=True,
    )
    parts = [
        f"---\n{head}---",
        f"# {title}",
        _opening(manifest),
        _how_to_read(statistics, columns, file_type),
        trainers,
        "## Sources",
        _source_table(statistics, known),
        "## Figures",
        _figure_table(statistics, manifest),
        "## Lineage",
        _lineage(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(
    title: str,
    columns: list[str],
    rows: int,
    licences: Mapping[str, str],
    stage: str,
    file_type: str = "parquet",
) -> dict[str, Any]:
    """Return the card's YAML block: configs, size, licences, tags."""
    kept = [name for name in columns if name in ("id", "source", "pick")]
    configs: list[dict[str, Any]] = []
    for name in CONFIGS if has_configs(columns, file_type) else ("default",):
        entry: dict[str, Any] = {
            "config_name": name,
            "data_files": [{"split": "train", "path": f"data/train-*.{file_type}"}],
        }
        if name == "default":
            entry["default"] = True
        else:
            entry["columns"] = [*kept, *CONFIGS[name]]
        configs.append(entry)
    return described(title, licences.values(), rows, stage == "select") | {"configs": configs}


def described(title: str, licences: Iterable[str], rows: int, selected: bool) -> dict[str, Any]:
    """Return what the YAML block of every card says: title, licences, size, tags."""
    named = sorted({identifier(licence) for licence in licences})
    return {
        "pretty_name": title,
        "license": named[0] if len(named) == 1 else named,
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows)],
        "tags": ["sft", "instruction-tuning", "sft-diversity"]
        + (["data-selection", "diversity", "arxiv:2505.24768"] if selected else []),
    }


def has_configs(columns: list[str], file_type: str) -> bool:
    """Whether a config may be some of the columns: `datasets` picks them from Parquet alone."""
    return file_type == "parquet" and {"messages", "prompt", "completion"} <= set(columns)


def size_category(rows: int) -> str:
    """Return what the Hub calls a data set of this many rows."""
    return _SIZE_NAMES[sum(rows >= size for size in _SIZES)]


def figures_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a selection's settings and, over them, what it achieved."""
    return {**manifest.get("config", {}), **manifest.get("result", {})}


def _opening(manifest: Mapping[str, Any]) -> str:
    if manifest["stage"] != "select":
        return "A corpus for supervised fine-tuning, one sample a row, ordered by `id`."
    chosen = figures_of(manifest)
    dial = chosen.get("diversity")
    at = "" if dial is None else f" at diversity {dial:g} %"
    return (
        f"A subset for supervised fine-tuning, chosen by `{chosen.get('strategy', 'unknown')}`{at} "
        "with sft-diversity (the method: arXiv 2505.24768); rows in order of `pick`."
    )


def _how_to_read(statistics: Statistics, columns: list[str], file_type: str) -> str:
    several = has_configs(columns, file_type)
    by_config = 'rows = load_dataset("DIR_OR_REPOSITORY", "prompt-completion", split="train")\n'
    polars = "read_parquet" if file_type == "parquet" else "scan_ndjson"
    text = f"""\
```python
from datasets import load_dataset

rows = load_dataset("DIR_OR_REPOSITORY", split="train")                     # all columns
{by_config if several else ""}```

In polars `pl.{polars}("DIR/data/*.{file_type}")`, in DuckDB
`SELECT * FROM 'DIR/data/*.{file_type}'`."""
    if "completion" in columns:
        text += """

`trl sft --dataset_name DIR_OR_REPOSITORY` trains on `completion` given `prompt`: the last assistant
turn given all that precedes it."""
    if "messages" in columns:
        text += " `messages` holds the whole dialogue."
    if statistics.dialogues and several:
        text += (
            f"\n\n{statistics.dialogues:,} rows have several assistant turns. To train on all of "
            "them: `trl sft --dataset_name DIR_OR_REPOSITORY --dataset_config messages "
            "--assistant_only_loss True`."
        )
    return text


def _source_table(statistics: Statistics, licences: Mapping[str, str]) -> str:
    lines = ["| source | rows | share | licence |", "| --- | ---: | ---: | --- |"]
    for name, count in statistics.as_json()["sources"].items():
        share = count / max(statistics.rows, 1)
        lines.append(f"| {cell(name)} | {count:,} | {share:.1%} | {cell(licences[name])} |")
    lines.append("\nThe licence of each source holds for its rows; unknown means: find out first.")
    return "\n".join(lines)


def _figure_table(statistics: Statistics, manifest: Mapping[str, Any]) -> str:
    figures = {k: v for k, v in statistics.as_json().items() if k != "sources"}
    if manifest["stage"] == "select":
        chosen = figures_of(manifest)
        figures |= {name: chosen[name] for name in _FIGURES if chosen.get(name) is not None}
    lines = ["| figure | value |", "| --- | ---: |"]
    for name, value in figures.items():
        said = f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else value
        said = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else said
        lines.append(f"| {name.replace('_', ' ')} | {cell(str(said))} |")
    return "\n".join(lines)


def _lineage(manifest: Mapping[str, Any]) -> str:
    lines = [
        f"- made by stage `{manifest['stage']}` version {manifest.get('version')}, "
        f"key `{manifest.get('key')}`"
    ]
    lines += [f"- input {name}: `{key}`" for name, key in sorted(manifest["inputs"].items())]
    name = "selection" if manifest["stage"] == "select" else "corpus"
    lines.append(
        f"- `{name}.json` holds its whole manifest: inputs, settings, seeds, row account, and the "
        "stages before it with theirs"
    )
    command, text = lineage.again(manifest)
    lines.append(f"\nTo make it again: `{command}`, where `{name}.yaml` is\n\n```yaml\n{text}```")
    if manifest["stage"] == "select":
        lines.append(
            "\nA file or folder in it goes by its last name: put yours. `made_from` has the key of "
            "everything that decided the rows; `select` names what differs from it, and says "
            "whether the ids are equal."
        )
    for before in lineage.corpora_of(manifest):
        command, text = lineage.again(before, "CORPUS")
        lines.append(
            f"\n<details><summary>The corpus, by {before['stage']} version {before['version']}"
            f"</summary>\n\n`{command}`\n\n```yaml\n{text}```\n\n</details>"
        )
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text that cannot break out of a table cell."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
