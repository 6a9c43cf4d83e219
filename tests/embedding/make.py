"""A corpus folder and tiny encoders with random weights, made on the spot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa

from sft_diversity.core import drafts, folder, schema
from sft_diversity.core.hashing import text_key

WORDS = ["red", "green", "blue", "small", "large", "cat", "dog", "tree", "stone", "river"]
WORDS += ["sings", "runs", "asks", "why", "how", "when"]


def corpus(out: Path, pairs: list[tuple[str, str]], shards: int = 2) -> Path:
    """Write a finished ingest folder of (instruction, response) pairs."""
    rows = sorted((text_key(*pair), *pair) for pair in pairs)
    draft = drafts.open_draft(out, drafts.Work("ingest", 1, {"rows": text_key(repr(rows))}, {}))
    for shard in range(shards):
        part = [row for row in rows if int(row[0][0], 16) * shards // 16 == shard]
        columns = {
            "id": [row[0] for row in part],
            "source": ["made"] * len(part),
            "source_file": ["made.json"] * len(part),
            "source_row": list(range(len(part))),
            "messages": [[] for _ in part],
            "instruction": [row[1] for row in part],
            "response": [row[2] for row in part],
            "meta": ["{}"] * len(part),
        }
        draft.write_table(f"samples/{shard}.parquet", pa.table(columns, schema=schema.SAMPLES))
    draft.commit(rows=folder.rows_account(len(rows), len(rows), {}))
    return out


def pairs(n: int, start: int = 0) -> list[tuple[str, str]]:
    """Return n distinct pairs of 1 to some twenty words; every third response repeats."""
    made = []
    for i in range(start, start + n):
        chosen = [WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(1 + i % 19)]
        made.append((f"{i} " + " ".join(chosen), "red" if i % 3 == 0 else f"blue {i} {chosen[0]}"))
    return made


def encoder(out: Path, pooling: str = "mean", prompts: dict[str, str] | None = None) -> Path:
    """Save a two-layer BERT with random weights as a sentence-transformers model."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789:.")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{c}" for c in letters)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    base = out.with_name(out.name + "-base")
    BertModel(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=32)
    head = Pooling(16, pooling_mode=pooling)
    SentenceTransformer(modules=[transformer, head], prompts=prompts or {}).save(str(out))
    shutil.rmtree(base)
    return out


def static(out: Path) -> Path:
    """Save a table of random vectors, of which a text has the mean: no transformer."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    words = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=16)]).save(str(out))
    return out


def modules(path: Path, entries: list[dict[str, object]]) -> None:
    """Write a modules.json by hand."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "modules.json").write_text(json.dumps(entries), "utf-8")
