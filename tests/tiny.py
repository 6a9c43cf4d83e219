"""A tiny random Llama with a small BPE, made in a second: real parts for tests."""

from __future__ import annotations

from pathlib import Path

TEXT = (
    "What is the capital of France? The capital of France is Paris, which lies on the Seine. "
    "Give three tips for staying healthy. Eat well, sleep enough and move every day. "
    "Write a short poem about rain. Rain taps the roof, then the river, then the sea. "
    "Sort these numbers: 3, 1, 2. Sorted they are 1, 2, 3. How do plants grow? With light."
)
EOS, PAD = "<|endoftext|>", "<|pad|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]


def tokenizer(vocabulary: int = 384, roles: bool = True):
    """Return a byte-level BPE; without `roles` their headers are plain text to it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=bare(vocabulary, roles), bos_token=EOS, eos_token=EOS, pad_token=PAD
    )


def bare(vocabulary: int = 384, roles: bool = True):
    """Return it as `tokenizers` has it, which is imported sooner."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[EOS, PAD, *(ROLES if roles else [])],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([TEXT], trainer)
    return bpe


def model(vocabulary: int, hidden: int = 32, layers: int = 2, seed: int = 0):
    """Return a Llama with random weights, tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def save(folder: Path) -> Path:
    """Write model and tokenizer into `folder` and return it."""
    made = tokenizer()
    model(len(made)).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder
