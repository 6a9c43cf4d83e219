"""The work folder: what is made on the way to a subset, found again by what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from sft_diversity.cleaning import stage as cleaning
from sft_diversity.cleaning.config import CleanConfig
from sft_diversity.core import config as configs
from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.corpus import Component
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.core.parts import Part
from sft_diversity.core.progress import say
from sft_diversity.embedding import part as embedding_part
from sft_diversity.embedding import stage as embedding
from sft_diversity.embedding.locate import locate
from sft_diversity.embedding.stage import EmbedConfig
from sft_diversity.embedding.texts import text_encoder
from sft_diversity.ingestion import stage as ingesting
from sft_diversity.ingestion.config import IngestConfig
from sft_diversity.levels import part as index_part
from sft_diversity.levels import stage as indexing
from sft_diversity.levels import tokens as counting
from sft_diversity.levels.tokens import TokensConfig
from sft_diversity.scoring import quality as judging
from sft_diversity.scoring.quality import QualityConfig

TOKENIZER = "of the model to be trained: folder, tokenizer.json or Hub id; default: tiny-base's"
BAND = (
    "micro: samples that may hold a token type, LOW:HIGH; default: auto, 10:500 or wider where "
    "fewer than four fifths of the samples then hold a kind"
)
ENCODER = "sentence encoder: folder or Hub id; default: the packaged MiniLM"
Plan = dict[str, Any]
WHOLE = Part(1, 1)


class IndexOptions(indexing.IndexConfig):
    """Options of `index`; `embed` is for YAML files."""

    band: str | None = Field(default=None, description=BAND)  # a name for micro.band
    tokenizer: str | None = Field(default=None, description=TOKENIZER)
    encoder: str | None = Field(default=None, description=ENCODER)
    embed: dict[str, Any] = Field(default={}, description="further options of `embed`")

    @model_validator(mode="before")
    @classmethod
    def _band_of_micro(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("band") is None:
            return given
        options = {name: value for name, value in given.items() if name != "band"}
        if not str(options.get("strategy", "micro-response")).startswith("micro-"):
            raise ValueError("band works with a micro strategy only")
        return options | {"micro": {**dict(options.get("micro", {})), "band": given["band"]}}


class Work:
    """Makes, or finds, each folder of the work folder; in a dry run only plans them.

    A folder's name is a hash of what it is made from, so that other options never overwrite it.
    """

    def __init__(self, root: Path, dry_run: bool = False) -> None:
        self.root, self.dry_run = root, dry_run
        self.plan: list[Plan] = []
        self._rows = 0  # of a corpus that is only planned
        self._corpus_there = True

    def ahead(self) -> Work:
        """Return one that makes and plans nothing: what cannot be made, it refuses when asked for.

        So that a caller can walk over all that it is going to ask for before any of it is made.
        """
        rehearsal = Work(self.root, dry_run=True)
        rehearsal._corpus_there = False
        return rehearsal

    def corpus(
        self, sources: Sequence[str | Path], options: Mapping[str, Any], least: int = 0
    ) -> Path:
        """Return the one source if it is a corpus, else what `ingest` makes of them.

        Raw sources that cannot hold `least` samples are refused.

        A subset or an export is read back with the sources, licences and `meta` that it had.
        """
        if len(sources) == 1 and corpora.is_corpus(Path(sources[0])):
            return Path(sources[0])
        config = configs.build(IngestConfig, options, "key `ingest`")
        named = [str(source) for source in sources]
        out = self._place("corpus", sources=named, options=config.model_dump(mode="json"))
        if not corpora.is_corpus(out):
            ingesting.check_rows(sources, config, least)
        if self.dry_run:
            planned = ingesting.plan(sources, out, config)
            self._rows, self._corpus_there = planned["rows"], planned["cached"]
            self.note("ingest", out, planned)
        else:
            ingesting.ingest(sources, out, config, say)
        return out

    def tokens(self, corpus: Path, component: Component, tokenizer: str | None) -> Path:
        """Return the token pass of a component."""
        config = TokensConfig(component=component, tokenizer=tokenizer)
        counting.check(config)
        out = self._place(
            "tokens", corpus=self._key(corpus), options=config.model_dump(mode="json")
        )
        return self._made(
            "tokens",
            out,
            lambda: counting.plan(corpus, out, config),
            lambda: counting.tokens(
                corpus,
                out,
                config,
                say,
                ready=index_part.tokens_place(corpus, config, WHOLE, self.root).parent,
            ),
        )

    def embeddings(
        self, corpus: Path, config: EmbedConfig, named: str | Path | None = None
    ) -> Path:
        """Return the embeddings of a corpus; vectors of texts met before are not made again."""
        place = self._place(
            "embeddings", corpus=self._key(corpus), options=config.model_dump(mode="json")
        )
        out = Path(named) if named else place
        folder.check_out(out, "embed")
        embedding.check(config)
        return self._made(
            "embed",
            out,
            lambda: embedding.plan(corpus, out, config, self.root),
            lambda: self._embed(corpus, out, config),
        )

    def _embed(self, corpus: Path, out: Path, config: EmbedConfig) -> None:
        embedding_part.check(corpus, config, self.root)
        embedding.embed(corpus, out, config, self.root, say)

    def embeddings_part(self, corpus: Path, config: EmbedConfig, part: Part) -> Path:
        """Embed one part of a corpus into the cache of vectors; return the part's record."""
        embedding.check(config)
        return self._made(
            "embed",
            embedding_part.place(corpus, config, part, self.root),
            lambda: embedding_part.plan(corpus, config, part, self.root),
            lambda: embedding_part.embed_part(corpus, config, part, self.root, say),
        )

    def index(self, corpus: Path, options: IndexOptions, named: str | Path | None = None) -> Path:
        """Return the incidence of a strategy, with all that its level reads."""
        config, encoding = _index_configs(options)
        if named:
            folder.check_out(Path(named), indexing.STAGE)
        indexing.check(config, corpora.rows(corpus) if corpora.is_corpus(corpus) else None)
        inputs: dict[str, Any] = {}
        if config.level == "micro":
            inputs["tokens"] = self.tokens(corpus, config.component, options.tokenizer)
        elif config.level == "macro":
            inputs["embeddings"] = self.embeddings(corpus, encoding)
        else:
            embedding.check(encoding)
            inputs["answers"] = self.root / "answers"
            if self._corpus_there:
                encode = text_encoder(encoding)
                inputs["encode"], inputs["encoder"], inputs["encoder_facts"] = encode
                place = index_part.words_place(corpus, config.component, WHOLE, self.root)
                inputs["ready"] = place.parent
        out = (
            Path(named)
            if named
            else self._place(
                "index", corpus=self._key(corpus), options=options.model_dump(mode="json")
            )
        )
        return self._made(
            "index",
            out,
            lambda: indexing.plan(
                corpus,
                out,
                config,
                **{k: v for k, v in inputs.items() if k in ("tokens", "embeddings", "encoder")},
            ),
            lambda: indexing.index(corpus, out, config, **inputs, say=say),
        )

    def index_part(self, corpus: Path, options: IndexOptions, part: Part) -> Path:
        """Do one part of the costly pass behind a strategy's incidence; return its folder."""
        config, encoding = _index_configs(options)
        index_part.check(config)
        if config.level == "macro":
            return self.embeddings_part(corpus, encoding, part)
        out = self.index_part_place(corpus, options, part)
        if config.level == "meso":
            return self._made(
                "words",
                out,
                lambda: index_part.plan(corpus, out, part, "words"),
                lambda: index_part.words_part(corpus, config, part, self.root, say),
            )
        counted = TokensConfig(component=config.component, tokenizer=options.tokenizer)
        counting.check(counted)
        return self._made(
            "tokens",
            out,
            lambda: index_part.plan(corpus, out, part, "tokens"),
            lambda: index_part.tokens_part(corpus, counted, part, self.root, say),
        )

    def index_part_place(self, corpus: Path, options: IndexOptions, part: Part) -> Path:
        """Return the folder of a part of the costly pass; nothing is made."""
        config, encoding = _index_configs(options)
        if config.level == "macro":
            return embedding_part.place(corpus, encoding, part, self.root)
        if config.level == "meso":
            return index_part.words_place(corpus, config.component, part, self.root)
        counted = TokensConfig(component=config.component, tokenizer=options.tokenizer)
        return index_part.tokens_place(corpus, counted, part, self.root)

    def quality(self, corpus: Path, config: QualityConfig) -> Path:
        """Return the likelihoods of a corpus's samples under a local model."""
        judging.check(config)
        out = self._place(
            "quality", corpus=self._key(corpus), options=config.model_dump(mode="json")
        )
        return self._made(
            "quality",
            out,
            lambda: judging.plan(corpus, out, config),
            lambda: judging.quality(corpus, out, config, say),
        )

    def clean(
        self,
        corpus: Path,
        out: Path,
        config: CleanConfig,
        embeddings: Mapping[str, Path],
        encoding: Mapping[str, Any],
    ) -> Path:
        """Return the corpus without near-duplicates and contaminated samples."""
        return self._made(
            "clean",
            out,
            lambda: cleaning.plan(corpus, out, config, embeddings),
            lambda: cleaning.clean(corpus, out, config, embeddings, say, encoding),
        )

    def note(self, stage: str, out: Path, planned: Mapping[str, Any]) -> None:
        """Add a step to the plan."""
        done = planned.get("cached") or planned.get("state") == "reused"
        state = "cached" if done else "to do"
        self.plan.append({**planned, "stage": stage, "state": state, "out": str(out)})

    def _made(
        self,
        stage: str,
        out: Path,
        plan: Callable[[], Mapping[str, Any]],
        make: Callable[[], object],
    ) -> Path:
        if not self.dry_run:
            make()
        elif self._corpus_there:
            self.note(stage, out, plan())
        else:  # what is made of a corpus that is not there yet cannot be looked up, only counted
            self.note(stage, out, {"rows": self._rows})
        return out

    def _key(self, corpus: Path) -> str:
        return corpora.key(corpus) if self._corpus_there else "not made yet"

    def _place(self, stage: str, **made_from: Any) -> Path:
        return self.root / stage / content_key(made_from)[:16]


