"""Finds what a subset was made from, by content, among the folders of a work folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError


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


def locate(sources: Sequence[Path], work: Path, corpus: Path | None = None) -> Found:
    """Return what studies, subsets or corpora were made from.

    It is looked for in the work folder, beside it, beside the sources and in a study's own folder.

    Raises
    ------
    UsageError
        If `corpus` is another than the one they are from.
    """
    manifests: list[dict[str, Any]] = []
    near = [work.absolute().parent]
    within = [work]
    for source in sources:
        if folder.stage_of(source) == "select":
            manifests.append(folder.read_manifest(source))
        elif corpora.is_corpus(source):
            corpus = corpus or source
        else:
            made = sorted(source.glob("subsets/*/manifest.json"))
            manifests += [folder.read_manifest(path.parent) for path in made]
            within += [source, source / "work"]
        near += [source.absolute().parent, source.absolute().parent.parent]
    pool = next((m["inputs"]["corpus"] for m in manifests if "corpus" in m["inputs"]), None)
    if corpus is not None and pool not in (None, corpora.key(corpus)):
        raise UsageError(f"report: {corpus} is not the corpus that {sources[0]} is from")
    places = [path.parent for root in near for path in sorted(root.glob("*/manifest.json"))]
    places += [p for root in within for p in _folders(root)]
    return found_among(manifests, places, corpus)


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


def _folders(root: Path) -> list[Path]:
    """Return finished folders in a work folder and right in `root`, in a fixed order."""
    near = [*root.glob("*/manifest.json"), *root.glob("*/*/manifest.json")]
    return sorted(path.parent for path in near)
