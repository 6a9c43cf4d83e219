"""Finds what a subset was made from, by content, among the folders of a work folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder


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


def locate(
    manifests: Sequence[Mapping[str, Any]], roots: Iterable[Path], corpus: Path | None = None
) -> Found:
    """Return what data sets of one corpus were made from.

    Parameters
    ----------
    manifests : sequence of mapping
        Of subsets, whose `inputs` name the contents to look for; of a corpus it is `corpus` itself.
    roots : iterable of Path
        Work folders, and folders in which the corpus may lie.
    corpus : Path, optional
        The corpus, where it is known.

    Notes
    -----
    Of several incidences or passes of one kind, those that the subsets were selected with count.
    """
    inputs = [manifest.get("inputs", {}) for manifest in manifests]
    pool = next((i["corpus"] for i in inputs if "corpus" in i), None)
    if corpus is not None and corpora.is_corpus(corpus):
        pool = pool or corpora.key(corpus)
    used = {value for given in inputs for value in given.values()}
    places = [] if corpus is None else [corpus]
    places += [place for root in roots for place in _folders(root)]
    read = [(p, folder.read_manifest(p)) for p in places if folder.stage_of(p) is not None]
    read.sort(key=lambda one: folder.contents_key(one[1]) not in used)  # stable: used ones first
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