def _index_configs(options: IndexOptions) -> tuple[indexing.IndexConfig, EmbedConfig]:
    """Return the options of the index alone, and those of the embeddings that macro reads."""
    config = indexing.IndexConfig(
        **{name: getattr(options, name) for name in indexing.IndexConfig.model_fields}
    )
    encoding = configs.build(
        EmbedConfig, options.embed, "key `embed`", {"encoder": options.encoder}
    )
    if config.level == "macro":
        encoding = encoding.model_copy(update={"components": (config.component,)})
    return config, encoding


def encoding_recipe(given: Mapping[str, Any], encoder: str | None) -> dict[str, Any]:
    """Return encoder and options of `embed`, with the precision and commit they come to here."""
    config = configs.build(EmbedConfig, given, "key `embed`", {"encoder": encoder})
    files = locate(config.encoder, config.revision, download=False)
    options = config.model_dump(mode="json", exclude={"encoder", "components", "workers"})
    options |= {"precision": embedding.place(config).precision}
    if files is not None and files.commit is not None:
        options["revision"] = files.commit
    return {"encoder": config.encoder, "embed": options}


def made_from(subset: Path, root: Path, corpus: Path | None = None) -> dict[str, Path]:
    """Return the folders that a subset was made from, found by their contents.

    Parameters
    ----------
    subset : Path
    root : Path
        The work folder; what lies beside it is looked at too.
    corpus : Path, optional
        Where the corpus is, if neither of the two holds it.

    Returns
    -------
    dict
        `corpus`, and as far as they are there `incidence`, and `embeddings-<component>`.

    Raises
    ------
    UsageError
        If the corpus is not found, or is another.
    """
    inputs = folder.read_manifest(subset, "select")["inputs"]
    named = [corpus] if corpus is not None else []
    near = [path.parent for path in sorted(root.glob("*/*/manifest.json"))]
    beside = [path.parent for path in sorted(root.absolute().parent.glob("*/manifest.json"))]
    found: dict[str, Path] = {}
    for place in [*named, *near, *beside]:
        manifest = folder.read_manifest(place)
        if corpora.is_corpus(place) and corpora.key(place) == inputs["corpus"]:
            found.setdefault("corpus", place)
        elif manifest["stage"] == "index":
            if folder.contents_key(manifest) == inputs.get("incidence"):
                found.setdefault("incidence", place)
        elif manifest["stage"] == "embed" and manifest["inputs"]["corpus"] == inputs["corpus"]:
            for component in manifest["config"]["components"]:
                found.setdefault(f"embeddings-{component}", place)
    if "corpus" not in found:
        raise UsageError(
            f"{subset}: its corpus is not in {root} nor beside it; name it with --corpus, "
            "and the work folder with --work"
        )
    return found
