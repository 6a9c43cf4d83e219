"""What a folder was made from, every stage before it, where that lies, and how to make it again.

A manifest's `lineage` has, by the name under which its `inputs` have a key, what made each input:
stage, version, config, inputs, and in turn their lineage. A `recipe` is the options to run again,
free of paths: local files and folders go by their last name, and by content among the inputs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder, urls

Lineage = dict[str, dict[str, Any]]
_CORPUS, _IDS = "corpus", "ids_key"
_NO_FACT = {"components"}  # of embeddings: each component stands on its own
_ENTRY = ("stage", "version", "inputs", "config", "recipe", "lineage")
_CHOSEN = ("band",)  # options that may be left to a stage, whose result says what it chose
_MAKE = {
    "select": "sftdiv select CORPUS --config selection.yaml",
    "ingest": "sftdiv ingest --config corpus.yaml",
    "clean": "sftdiv clean CORPUS --config corpus.yaml",
    "rewrite": "sftdiv rewrite CORPUS --endpoint URL --config corpus.yaml",
    "export": "sftdiv export SUBSET --config export.yaml --to DIR",
}


def entry(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the lineage of a later folder says of this one, its options as resolved."""
    found = {name: manifest[name] for name in _ENTRY if name in manifest}
    if "files" in manifest:
        found["contents"] = folder.contents_key(manifest)
    chosen = {n: manifest["result"][n] for n in _CHOSEN if n in manifest.get("result", {})}
    return found | ({"config": manifest["config"] | chosen} if chosen else {})


def of(**places: Path) -> Lineage:
    """Return the lineage of a folder that is made from finished folders, by name of the input."""
    return {name: entry(folder.read_manifest(place)) for name, place in sorted(places.items())}


