"""Train a small offline base model: a 16k byte-level BPE and a 7 M parameter Llama.

    python pipelines/tiny_base.py --recipe tiny-base
    python pipelines/tiny_base.py --recipe tiny-base-20m

Reads `../shared/data/pretrain` (plain English) and `../shared/data/sources` (instruction records,
for the vocabulary only) and writes a model folder that `AutoModelForCausalLM` and `AutoTokenizer`
load: bf16 weights, tokenizer, model card, and `manifest.json` last. Only text whose licence lets
the weights be passed on is read; what is left out is listed with its reason. Nothing of the
evaluation sets is touched.

The work folder keeps the vocabulary, the token blocks and a checkpoint every two minutes. Killed,
the same command goes on from there and ends with the weights of an undisturbed run (same machine,
versions and `--threads`).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from sft_diversity.core import machine, stopping
from sft_diversity.core.drafts import Draft, Work, open_draft
from sft_diversity.core.errors import DataError, SftdivError, UsageError
from sft_diversity.core.hashing import content_key, file_sha256
from sft_diversity.core.progress import say
from sft_diversity.training.uba import uba_factor

VERSION = 2  # of what this recipe makes; bump it when equal inputs would give another model
EOS, PAD = "<|endoftext|>", "<|pad|>"
SPECIAL = [EOS, PAD, "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]  # ids 0 to 5

# GPT-2's rule with digits one by one and curly apostrophes taken as straight ones. A mark of
# punctuation never joins a word, so that `(word` and `word` hold the same token.
CURLY = (
    r"(?i:['’](?:s|t|re|ve|m|ll|d))(?!\p{L})| ?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Qwen-2's rule to the letter, which tokenizers that are quick know by it.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Part:
    """A corpus the model learns from: its licence and origin."""

    licence: str
    origin: str


PARTS = {
    "eltec": Part(
        "texts in the public domain; markup (not used) CC-BY-4.0",
        "European Literary Text Collection (ELTeC), English novels of 1840-1920, COST Action "
        "CA16204, https://github.com/COST-ELTeC/ELTeC-eng",
    ),
    "movie_reviews": Part(
        "CC-BY-4.0",
        "Movie Review Data, polarity dataset v2.0, by Bo Pang and Lillian Lee, from NLTK data, "
        "https://www.cs.cornell.edu/people/pabo/movie-review-data/",
    ),
    "masc": Part(
        "MASC: education, research and development, including commercial",
        "Manually Annotated Sub-Corpus of the American National Corpus, from NLTK data, "
        "https://anc.org/data/masc/",
    ),
    "state_union": Part("public domain", "State of the Union addresses 1945-2006, from NLTK data"),
    "inaugural": Part(
        "public domain", "inaugural addresses of presidents of the USA, from NLTK data"
    ),
    "shakespeare": Part("public domain", "eight plays of Shakespeare, from NLTK data"),
    "genesis": Part(
        "public domain",
        "Genesis in the King James and World English Bible versions, from NLTK data",
    ),
}
EXCLUDED_PARTS = {
    "brown": "licence: non-commercial purposes",
    "abc": "licence not stated",
    "webtext": "licence not stated",
}
FREE_LICENCES = ("MIT", "Apache-2.0", "CC-BY-SA")
MAX_NOVEL_CHARS = 150_000  # of each novel, for the vocabulary: else they would be most of its text
PROMPTS = ("The president said that", "It was a cold morning when", "This film is about")
T0_EVERY = 4  # one in four T0 records for the vocabulary: they are two thirds of the characters


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, beside the inputs, versions and thread count."""

    vocab_size: int = 16_384
    hidden_size: int = 256
    intermediate_size: int = 704
    layers: int = 4
    heads: int = 4
    max_positions: int = 1024
    context: int = 512  # tokens a block
    batch: int = 4  # blocks a step
    steps: tuple[int, ...] = (1200, 600)  # of each phase; the second is a warm restart
    warmup_steps: int = 80  # of each phase
    learning_rate: float = 2.5e-3  # at the peak of each phase; falls to 0
    phi: float = 1.0  # of the UBA schedule; 2 is cosine, less stays high for longer
    weight_decay: float = 0.1  # on matrices; none on norms
    beta1: float = 0.9
    beta2: float = 0.99
    max_grad_norm: float = 1.0
    seed: int = 17
    heldout_every: int = 40  # about one document in so many, by the hash of its id
    max_heldout_blocks: int = 64  # a part; two novels alone would be most of the measure
    dtype: str = "float32"  # of the arithmetic: bfloat16 (autocast) where the CPU has it
    compile: bool = True
    split: str = CURLY  # what the vocabulary is made of, before pairs are merged
    shares: Mapping[str, float] = field(
        default_factory=lambda: {
            "eltec": 0.33, "movie_reviews": 0.27, "masc": 0.20, "state_union": 0.12,
            "inaugural": 0.05, "shakespeare": 0.02, "genesis": 0.01,
        }
    )  # of the parts in the training tokens  # fmt: skip

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return sum(self.steps) * self.batch * self.context


