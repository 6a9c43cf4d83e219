"""The card of a dataset repository with several configs: metadata, figures, sources, commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from sft_diversity.exporting import licences
from sft_diversity.exporting.card import cell, described, has_configs

Entries = Mapping[str, Mapping[str, Any]]
_KEPT = ("id", "source", "pick")
_WIDE = 6  # more configs than this get no column each
_COLUMNS = {
    "id": "`id`: hash of the sample's text",
    "source": "`source`: the data set it comes from",
    "pick": "`pick`: its place in the selection, 0 first",
    "meta": "`meta`: what its source had besides, a JSON object",
    "messages": "`messages`: the whole dialogue, a list of role and content",
    "prompt": "`prompt` and `completion`: the last assistant turn, given all before it",
}


def card(name: str, title: str, configs: Entries, default: str) -> str:
    """Return the README.md of a repository.

    Parameters
    ----------
    configs : mapping
        Config -> its entry (see `collection.entry`), in the order to show them.
    default : str
        The config that is loaded where none is named.
    """
    head = yaml.safe_dump(metadata(title, configs, default), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{head}---",
        f"# {' '.join(title.split())}",
        _opening(configs),
        _config_table(configs),
        "## Load",
        _loading(name, configs, default),
        "## Sources and licences",
        _source_table(configs),
        "## Lengths",
        _length_table(configs),
        "## Make it again",
        _reproducing(name, configs),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(title: str, configs: Entries, default: str) -> dict[str, Any]:
    """Return the card's YAML block: licences, size, tags, the configs with splits and types."""
    stated = {licence for one in configs.values() for licence in one["licences"].values()}
    selected = any(one["of"] == "select" for one in configs.values())
    rows = sum(one["statistics"]["rows"] for one in configs.values())
    return described(title, stated, rows, selected) | {
        "dataset_info": [
            info for config, one in configs.items() if (info := _info(config, one)) is not None
        ],
        "configs": [
            named for config, one in configs.items() for named in _views(config, one, default)
        ],
    }


def _info(config: str, one: Mapping[str, Any]) -> dict[str, Any] | None:
    if "features" not in one:
        return None
    split = {
        "name": "train",
        "num_bytes": one["unpacked"],
        "num_examples": one["statistics"]["rows"],
    }
    return {
        "config_name": config,
        "features": one["features"],
        "splits": [split],
        "download_size": one["bytes"],
        "dataset_size": one["unpacked"],
    }


def _views(config: str, one: Mapping[str, Any], default: str) -> list[dict[str, Any]]:
    """Return a config, and its dialogues alone where a trainer would take the last turn of both."""

    def named(name: str) -> dict[str, Any]:
        path = f"{config}/data/train-*.{one['file_type']}"
        return {"config_name": name, "data_files": [{"split": "train", "path": path}]}

    whole = named(config) | ({"default": True} if config == default else {})
    if not _both(one):
        return [whole]
    kept = [name for name in one["columns"] if name in _KEPT]
    return [whole, named(f"{config}-messages") | {"columns": [*kept, "messages"]}]


def _both(one: Mapping[str, Any]) -> bool:
    return has_configs(one["columns"], one["file_type"])


def _opening(configs: Entries) -> str:
    chosen = [one for one in configs.values() if one["of"] == "select"]
    if not chosen:
        return "Samples for supervised fine-tuning, one a row, ordered by `id`."
    sizes = sorted({one["statistics"]["rows"] for one in chosen})
    many = "A subset" if len(chosen) == 1 else f"{len(chosen)} subsets"
    of = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    pools = {one["inputs"].get("corpus") for one in chosen}
    pool = (
        "a pool" if len(chosen) == 1 else "one pool" if len(pools) == 1 else f"{len(pools)} pools"
    )
    return (
        f"{many} of {of} samples for supervised fine-tuning, chosen from {pool} with "
        "sft-diversity. A strategy says which kinds of things are counted (clusters, instruction "
        "units or token types, of instructions or responses), the diversity how many kinds are "
        "kept, in percent of what the pool allows ([method](https://arxiv.org/abs/2505.24768)). "
        "Rows are in the order they were picked."
    )