def public(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return options with paths cut to their last name, and those paths by dotted option.

    A text is a path where a file or folder lies there, or where it is absolute. URLs lose what may
    be a credential.
    """
    paths: dict[str, str] = {}

    def cut(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {k: cut(v, f"{name}.{k}" if name else k) for k, v in value.items()}
        if isinstance(value, list):
            return [cut(one, f"{name}.{i}") for i, one in enumerate(value)]
        if isinstance(value, str) and _is_path(value):
            paths[name] = value
            return Path(value).name or Path(value).resolve().name
        return urls.public_url(value) if urls.is_remote(value) else value

    return cut(dict(options), ""), paths


def _is_path(text: str) -> bool:
    if not text or len(text) > 4096 or "\0" in text or "\n" in text:
        return False
    path = Path(text).expanduser()
    try:
        return path.is_absolute() or path.exists()
    except OSError:  # a name too long for a file
        return False


def facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decided the rows of a subset, input by input, as its recipe states it.

    Parameters
    ----------
    manifest : mapping
        With `stage`, `version`, `inputs` and `lineage`; with `result.ids_key` also the ids picked.

    Returns
    -------
    dict
        Name of an input -> its content key, or, where something was made on the way, a flat
        mapping: versions, options, content keys of tokenizer, encoder or model, and `contents`.
    """
    lineage = manifest.get("lineage", {})
    found: dict[str, Any] = {f"{manifest['stage']} version": manifest["version"]}
    for name, key in sorted(manifest["inputs"].items(), key=lambda one: (one[0] != _CORPUS, one)):
        plain = name == _CORPUS or name not in lineage
        if not plain:
            made = lineage[name]
            key = _flat(made) | {"contents": made.get("contents", key)}
        found[name] = key
    if manifest.get("result", {}).get(_IDS):
        found[_IDS] = manifest["result"][_IDS]
    return found


def _flat(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decided one input: its own options, and those of what it was made from."""
    before = made.get("lineage", {})
    found: dict[str, Any] = {}
    for name, inner in before.items():
        found |= {} if name == _CORPUS else _flat(inner)
    found |= {
        name: key
        for name, key in made.get("inputs", {}).items()
        if name != _CORPUS and name not in before
    }
    return found | {f"{made['stage']} version": made["version"]} | _dotted(made.get("config", {}))


def _dotted(options: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= _dotted(value, f"{under}{name}.")
        elif value is not None and name not in _NO_FACT:
            flat[f"{under}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return in words what differs between the facts of a recipe and those of this run.

    What follows from another difference is not named: contents only where all else is equal.
    """
    causes: dict[tuple[str, str, str], list[str]] = {}
    contents: dict[tuple[str, str, str], list[str]] = {}
    for name in dict.fromkeys([*here, *there]):
        if name == _IDS:
            continue
        one, other = here.get(name), there.get(name)
        if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
            one, other = {name: one}, {name: other}
        said = name + (f" of {one['strategy']}" if "strategy" in one else "")
        for fact in dict.fromkeys([*one, *other]):
            if one.get(fact) != other.get(fact):
                into = contents if fact == "contents" else causes
                change = fact, _short(one.get(fact)), _short(other.get(fact))
                into.setdefault(change, []).append(said)
    return [_line(*change, names) for change, names in (causes or contents).items()]


def _line(fact: str, here: str, there: str, names: Iterable[str]) -> str:
    of_what = ", ".join(name for name in names if name != fact)
    return f"{f'{of_what}: ' if of_what else ''}{fact} is {here} here, {there} there"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def again(manifest: Mapping[str, Any], out: str = "DIR") -> tuple[str, str]:
    """Return the command that makes a folder again, and the YAML file that it reads."""
    options = dict(manifest.get("recipe") or manifest.get("config", {}))
    command = _MAKE.get(str(manifest["stage"]), f"sftdiv {manifest['stage']} INPUT")
    to = "" if manifest["stage"] == "export" else f" --out {shlex.quote(out)}"
    if manifest["stage"] == "select" and manifest.get("recipe"):
        options["made_from"] = facts(manifest)
    text = yaml.safe_dump(
        options, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=None
    )
    return command + to, text


def corpora_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what made the corpus that a folder was made from, stage by stage, the first first."""
    before = [made for made in manifest.get("lineage", {}).values() if made["stage"] in _MAKE]
    return [one for made in before for one in [*corpora_of(made), made]]


# ---- where it lies, found by content


@dataclass(frozen=True)
class Found:
    """What is at hand of the corpus that a data set is from; what is not there is not shown.

    Attributes
    ----------
    corpus : Path or None
    tokens, embeddings : mapping of component to folder
    indexes : mapping of strategy to incidence
    """

    corpus: Path | None = None
    tokens: Mapping[str, Path] = field(default_factory=dict)
    embeddings: Mapping[str, Path] = field(default_factory=dict)
    indexes: Mapping[str, Path] = field(default_factory=dict)

    def keys(self) -> dict[str, str]:
        """Return the content key of each, for the work that depends on them."""
        named = {} if self.corpus is None else {"corpus": corpora.key(self.corpus)}
        for kind, places in (
            ("tokens", self.tokens), ("embeddings", self.embeddings), ("index", self.indexes)
        ):  # fmt: skip
            for name, place in places.items():
                named[f"{kind}-{name}"] = folder.contents_key(folder.read_manifest(place))
        return named


def found_among(
    manifests: Sequence[Mapping[str, Any]], places: Iterable[Path], corpus: Path | None = None
) -> Found:
    """Return what data sets of one corpus were made from.

    Parameters
    ----------
    manifests : sequence of mapping
        Of subsets, whose `inputs` name the contents to look for; of a corpus it is `corpus` itself.
    places : iterable of Path
        Folders to look at.
    corpus : Path, optional
        The corpus, where it is known.

    Notes
    -----
    Of several incidences or passes of one kind, those that the subsets were selected with count.
    """
    inputs = [manifest.get("inputs", {}) for manifest in manifests]
    pool = next((i["corpus"] for i in inputs if "corpus" in i), None)
    if corpus is not None:
        pool = pool or corpora.key(corpus)
    used = {value for given in inputs for value in given.values()}
    known = dict.fromkeys([*([corpus] if corpus else []), *places])
    read = [(p, folder.read_manifest(p)) for p in known if folder.stage_of(p) is not None]
    read.sort(key=lambda one: used.isdisjoint(folder.keys_of(one[1])))  # stable: used ones first
    tokens: dict[str, Path] = {}
    embeddings: dict[str, Path] = {}
    indexes: dict[str, Path] = {}
    held: Path | None = None
    for place, manifest in read:
        if corpora.is_corpus(place):
            if held is None and corpora.key(place) == pool:
                held = place
        elif manifest["inputs"].get("corpus") != pool:
            continue
        elif manifest["stage"] == "tokens":
            tokens.setdefault(manifest["config"]["component"], place)
        elif manifest["stage"] == "embed":
            for component in manifest["config"]["components"]:
                embeddings.setdefault(component, place)
        elif manifest["stage"] == "index":
            indexes.setdefault(manifest["config"]["strategy"], place)
    return Found(held, *(dict(sorted(d.items())) for d in (tokens, embeddings, indexes)))
