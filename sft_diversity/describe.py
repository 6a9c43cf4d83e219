"""A data set's description: the passes, embeddings and incidences that say what it holds.

A subset is described by what its corpus was described by, if that is still in the work folder;
what is not there is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.corpus import COMPONENTS, Component
from sft_diversity.embedding import stage as embedding
from sft_diversity.embedding.locate import locate
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.levels import tokens as counting
from sft_diversity.levels.tokenizing import load_tokenizer, tokenizer_revision
from sft_diversity.levels.tokens import tokenizer_name
from sft_diversity.metrics.stage import Dataset
from sft_diversity.metrics.table import MeasureConfig
from sft_diversity.work import ENCODER, TOKENIZER, Work


class MeasureOptions(MeasureConfig):
    """Options of `measure`; `ingest` and `embed` are for YAML files."""

    tokenizer: str | None = Field(default=None, description=TOKENIZER)
    encoder: str | None = Field(default=None, description=ENCODER)
    reference: str | None = Field(
        default=None,
        description="corpus whose density NovelSum reads for all data sets; "
        "default: the one each was selected from",
    )
    ingest: dict[str, Any] = Field(default={}, description="options of `ingest`, for raw sources")
    embed: dict[str, Any] = Field(default={}, description="further options of `embed`")


class Describer:
    """Finds or makes what describes data sets, all with the same tokenizer and encoder."""

    def __init__(self, work: Work, options: MeasureOptions) -> None:
        self._work, self._options = work, options
        self._encoding = configs.build(
            EmbedConfig, options.embed, "key `embed`", {"encoder": options.encoder}
        )
        counting.check(counting.TokensConfig(tokenizer=options.tokenizer))
        embedding.check(self._encoding)
        if options.reference is not None:
            corpora.manifest(Path(options.reference))
        self._found: dict[tuple[str, str], list[tuple[Path, dict[str, Any]]]] = {}

    def describe(self, sources: Sequence[str | Path]) -> list[Dataset]:
        """Return the data sets of `sources`: subsets, corpora or raw files, named apart.

        In a dry run only those are returned that are there; the others are in the work's plan.
        """
        paths = [Path(source) for source in sources]
        names = [path.name for path in paths]
        named = [
            f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name
            for path in paths
        ]
        ingest = configs.build(IngestConfig, self._options.ingest, "key `ingest`")
        for path in paths:
            if folder.stage_of(path) is None:
                ingesting.check_rows((path,), ingest)
        found = (self._one(path, name) for path, name in zip(paths, named, strict=True))
        return [dataset for dataset in found if dataset is not None]

    def _one(self, path: Path, name: str) -> Dataset | None:
        corpus: Path | None = None
        chosen_by = None
        if folder.stage_of(path) == "select":
            files = sorted((path / "samples").glob("*.parquet"))
            inputs = folder.read_manifest(path)["inputs"]
            key = folder.contents_key(folder.read_manifest(path), "samples/")
            pool, chosen_by = inputs["corpus"], inputs.get("incidence")
        else:
            corpus = self._work.corpus((path,), self._options.ingest)
            there = corpora.is_corpus(corpus)  # but for a raw file in a dry run
            files = corpora.shards(corpus) if there else []
            key = pool = corpora.key(corpus) if there else "not made yet"
        tokens, embeddings, reference = {}, {}, {}
        for component in COMPONENTS:
            passed, embedded = self._pass(pool, component), self._vectors(pool, component)
            if corpus is None and (passed is None or embedded is None):
                corpus = self._work.corpus((path / "samples",), {})
            tokens[component] = passed or self._tokens(corpus, component)
            embeddings[component] = embedded or self._embeddings(corpus, component)
            reference[component] = self._reference(component) or embeddings[component]
        places = [*tokens.values(), *embeddings.values(), *reference.values()]
        if self._work.dry_run and (not files or None in map(folder.stage_of, places)):
            return None
        indexes = self._indexes(pool, chosen_by)
        return Dataset(name, files, key, tokens, embeddings, reference, indexes)

    def _reference(self, component: Component) -> Path | None:
        """Return the embeddings of the corpus that all data sets are read against, if one is."""
        if self._options.reference is None:
            return None
        against = Path(self._options.reference)
        found = self._vectors(corpora.key(against), component)
        return found or self._embeddings(against, component)

    def _tokens(self, corpus: Path | None, component: Component) -> Path:
        assert corpus is not None
        return self._work.tokens(corpus, component, self._options.tokenizer)

    def _embeddings(self, corpus: Path | None, component: Component) -> Path:
        assert corpus is not None
        one = self._encoding.model_copy(update={"components": (component,)})
        return self._work.embeddings(corpus, one)

    def _pass(self, pool: str, component: Component) -> Path | None:
        """Return the token pass of a corpus, of the tokenizer that is asked for."""
        name = tokenizer_name(self._options.tokenizer)
        revision = tokenizer_revision(name) or load_tokenizer(name).revision
        for place, manifest in self._made_from(pool, "tokens"):
            if (
                manifest["config"]["component"] == component
                and manifest["inputs"]["tokenizer"] == revision
            ):
                return place
        return None

    def _vectors(self, pool: str, component: Component) -> Path | None:
        """Return the embeddings of a corpus, of the encoder that is asked for."""
        asked = self._encoding
        files = locate(asked.encoder, asked.revision, download=False)
        for place, manifest in self._made_from(pool, "embeddings"):
            made = manifest["config"]
            if (
                files is not None
                and manifest["inputs"]["encoder"] == files.revision
                and component in made["components"]
                and (made["backend"], made["prompt_name"]) == (asked.backend, asked.prompt_name)
                and asked.precision in ("auto", made["precision"])
            ):
                return place
        return None

    def _indexes(self, pool: str, chosen_by: str | None) -> dict[str, Path]:
        """Return the incidences of a corpus by strategy.

        Of several for one strategy (other bands, other numbers of clusters) the one that a subset
        was selected with counts, then the one whose key comes first.
        """
        found: dict[str, Path] = {}
        made = self._made_from(pool, "index")
        made.sort(key=lambda one: folder.contents_key(one[1]) != chosen_by)
        for place, manifest in made:
            found.setdefault(manifest["config"]["strategy"], place)
        return found

    def _made_from(self, pool: str, stage: str) -> list[tuple[Path, dict[str, Any]]]:
        """Return the finished folders of the work folder that were made from a corpus."""
        if (pool, stage) not in self._found:
            self._found[pool, stage] = [
                (place, manifest)
                for place, manifest in self._finished(stage)
                if manifest["inputs"].get("corpus") == pool
            ]
        return list(self._found[pool, stage])

    def _finished(self, stage: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for place in sorted((self._work.root / stage).glob("*")):
            if folder.stage_of(place) is not None:
                yield place, folder.read_manifest(place)
