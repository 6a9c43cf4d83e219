"""Models in one GGUF file, unpacked once to a folder of safetensors beside the Hub's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft_diversity.core import drafts, extras, folder
from sft_diversity.core.hashing import file_key

STAGE, VERSION = "gguf", 1
# Half the space of float32; what it rounds is below what the file's own few bits rounded.
_DTYPE = "bfloat16"


def is_file(name: str | Path | None) -> bool:
    """Whether a model is named by a GGUF file."""
    return name is not None and str(name).endswith(".gguf") and Path(name).expanduser().is_file()


def _work(file: Path) -> tuple[Path, drafts.Work]:
    from huggingface_hub import constants

    work = drafts.Work(STAGE, VERSION, {"file": file_key(file)}, {"dtype": _DTYPE})
    return Path(constants.HF_HOME) / "sft-diversity" / STAGE / work.key, work


def unpacked(name: str | Path) -> Path | None:
    """Return the folder that a file was unpacked to, or None where it was not yet."""
    place, work = _work(Path(name).expanduser())
    done = folder.stage_of(place) == STAGE
    return place if done and folder.read_manifest(place)["key"] == work.key else None


def unpack(name: str | Path, use: str) -> Path:
    """Return a folder with a file's weights, tokenizer and chat template, made if it is not there.

    Costs the size of the weights in bfloat16, on the disk and twice in memory.

    Raises
    ------
    UsageError
        If the package that reads such files is not installed.
    """
    file = Path(name).expanduser()
    place, work = _work(file)
    draft = drafts.open_draft(place, work)
    if draft.reused:
        return place
    try:
        extras.require("gguf", f"{use} {file.name}", "name a folder of safetensors")
        _save(file, draft.path)
        draft.commit()
    finally:
        draft.release()
    return place


def _save(file: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    dtype = getattr(torch, _DTYPE)
    # Left packed, the weights would need kernels, which are code from the Hub.
    whole: Any = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, dtype=dtype, quantization_config=whole, trust_remote_code=False, **where
    )
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False, **where)
    tokenizer.save_pretrained(out)
