"""The cards of a dataset: of an export in its folder, and of a repository that holds several.

What they say stands in `templates`, here is of what. Their heads are for the Hub and `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_diversity.core import lineage
from sft_diversity.exporting import licences
from sft_diversity.exporting.shards import Statistics

Entries = Mapping[str, Mapping[str, Any]]
_KEPT = ("id", "source", "pick")
_WIDE = 6  # more configs than this get no column each
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
_SIZE_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "n>100M")
_VIEWS = {"messages": ("messages",), "prompt-completion": ("prompt", "completion")}
_COLUMNS = {
    "id": "`id`: hash of the sample's text",
    "source": "`source`: the data set it comes from",
    "pick": "`pick`: its place in the selection, 0 first",
    "meta": "`meta`: what its source had besides, a JSON object",
    "messages": "`messages`: the whole dialogue, a list of role and content",
    "tools": "`tools`: what the assistant may call, a list as JSON; turns then hold `tool_calls` "
    "and `reasoning_content` (as `thinking` too)",
    "prompt": "`prompt` and `completion`: the last assistant turn, given all before it",
}
#: Figures of a selection that a reader looks for, in this order.
_FIGURES = (
    "strategy", "objective", "fill", "diversity", "seed", "kinds_total", "k_min", "k_max",
    "kinds_target", "kinds_covered", "coverage_bound", "share_of_optimum", "random_kinds",
    "random_bits", "random_percent", "free_picks", "pool", "evenness", "entropy_bits",
    "band", "eligible", "no_kind", "no_kind_picks", "instruction_tokens", "response_tokens",
)  # fmt: skip


def dataset_card(
    title: str,
    columns: list[str],
    statistics: Statistics,
    stated: Mapping[str, str],
    manifest: Mapping[str, Any],
    file_type: str,
    trainers: str,
) -> str:
    """Return the README.md of an exported dataset.

    Parameters
    ----------
    columns : list of str
        Columns of the shards.
    stated : mapping
        Source -> licence as its publisher states it; sources without one are said to be unknown.
    manifest : mapping
        That of the exported folder, for figures and lineage.
    file_type : str
        Ending of the data files.
    trainers : str
        The table of `clients.notes`.
    """
    counts, selected = statistics.as_json(), manifest["stage"] == "select"
    sources, rows = counts["sources"].items(), max(statistics.rows, 1)
    known = {name: stated.get(name, licences.UNKNOWN) for name in counts["sources"]}
    files, kept = f"data/train-*.{file_type}", [name for name in columns if name in _KEPT]
    views = _VIEWS if has_views(columns, file_type) else {}
    configs = [_config("default", files, default=True)]
    configs += [_config(name, files, columns=[*kept, *own]) for name, own in views.items()]
    return _card(
        "dataset",
        _head(title, known.values(), statistics.rows, selected) | {"configs": configs},
        title=title,
        manifest={"version": None, "key": None, **manifest},
        chosen=figures_of(manifest),
        views=views,
        file_type=file_type,
        columns=columns,
        counts=counts,
        trainers=trainers,
        sources=table(
            ["source", ">rows", ">share", "licence"],
            [
                (table_cell(n), f"{own:,}", f"{own / rows:.1%}", table_cell(known[n]))
                for n, own in sources
            ],
        ),
        figures=table(["figure", ">value"], _figures(counts, manifest)),
        again=lineage.again(manifest),
        corpora=[
            (before, *lineage.again(before, "CORPUS")) for before in lineage.corpora_of(manifest)
        ],
    )


def repository_card(name: str, title: str, configs: Entries, default: str) -> str:
    """Return the README.md of a repository.

    Parameters
    ----------
    configs : mapping
        Config -> its entry (see `collection.config_entry`), in the order to show them.
    default : str
        The config that is loaded where none is named.
    """
    entries = list(configs.values())
    stated = {source: own for one in entries for source, own in one["licences"].items()}
    chosen = [one for one in entries if one["of"] == "select"]
    rows = sum(one["statistics"]["rows"] for one in entries)
    every = [licence for one in entries for licence in one["licences"].values()]
    head = _head(title, every, rows, bool(chosen))
    head["dataset_info"] = [_info(c, one) for c, one in configs.items() if "features" in one]
    head["configs"] = [view for config, one in configs.items() for view in _views(config, one)]
    for view in head["configs"]:
        view |= {"default": True} if view["config_name"] == default else {}
    trained = [c for c, one in configs.items() if has_views(one["columns"], one["file_type"])]
    found = dict.fromkeys(column for one in entries for column in one["columns"])
    columns = [c for c in _COLUMNS if c in found] + [c for c in found if c not in _COLUMNS]
    if "prompt" in columns:
        columns.remove("completion")  # told with it
    return _card(
        "repository",
        head,
        title=" ".join(title.split()),
        name=name,
        default=default,
        subsets=_subsets(chosen),
        pools=_pools(chosen),
        columns=[_COLUMNS.get(c, f"`{c}`") for c in columns],
        trained=default if default in trained else next(iter(trained), None),
        dialogues=sum(one["statistics"]["dialogues"] for one in entries),
        config_table=_config_table(configs),
        sources=_mix_table(configs, stated),
        doubts=table_cell("; ".join(licences.doubts(stated))),
        lengths=_length_table(configs),
        commands={config: one["command"] for config, one in configs.items() if "command" in one},
        origins=table(["config", "made by", "of corpus", "digest"], map(_origin, configs.items())),
    )


# ---- what both have


def _card(template: str, head: Mapping[str, Any], **said: Any) -> str:
    from huggingface_hub import DatasetCard, DatasetCardData

    data = DatasetCardData(**{name: value for name, value in head.items() if value})
    path = Path(__file__).with_name("templates") / f"{template}.md"
    return f"{DatasetCard.from_template(data, str(path), **said)}\n"


def _head(title: str, stated: Iterable[str], rows: int, selected: bool) -> dict[str, Any]:
    """Return what the YAML block of every card says: title, licences, size, tags."""
    named = sorted({licences.identifier(licence) for licence in stated})
    tags = ["sft", "instruction-tuning", "sft-diversity"]
    return {
        "pretty_name": title,
        "license": named[0] if len(named) == 1 else named,
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows)],
        "tags": tags + ["data-selection", "diversity", "arxiv:2505.24768"] * selected,
    }


def size_category(rows: int) -> str:
    """Return what the Hub calls a data set of this many rows."""
    return _SIZE_NAMES[sum(rows >= size for size in _SIZES)]


def has_views(columns: Sequence[str], file_type: str) -> bool:
    """Whether a config may be some of the columns: `datasets` picks them from Parquet alone."""
    return file_type == "parquet" and {"messages", "prompt", "completion"} <= set(columns)


def _config(name: str, files: str, **more: Any) -> dict[str, Any]:
    return {"config_name": name, "data_files": [{"split": "train", "path": files}], **more}


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; columns whose title begins with `>` stand to the right."""
    names = " | ".join(title.removeprefix(">") for title in titles)
    rules = " | ".join("---:" if title.startswith(">") else "---" for title in titles)
    return "\n".join([f"| {names} |", f"| {rules} |", *(f"| {' | '.join(row)} |" for row in rows)])