RECIPES = {
    "tiny-base": Recipe(),
    # Novels once, the smaller parts about twice.
    "tiny-base-20m": Recipe(
        steps=(10_000,),
        warmup_steps=200,
        split=QWEN2,
        shares={
            "eltec": 0.70, "movie_reviews": 0.16, "masc": 0.055, "state_union": 0.045,
            "inaugural": 0.018, "shakespeare": 0.017, "genesis": 0.005,
        },
    ),
}  # fmt: skip


Blocks = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Document:
    """One text of the pre-training files; `part` is a key of `PARTS`."""

    id: str
    part: str
    text: str


# --- inputs -------------------------------------------------------------------------------------


def is_heldout(document_id: str, every: int) -> bool:
    """Whole documents are held out, by the hash of their id: stable when other text joins."""
    return int(hashlib.sha256(document_id.encode()).hexdigest()[:8], 16) % every == 0


def read_documents(
    folder: Path, every: int
) -> tuple[list[Document], list[Document], dict[str, Any]]:
    """Read the permitted pre-training text, ordered by id.

    Returns
    -------
    training documents, held-out documents, and counts of what was left out per reason.
    """
    kept: list[Document] = []
    dropped: dict[str, int] = {}
    for path in sorted(folder.glob("*.jsonl.zst")):
        with pa.input_stream(str(path), compression="zstd") as stream:
            lines = stream.read().decode("utf-8").split("\n")
        for line in filter(None, lines):
            row = json.loads(line)
            part = row["id"].split("/")[0] if "/" in row["id"] else "eltec"
            reason = EXCLUDED_PARTS.get(part)
            if reason is None and part not in PARTS:
                raise DataError(f"tiny-base: {path.name} has a part {part!r} of unknown licence")
            if reason is None and part == "masc" and "@" in row["text"]:
                reason = "e-mail and tweets: persons' addresses, spam"
            if reason:
                dropped[f"{part}: {reason}"] = dropped.get(f"{part}: {reason}", 0) + 1
            else:
                kept.append(Document(row["id"], part, row["text"]))
    kept.sort(key=lambda d: d.id)
    train = [d for d in kept if not is_heldout(d.id, every)]
    heldout = [d for d in kept if is_heldout(d.id, every)]
    return train, heldout, dropped


