"""Chat templates of the known families, cut to what a dialogue of texts needs, and a tokenizer."""

from __future__ import annotations

_ROLE = "{{ '<|im_start|>' + m.role + '\n' }}"
_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

#: Family -> template.
TEMPLATES = {
    "chatml": (
        "{% for m in messages %}" + _ROLE + "{{ m.content + '<|im_end|>\n' }}{% endfor %}" + _PROMPT
    ),
    # An empty thought stands before the last answer; of earlier answers thoughts are left out.
    "qwen3": (
        "{% for m in messages %}" + _ROLE + "{% set parts = m.content.split('</think>') %}"
        "{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n' + (parts[0].split('<think>')[-1].strip('\n') if parts | length > 1 else '')"
        " + '\n</think>\n\n' }}{% endif %}"
        "{{ (parts[-1].lstrip('\n') if m.role == 'assistant' else m.content) + '<|im_end|>\n' }}"
        "{% endfor %}" + _PROMPT
    ),
    "gemma": (
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' "
        "+ m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim "
        "+ '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    # One token may join the space that the template writes with the answer's first word.
    "mistral": (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    ),
    # Ends a turn with no token of its own, as templates of base models do.
    "plain": (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    ),
}
CONTROL = [
    "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
]  # fmt: skip


def tokenizer(family: str):
    """Return tiny-base's tokenizer with a family's template and all families' control tokens."""
    from transformers import AutoTokenizer

    from sft_diversity.core import resources

    loaded = AutoTokenizer.from_pretrained(resources.base_model())
    loaded.add_tokens(CONTROL, special_tokens=True)
    loaded.add_tokens(["<think>", "</think>"])
    loaded.chat_template = TEMPLATES[family]
    return loaded