def table_cell(text: str) -> str:
    """Return text that cannot break out of a table cell."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def figures_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a selection's settings and, over them, what it achieved."""
    return {**manifest.get("config", {}), **manifest.get("result", {})}


def _figures(counts: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    figures = {name: value for name, value in counts.items() if name != "sources"}
    if manifest["stage"] == "select":
        chosen = figures_of(manifest)
        figures |= {name: chosen[name] for name in _FIGURES if chosen.get(name) is not None}
    rows = []
    for name, value in figures.items():
        said = f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else value
        said = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else said
        rows.append((name.replace("_", " "), table_cell(str(said))))
    return rows


# ---- what a repository's has


def _info(config: str, one: Mapping[str, Any]) -> dict[str, Any]:
    """Return splits, sizes and types of a config."""
    rows, unpacked = one["statistics"]["rows"], one["unpacked"]
    return {
        "config_name": config,
        "features": one["features"],
        "splits": [{"name": "train", "num_bytes": unpacked, "num_examples": rows}],
        "download_size": one["bytes"],
        "dataset_size": unpacked,
    }


def _views(config: str, one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a config, and its dialogues alone where a trainer would take the last turn of both."""
    files = f"{config}/data/train-*.{one['file_type']}"
    if not has_views(one["columns"], one["file_type"]):
        return [_config(config, files)]
    kept = [name for name in one["columns"] if name in _KEPT]
    return [
        _config(config, files),
        _config(f"{config}-messages", files, columns=[*kept, "messages"]),
    ]


def _subsets(chosen: Sequence[Mapping[str, Any]]) -> str:
    """Return `A subset of 10,000` or `3 subsets of 500 to 10,000`; nothing without one."""
    if not chosen:
        return ""
    sizes = sorted({one["statistics"]["rows"] for one in chosen})
    many = "A subset" if len(chosen) == 1 else f"{len(chosen)} subsets"
    return f"{many} of {sizes[0]:,}" + (f" to {sizes[-1]:,}" if len(sizes) > 1 else "")


def _pools(chosen: Sequence[Mapping[str, Any]]) -> str:
    pools = {one["inputs"].get("corpus") for one in chosen}
    if len(chosen) == 1:
        return "a pool"
    return "one pool" if len(pools) == 1 else f"{len(pools)} pools"


def _config_table(configs: Entries) -> str:
    rows = []
    for config, one in configs.items():
        settings, figures = one["settings"], one["figures"]
        level = str(settings.get("strategy")).partition("-")[0] in ("macro", "meso", "micro")
        dial = settings.get("diversity") if level else None
        kinds = _number(figures["kinds_covered"])
        if kinds and figures["kinds_total"]:
            kinds += f" of {figures['kinds_total']:,}"
        rows.append((
            f"`{config}`", str(settings.get("strategy") or "the whole corpus"),
            "" if dial is None else f"{dial:g} %", str(settings.get("seed", "")),
            f"{one['statistics']['rows']:,}", kinds, _number(figures["evenness"], ".3f"),
            _number(figures["entropy_bits"], ".3f"),
        ))  # fmt: skip
    titles = ["config", "strategy", ">diversity", ">seed", ">rows", ">kinds", ">evenness"]
    return table([*titles, ">entropy, bits"], rows)


def _mix_table(configs: Entries, stated: Mapping[str, str]) -> str:
    """Return the rows of each source, a column a config where that is not too many."""
    wide = len(configs) <= _WIDE
    counts: dict[str, dict[str, int]] = {}
    for config, one in configs.items():
        for source, rows in one["statistics"]["sources"].items():
            counts.setdefault(source, {})[config] = rows
    lines = []
    for source in sorted(counts, key=lambda name: (-sum(counts[name].values()), name)):
        got = counts[source]
        cells = [_share(got.get(config, 0), one) for config, one in configs.items()]
        own = cells if wide else [f"{sum(got.values()):,}"]
        lines.append((table_cell(source), table_cell(stated.get(source, licences.UNKNOWN)), *own))
    columns = [f">`{config}`" for config in configs] if wide else [">rows, all configs"]
    return table(["source", "licence", *columns], lines)


def _share(rows: int, one: Mapping[str, Any]) -> str:
    return f"{rows:,} ({rows / max(one['statistics']['rows'], 1):.1%})" if rows else "–"


def _length_table(configs: Entries) -> str:
    rows = []
    for config, one in configs.items():
        figures, found = one["figures"], one["statistics"]
        rows.append((
            f"`{config}`", _number(figures["instruction_tokens"], ".1f"),
            _number(figures["response_tokens"], ".1f"),
            f"{found['mean_prompt_characters']:,.1f}",
            f"{found['mean_completion_characters']:,.1f}",
            f"{found['dialogues']:,}", f"{found['with_system']:,}",
        ))  # fmt: skip
    titles = ["config", ">instruction, tokens", ">response, tokens", ">prompt, characters"]
    return table([*titles, ">completion, characters", ">several turns", ">system turn"], rows)


def _number(value: Any, form: str = "") -> str:
    return "" if value is None else f"{value:,{form}}"


def _origin(named: tuple[str, Mapping[str, Any]]) -> tuple[str, str, str, str]:
    config, one = named
    corpus = one["inputs"].get("corpus")
    of = f"`{corpus}`" if corpus else f"{len(one['inputs'])} sources"
    return f"`{config}`", f"`{one['of']}`, version {one['version']}", of, f"`{one['digest']}`"