def free_sources(folder: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the instruction sources whose licence allows redistribution, and why others do not."""
    used: list[dict[str, Any]] = []
    excluded: dict[str, str] = {}
    for source in yaml.safe_load((folder / "MANIFEST.yaml").read_text("utf-8"))["sources"]:
        licence = str(source["licence"])
        if licence.startswith(FREE_LICENCES) and "limits use" not in licence:
            used.append(source)
        else:
            excluded[source["name"]] = f"licence: {licence}"
    return used, excluded


def strings(value: Any) -> Iterator[str]:
    """Every text inside a JSON value, ids left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "id":
                yield from strings(item)


def source_texts(folder: Path, source: dict[str, Any]) -> Iterator[str]:
    """Texts of one instruction source, whatever its format: the vocabulary needs no structure."""
    every = T0_EVERY if source["name"].startswith("t0_") else 1
    for path in sorted(folder.glob(source["glob"])):
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
        if path.name.endswith(".json.gz"):
            rows: list[Any] = json.loads(text)
        elif path.name.endswith(".tsv.gz"):
            rows = [line.replace("\\n", "\n").split("\t") for line in text.split("\n")]
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        for row in rows[::every]:
            for piece in strings(row):
                yield piece.replace(EOS, "")


# --- vocabulary and blocks ------------------------------------------------------------------------


def train_tokenizer(texts: Iterator[str], recipe: Recipe) -> Any:
    """Train a byte-level BPE of exactly as many entries as asked, the special tokens first."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(recipe.split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    if bpe.get_vocab_size() != recipe.vocab_size:
        raise DataError(
            f"tiny-base: the text gives {bpe.get_vocab_size():,} tokens, "
            f"not {recipe.vocab_size:,}; lower --vocab-size or add text"
        )
    fast: Any = PreTrainedTokenizerFast  # its constructor has no types
    return fast(
        tokenizer_object=bpe,
        bos_token=EOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=SPECIAL[2:],
        model_max_length=recipe.max_positions,
        clean_up_tokenization_spaces=False,
    )


def vocabulary_texts(train: list[Document], sources: Path) -> Iterator[str]:
    """What the vocabulary is trained on: training documents, then instruction records."""
    for document in train:
        yield document.text[:MAX_NOVEL_CHARS] if document.part == "eltec" else document.text
    for source in free_sources(sources)[0]:
        yield from source_texts(sources, source)


def encode(tokenizer: Any, documents: list[Document]) -> list[Blocks]:
    """Return the token ids of each document."""
    return [
        np.array(
            tokenizer.backend_tokenizer.encode(d.text, add_special_tokens=False).ids, np.uint16
        )
        for d in documents
    ]


def join(encoded: list[Blocks], eos: int) -> Blocks:
    """Join documents into one stream of ids: eos before each, one more at the end."""
    end = np.array([eos], dtype=np.uint16)
    return np.concatenate([end, *(piece for ids in encoded for piece in (ids, end))])


def to_blocks(stream: Blocks, context: int) -> Blocks:
    """Cut a stream into rows of context + 1 tokens: inputs and, one to the right, targets.

    Neighbouring rows share one token, so that every token is a target once; the rest is dropped.
    """
    rows = max((len(stream) - 1) // context, 0)
    starts = np.arange(rows)[:, None] * context
    blocks: Blocks = stream[starts + np.arange(context + 1)]
    return blocks


def training_blocks(
    tokenizer: Any, documents: list[Document], recipe: Recipe
) -> tuple[Blocks, dict[str, Any]]:
    """Draw batch blocks for every step by the shares of the parts, in training order.

    Each phase shuffles documents and blocks anew; within one, a part too small for its share is
    gone through again in another order. Returns the blocks, shape (steps * batch, context + 1), and
    per part the tokens at hand and the tokens trained on.
    """
    present = {p: [d for d in documents if d.part == p] for p in PARTS}
    encoded = {p: encode(tokenizer, chosen) for p, chosen in present.items() if chosen}
    figures = {
        part: {
            "documents": len(present[part]),
            "characters": sum(len(d.text) for d in present[part]),
            "tokens": sum(len(ids) + 1 for ids in pieces),
            "tokens_trained": 0,
        }
        for part, pieces in encoded.items()
    }
    phases = []
    for phase, steps in enumerate(recipe.steps):
        rng = np.random.default_rng(recipe.seed + phase)
        drawn = []
        for part, quota in quotas(list(encoded), steps * recipe.batch, recipe.shares).items():
            order = rng.permutation(len(encoded[part]))
            stream = join([encoded[part][i] for i in order], tokenizer.eos_token_id)
            blocks = to_blocks(stream, recipe.context)
            if quota and not len(blocks):
                raise DataError(f"tiny-base: {part} has {len(stream):,} tokens, less than a block")
            rounds = [rng.permutation(len(blocks)) for _ in range(-(-quota // len(blocks)))]
            drawn.append(blocks[np.concatenate([*rounds, np.empty(0, np.intp)])[:quota]])
            figures[part]["tokens_trained"] += quota * recipe.context
        mixed = np.concatenate(drawn)
        phases.append(mixed[rng.permutation(len(mixed))])
    return np.concatenate(phases), figures


def quotas(parts: list[str], total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Share `total` blocks out among `parts`; the first takes what rounding leaves."""
    scale = sum(shares[part] for part in parts)
    shared = {part: round(total * shares[part] / scale) for part in parts}
    shared[parts[0]] += total - sum(shared.values())
    return shared


# --- training -----------------------------------------------------------------------------------


def learning_rate(step: int, recipe: Recipe) -> float:
    """Learning rate of `step`, counted from 0: in each phase linear warm-up, then UBA down to 0."""
    for steps in recipe.steps:
        if step < steps:
            break
        step -= steps
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    decay_steps = steps - recipe.warmup_steps
    return recipe.learning_rate * uba_factor(step - recipe.warmup_steps, decay_steps, recipe.phi)


def build_model(recipe: Recipe) -> Any:
    """Make a fresh float32 Llama with tied embeddings from the recipe's seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.max_positions,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def make_optimizer(model: Any, recipe: Recipe) -> Any:
    """AdamW, fused; matrices decay, norms do not."""
    import torch

    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        fused=True,
    )


def save_checkpoint(work: Path, step: int, model: Any, optimizer: Any, log: dict[str, Any]) -> None:
    """Write the state after `step` steps under a temporary name, rename it, drop older ones."""
    import torch
    from safetensors.torch import save_file

    folder = work / f"checkpoint-{step:06d}"
    partial = work / f"{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file(dict(model.named_parameters()), partial / "weights.safetensors")
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    (partial / "log.json").write_text(json.dumps(log), "utf-8")
    for file in partial.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    partial.rename(folder)
    for old in work.glob("checkpoint-??????"):
        if old != folder:
            shutil.rmtree(old)


def load_checkpoint(work: Path, model: Any, optimizer: Any) -> tuple[int, dict[str, Any]]:
    """Restore the last complete checkpoint; return its step (0: none) and log."""
    import torch
    from safetensors.torch import load_file

    folders = sorted(work.glob("checkpoint-??????"))
    if not folders:
        return 0, {"seconds": 0.0, "losses": []}
    weights = load_file(folders[-1] / "weights.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    optimizer.load_state_dict(torch.load(folders[-1] / "optimizer.pt", weights_only=True))
    log: dict[str, Any] = json.loads((folders[-1] / "log.json").read_text("utf-8"))
    return int(folders[-1].name.split("-")[1]), log


def train(
    blocks: Blocks, recipe: Recipe, work: Path, checkpoint_s: float
) -> tuple[Any, dict[str, Any]]:
    """Train on `blocks` in order; resume from `work` where it holds a checkpoint.

    There is no dropout and the order of blocks is fixed beforehand, so weights and optimizer state
    are the whole state. Returns the model and the log: seconds, and per step the loss in nats a
    token.
    """
    import torch

    total = sum(recipe.steps)
    model = build_model(recipe)
    optimizer = make_optimizer(model, recipe)
    done, log = load_checkpoint(work, model, optimizer)
    say(f"training: {'resumed at' if done else 'from'} step {done:,} of {total:,}")
    forward = torch.compile(model, dynamic=False) if recipe.compile else model
    model.train()
    told = saved = time.monotonic()
    told_step = done
    for step in range(done, total):
        rows = blocks[step * recipe.batch : (step + 1) * recipe.batch].astype(np.int64)
        inputs, targets = torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, 1:].copy())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
            logits = forward(input_ids=inputs).logits
            loss: Any = torch.nn.functional.cross_entropy(
                logits.view(-1, recipe.vocab_size).float(), targets.view(-1)
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        log["losses"].append(round(loss.item(), 4))
        if not math.isfinite(log["losses"][-1]):
            raise DataError(f"tiny-base: loss is not finite at step {step}; lower --learning-rate")
        now = time.monotonic()
        if (step + 1) % 10 == 0 or step + 1 == total:
            rate = (step + 1 - told_step) / (now - told)
            told, told_step = now, step + 1
            say(
                f"step {step + 1:,}/{total:,}  loss {np.mean(log['losses'][-10:]):.3f}  "
                f"{rate * recipe.batch * recipe.context:,.0f} tokens/s  "
                f"eta {(total - step - 1) / rate / 60:.1f} min"
            )
        if now - saved >= checkpoint_s or step + 1 == total or stopping.requested():
            log["seconds"] += now - saved
            save_checkpoint(work, step + 1, model, optimizer, log)
            saved = now
            stopping.safe_point("tiny-base")
    return model.eval(), log


# --- what it came to ------------------------------------------------------------------------------


def heldout_figures(
    model: Any, tokenizer: Any, documents: list[Document], recipe: Recipe
) -> dict[str, Any]:
    """Perplexity per token and bits per byte on held-out documents, per part and over all.

    Blocks do not see what came before them, so the figures err on the high side. The end of a
    document counts as a token of no bytes.
    """
    import torch

    specials = set(tokenizer.all_special_ids)
    # in a byte-level vocabulary one character of an entry is one byte of text
    token_bytes = np.array(
        [
            0 if i in specials else len(token)
            for i, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
        ]
    )
    parts = {}
    for part in PARTS:
        chosen = [d for d in documents if d.part == part]
        blocks = to_blocks(join(encode(tokenizer, chosen), tokenizer.eos_token_id), recipe.context)
        blocks = blocks[: recipe.max_heldout_blocks]
        if not len(blocks):
            continue
        nats = 0.0
        for start in range(0, len(blocks), recipe.batch):
            rows = torch.from_numpy(blocks[start : start + recipe.batch].astype(np.int64))
            with torch.inference_mode():
                logits = model(input_ids=rows[:, :-1]).logits.flatten(0, 1).float()
            nats += float(
                torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten(), reduction="sum")
            )
        targets = blocks[:, 1:]
        parts[part] = {
            "documents": len(chosen),
            "tokens": targets.size,
            "bytes": int(token_bytes[targets].sum()),
            "nats": nats,
        }
    if not parts:
        raise DataError("tiny-base: no held-out document is as long as one block; add text")
    total = {key: sum(p[key] for p in parts.values()) for key in next(iter(parts.values()))}
    return {name: _rates(figures) for name, figures in [*parts.items(), ("all", total)]}


def _rates(figures: dict[str, Any]) -> dict[str, Any]:
    nats = figures.pop("nats")
    return figures | {
        "perplexity": round(math.exp(nats / figures["tokens"]), 2),
        "bits_per_byte": round(nats / math.log(2) / figures["bytes"], 4),
    }


def sample_text(model: Any, tokenizer: Any, prompt: str, seed: int) -> str:
    """Continue `prompt` by 60 tokens, drawn at temperature 0.8 from the top 0.9."""
    import torch

    torch.manual_seed(seed)
    inputs = tokenizer(prompt, return_tensors="pt")
    out = model.generate(
        **inputs,
        max_new_tokens=60,
        do_sample=True,
        temperature=0.8,
        top_p=0.9,
        pad_token_id=tokenizer.pad_token_id,
    )
    return str(tokenizer.decode(out[0], skip_special_tokens=True))


def model_card(
    name: str, recipe: Recipe, inputs: dict[str, Any], result: dict[str, Any], samples: list[str]
) -> str:
    """Write the README of the model folder."""
    heldout, trained = result["heldout"], result["parts"]
    parts = "\n".join(
        f"| {name} | {trained[name]['tokens_trained']:,} | {PARTS[name].licence} "
        f"| {PARTS[name].origin} |"
        for name in trained
    )
    figures = "\n".join(
        f"| {name} | {f['tokens']:,} | {f['perplexity']:.1f} | {f['bits_per_byte']:.3f} |"
        for name, f in heldout.items()
    )
    vocabulary = "\n".join(
        f"| {name} | {s['licence']} | {s['repository']} |"
        for name, s in inputs["vocabulary_sources"].items()
    )
    left_out = "\n".join(f"- {reason}" for reason in result["dropped_documents"])
    quotes = "\n\n".join(f"> {' '.join(text.split())}" for text in samples)
    return f"""---
language: en
library_name: transformers
pipeline_tag: text-generation
license: cc-by-4.0
---

# {name}

A base language model of {result["parameters"]:,} parameters for **offline tests and demos** of
fine-tuning: it loads in a second, trains on a laptop, and needs no download. It is not a useful
assistant. It has seen {recipe.tokens:,} tokens, next to nothing: it writes words and short phrases
of English, keeps no thread, knows no facts, and echoes its sources, old-fashioned views and all.

Llama architecture: {recipe.layers} layers of width {recipe.hidden_size}, {recipe.heads} heads, tied
embeddings, {recipe.max_positions:,} positions (trained on {recipe.context}). Byte-level BPE of
{recipe.vocab_size:,} entries, digits one by one. `{EOS}` begins and ends texts; `{PAD}` and the
four role tokens {", ".join(f"`{token}`" for token in SPECIAL[2:])} are single entries that
pre-training never showed. There is no chat template: fine-tuning brings one. Weights are stored as
bfloat16 and load as float32.

Made by `python pipelines/tiny_base.py --recipe {name}`; `manifest.json` has every setting, input
hash and figure.

## Held-out figures

Whole documents, chosen by the hash of their id and used neither for training nor for the
vocabulary; at most {recipe.max_heldout_blocks} blocks of {recipe.context} tokens a part. A uniform
guess has perplexity {recipe.vocab_size:,}.

| part | tokens | perplexity per token | bits per byte |
| --- | ---: | ---: | ---: |
{figures}

## How it writes

Drawn at temperature 0.8, top-p 0.9, first draw of a fixed seed:

{quotes}

## Training text and attribution

| part | tokens trained | licence | origin |
| --- | ---: | --- | --- |
{parts}

Licence texts: [CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/),
[CC-BY-SA-3.0](https://creativecommons.org/licenses/by-sa/3.0/). The texts were stripped of markup
and cut into tokens and blocks. Left out (documents counted in
the manifest):

{left_out}

## Vocabulary

The BPE was trained on the training documents above (at most {MAX_NOVEL_CHARS:,} characters of a
novel) and on the texts of these instruction records; the model's weights never saw the latter.

| source | licence | repository |
| --- | --- | --- |
{vocabulary}

Dolly is *databricks-dolly-15k*, Copyright (2023) Databricks, Inc., CC-BY-SA 3.0, with material from
Wikipedia. One in {T0_EVERY} of the T0 records was read.
"""


# --- the whole way --------------------------------------------------------------------------------


def describe_inputs(pretrain: Path, sources: Path) -> dict[str, Any]:
    """Hashes and licences of what is read, reasons for what is not."""
    used, excluded = free_sources(sources)
    vocabulary = {
        source["name"]: {
            "licence": source["licence"],
            "repository": source.get("repository", ""),
            "commit": source.get("commit", ""),
            "sha256": {
                path.name: file_sha256(path) for path in sorted(sources.glob(source["glob"]))
            },
        }
        for source in used
    }
    for entry in vocabulary.values():  # T0 has 294 files: one hash stands for a long list
        if len(entry["sha256"]) > 10:
            entry["sha256"] = {f"{len(entry['sha256'])} files": content_key(entry["sha256"])}
    return {
        "pretrain": {path.name: file_sha256(path) for path in sorted(pretrain.glob("*.jsonl.zst"))},
        "parts": {name: asdict(part) for name, part in PARTS.items()},
        "excluded_parts": EXCLUDED_PARTS,
        "vocabulary_sources": vocabulary,
        "excluded_sources": excluded,
    }


def plan(recipe: Recipe, inputs: dict[str, Any]) -> Work:
    """What the weights depend on; prose about the parts may change without a new training."""
    vocabulary = inputs["vocabulary_sources"].items()
    return Work(
        "tiny-base",
        VERSION,
        inputs["pretrain"] | {name: content_key(entry["sha256"]) for name, entry in vocabulary},
        asdict(recipe),
    )


def prepare(
    recipe: Recipe, documents: list[Document], sources: Path, work: Path
) -> tuple[Any, Blocks, dict[str, Any]]:
    """Make the vocabulary and the blocks, or take them from the work folder."""
    from transformers import PreTrainedTokenizerFast

    vocabulary, ready = work / "tokenizer", work / "blocks.json"
    if vocabulary.exists():
        say("vocabulary: reused")
    else:
        say("vocabulary: training the byte-level BPE")
        tokenizer = train_tokenizer(vocabulary_texts(documents, sources), recipe)
        tokenizer.save_pretrained(work / "tokenizer.partial")
        (work / "tokenizer.partial").rename(vocabulary)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(vocabulary)
    if ready.exists():
        say("blocks: reused")
    else:
        say("blocks: tokenizing")
        blocks, parts = training_blocks(tokenizer, documents, recipe)
        np.save(work / "blocks.npy", blocks)
        partial = ready.with_suffix(".partial")  # the last file: with it, the others are whole
        partial.write_text(json.dumps(parts), "utf-8")
        partial.rename(ready)
    return tokenizer, np.load(work / "blocks.npy"), json.loads(ready.read_text("utf-8"))


def write_model(draft: Draft, model: Any, tokenizer: Any) -> Any:
    """Save weights as bfloat16 and the tokenizer; return the model as a user will load it."""
    import torch
    from transformers import AutoModelForCausalLM

    model.config.use_cache = True
    model.to(torch.bfloat16).save_pretrained(draft.path)
    tokenizer.save_pretrained(draft.path)
    # `from_pretrained` follows config.dtype: float32, since bfloat16 master weights lose small
    # updates in fine-tuning, and since most CPUs compute float32 faster
    config = draft.path / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text("utf-8")) | {"dtype": "float32"}, indent=2) + "\n",
        "utf-8",
    )
    (draft.path / "model.safetensors").chmod(0o644)  # safetensors writes for the owner alone
    loaded: Any = AutoModelForCausalLM.from_pretrained(draft.path, trust_remote_code=False)
    return loaded.eval()


def make(asked: argparse.Namespace, recipe: Recipe) -> None:
    """Go the whole way, or find it gone: a finished folder of equal inputs is left as it is."""
    import torch

    machine.keep_freed_memory()
    torch.set_num_threads(asked.threads)
    inputs = describe_inputs(asked.pretrain, asked.sources)
    todo = plan(recipe, inputs)
    draft = open_draft(asked.out, todo)
    say(f"tiny-base: {draft.reason}")
    if draft.reused:
        return
    work: Path = asked.work
    work.mkdir(parents=True, exist_ok=True)
    key = work / "key"
    if key.exists() and key.read_text("utf-8") != todo.key:
        raise UsageError(
            f"tiny-base: {work} belongs to another recipe or other inputs; name another --work or "
            "delete it"
        )
    key.write_text(todo.key, "utf-8")
    documents, heldout, dropped = read_documents(asked.pretrain, recipe.heldout_every)
    tokenizer, blocks, parts = prepare(recipe, documents, asked.sources, work)
    model, log = train(blocks, recipe, work, asked.checkpoint_s)
    say("held-out documents: measuring")
    model = write_model(draft, model, tokenizer)
    result = {
        "parameters": model.num_parameters(),
        "tokens_seen": recipe.tokens,
        "parts": parts,
        "dropped_documents": dropped,
        "losses": thinned(log["losses"]),
        "heldout": heldout_figures(model, tokenizer, heldout, recipe),
        "licences": inputs,
    }
    samples = [sample_text(model, tokenizer, prompt, recipe.seed) for prompt in PROMPTS]
    with draft.writing("README.md") as path:
        path.write_text(model_card(asked.out.name, recipe, inputs, result, samples), "utf-8")
    draft.commit(
        seeds={"seed": recipe.seed},
        result=result,
        run={"training_seconds": round(log["seconds"]), "threads": asked.threads},
    )
    overall = result["heldout"]["all"]
    say(
        f"tiny-base: {asked.out}, held-out perplexity {overall['perplexity']:.1f}, "
        f"{overall['bits_per_byte']:.3f} bits per byte"
    )


def thinned(losses: list[float]) -> dict[str, float]:
    """Mean training loss, nats a token, of the steps up to each twelfth of the run."""
    edges = sorted({round(len(losses) * i / 12) for i in range(13)})
    return {
        str(end): round(float(np.mean(losses[start:end])), 3)
        for start, end in itertools.pairwise(edges)
    }


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; paths are relative to the folder it is given in, the checkout."""
    shared, dtype = Path("../shared/data"), machine.precision_for("auto", "cpu")
    parser = argparse.ArgumentParser(
        "tiny_base.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--recipe", choices=list(RECIPES), default="tiny-base-20m", help="(%(default)s)")
    add("--out", type=Path, help="model folder to write (data/models/RECIPE)")
    add("--pretrain", type=Path, default=shared / "pretrain", help="folder of *.jsonl.zst")
    add("--sources", type=Path, default=shared / "sources", help="folder with MANIFEST.yaml")
    add("--work", type=Path, help="checkpoints; may be deleted (.sftdiv/RECIPE)")
    add("--steps", type=int, nargs="+", help="of each phase; default here and below: the recipe's")
    add("--batch", type=int, help="blocks a step")
    add("--context", type=int, help="tokens a block")
    add("--vocab-size", type=int, help="BPE entries")
    add("--learning-rate", type=float, help="at the peak")
    add("--seed", type=int, help="of weights and order")
    add("--dtype", choices=["float32", "bfloat16"], default=dtype, help="arithmetic (%(default)s)")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile")
    add("--threads", type=int, default=machine.cores(), help="torch threads (%(default)s)")
    add("--checkpoint-s", type=float, default=120.0, help="seconds between checkpoints (120)")
    asked = parser.parse_args(arguments)
    asked.out = asked.out or Path("data/models") / asked.recipe
    asked.work = asked.work or Path(".sftdiv") / asked.recipe
    return asked


def recipe_of(asked: argparse.Namespace) -> Recipe:
    """Return the recipe asked for, with what the command line says otherwise."""
    base = RECIPES[asked.recipe]
    names = ("steps", "batch", "context", "vocab_size", "learning_rate", "seed", "dtype", "compile")
    given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    given["steps"] = tuple(given.get("steps", base.steps))
    given["warmup_steps"] = min(base.warmup_steps, min(given["steps"]) // 2)
    return replace(base, **given)


def main(arguments: list[str] | None = None) -> None:
    """Read the text, train, measure, write the model folder."""
    asked = parse_arguments(arguments)
    make(asked, recipe_of(asked))


if __name__ == "__main__":
    stopping.install()
    try:
        main()
    except SftdivError as fault:
        say(f"error: {fault}")
        raise SystemExit(fault.exit_code) from None
