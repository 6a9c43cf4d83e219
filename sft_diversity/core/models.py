"""Models by name, looked at without loading them: folders here, ids of the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from sft_diversity.core.errors import UsageError
from sft_diversity.core.hub import reason, talking

#: A tokenizer is in one of these; `vocab.json` comes with `merges.txt`.
_TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder has the files of a tokenizer."""
    return any((folder / name).is_file() for name in _TOKENIZERS)


def looks_local(name: str) -> bool:
    """Whether a name can only mean a place here: no Hub id begins so or has as many parts."""
    return not name or name.startswith((".", "/", "~", os.sep)) or name.count("/") > 1


def check_on_hub(name: str, revision: str | None, use: str) -> None:
    """Refuse a name that is neither in the Hub's cache nor known to the Hub; fetches nothing.

    Parameters
    ----------
    use : str
        Stage and what the model is for: `embed: encoder`.

    Raises
    ------
    UsageError
        Also where the Hub cannot be asked (offline, no network).
    """
    from huggingface_hub import HfApi, snapshot_download

    with talking():
        try:
            snapshot_download(name, revision=revision, local_files_only=True)
        except Exception:  # hub clients raise dozens of kinds; all mean: not here
            try:
                HfApi().model_info(name, revision=revision)
            except Exception as fault:
                raise UsageError(
                    f"{use} `{name}` is no folder or file here, not in the Hub's cache, and the "
                    f"Hub does not give it: {reason(fault)}"
                ) from None