def _config_table(configs: Entries) -> str:
    lines = [
        "| config | strategy | diversity | seed | rows | kinds | evenness | entropy, bits |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for config, one in configs.items():
        settings, figures = one["settings"], one["figures"]
        dial = settings.get("diversity") if _of_a_level(settings) else None
        kinds = "" if figures["kinds_covered"] is None else f"{figures['kinds_covered']:,}"
        if kinds and figures["kinds_total"]:
            kinds += f" of {figures['kinds_total']:,}"
        cells = [
            f"`{config}`",
            str(settings.get("strategy") or "the whole corpus"),
            "" if dial is None else f"{dial:g} %",
            str(settings.get("seed", "")),
            f"{one['statistics']['rows']:,}",
            kinds,
            _number(figures["evenness"]),
            _number(figures["entropy_bits"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"


def _loading(name: str, configs: Entries, default: str) -> str:
    dialogues = sum(one["statistics"]["dialogues"] for one in configs.values())
    found = dict.fromkeys(c for one in configs.values() for c in one["columns"])
    columns = [c for c in _COLUMNS if c in found] + [c for c in found if c not in _COLUMNS]
    also = {"completion"} if "prompt" in columns else set()
    listed = "\n".join(f"- {_COLUMNS.get(c, f'`{c}`')}" for c in columns if c not in also)
    parts = [
        f"""\
```python
from datasets import load_dataset

rows = load_dataset("{name}", "{default}", split="train")
```""",
        f"Each row has\n\n{listed}",
    ]
    both = [config for config, one in configs.items() if _both(one)]
    if both:
        one = default if default in both else both[0]
        text = (
            f"`trl sft --dataset_name {name} --dataset_config {one}` trains on `completion` given "
            "`prompt`."
        )
        if dialogues:
            text += (
                f" {dialogues:,} rows have several assistant turns: with `--dataset_config "
                f"{one}-messages --assistant_only_loss True` it trains on all of them."
            )
        parts.append(text)
    parts.append(
        "A config is a folder with its own card and the files by which LLaMA-Factory, axolotl and "
        "TRL read it from disk. To have it there, every byte checked:\n\n"
        f"```bash\nhf download {name} --repo-type dataset --local-dir DIR\n"
        f"sftdiv verify DIR/{default}\n```"
    )
    return "\n\n".join(parts)


def _source_table(configs: Entries) -> str:
    wide = len(configs) <= _WIDE
    counts: dict[str, dict[str, int]] = {}
    stated: dict[str, str] = {}
    for config, one in configs.items():
        stated |= one["licences"]
        for source, rows in one["statistics"]["sources"].items():
            counts.setdefault(source, {})[config] = rows
    columns = [f"`{config}`" for config in configs] if wide else ["rows, all configs"]
    lines = [
        f"| source | licence | {' | '.join(columns)} |",
        f"| --- | --- |{' ---: |' * len(columns)}",
    ]
    for source in sorted(counts, key=lambda name: (-sum(counts[name].values()), name)):
        got = counts[source]
        cells = [_share(got, config, one) for config, one in configs.items()] if wide else []
        cells = cells or [f"{sum(got.values()):,}"]
        licence = cell(stated.get(source, "unknown"))
        lines.append(f"| {cell(source)} | {licence} | {' | '.join(cells)} |")
    lines.append("\nThe licence of a source holds for its rows.")
    look = licences.doubts(stated)
    if look:
        lines[-1] += f" Look before you use or pass on: {cell('; '.join(look))}."
    return "\n".join(lines)


def _share(counts: Mapping[str, int], config: str, one: Mapping[str, Any]) -> str:
    rows = counts.get(config, 0)
    return f"{rows:,} ({rows / max(one['statistics']['rows'], 1):.1%})" if rows else "–"


def _length_table(configs: Entries) -> str:
    lines = [
        "| config | instruction, tokens | response, tokens | prompt, characters | "
        "completion, characters | several turns | system turn |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for config, one in configs.items():
        figures, found = one["figures"], one["statistics"]
        values = [
            _tokens(figures["instruction_tokens"]), _tokens(figures["response_tokens"]),
            f"{found['mean_prompt_characters']:,.1f}",
            f"{found['mean_completion_characters']:,.1f}",
            f"{found['dialogues']:,}", f"{found['with_system']:,}",
        ]  # fmt: skip
        lines.append(f"| `{config}` | {' | '.join(values)} |")
    lines.append(
        "\nLengths are means over rows, tokens those of the tokenizer the selection was made with; "
        "the last two columns count rows."
    )
    return "\n".join(lines)


def _tokens(value: Any) -> str:
    return "" if value is None else f"{value:,.1f}"


def _reproducing(name: str, configs: Entries) -> str:
    chosen = {config: one["command"] for config, one in configs.items() if "command" in one}
    parts = []
    if chosen:
        commands = "\n".join(chosen.values())
        export = f"sftdiv export {' '.join(chosen)} --to hub:{name}"
        parts.append(
            "With the corpus, and the files that a `selection.yaml` names, these make the same "
            f"ids, and name what differs:\n\n```bash\n{commands}\n{export}\n```"
        )
    lines = ["| config | made by | of corpus | digest |", "| --- | --- | --- | --- |"]
    for config, one in configs.items():
        made_by = f"`{one['of']}`, version {one['version']}"
        corpus = one["inputs"].get("corpus")
        of = f"`{corpus}`" if corpus else f"{len(one['inputs'])} sources"
        lines.append(f"| `{config}` | {made_by} | {of} | `{one['digest']}` |")
    parts.append("\n".join(lines))
    parts.append(
        "`selection.json` (of a corpus `corpus.json`) in a config's folder is the manifest of how "
        "it was made: inputs by their hashes, settings, seeds, the account of rows, and this "
        "digest. `manifest.json` has the SHA-256 of every file."
    )
    return "\n\n".join(parts)


def _of_a_level(settings: Mapping[str, Any]) -> bool:
    return str(settings.get("strategy")).partition("-")[0] in ("macro", "meso", "micro")
