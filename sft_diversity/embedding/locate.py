"""Find an encoder's files and say which they are: packaged, a local folder, or a Hub id."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from sft_diversity.core import models
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_sha256
from sft_diversity.core.resources import packaged_encoder

PACKAGED = "packaged"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
#: What a sentence-transformers model is made of; pickled weights are left where they are.
_PATTERNS = ["*.json", "*.txt", "*.safetensors", "*.model"]
_SKIPPED_FOLDERS = ("onnx/*", "openvino/*", "coreml/*")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Files:
    """An encoder on disk.

    Attributes
    ----------
    name : str
        Goes into manifests: never an absolute path.
    folder : Path
    revision : str
        Content hash of the files, so that equal files share cached vectors wherever they lie.
    commit : str or None
        The Hub commit they came from.
    """

    name: str
    folder: Path
    revision: str
    commit: str | None = None


def locate(encoder: str, revision: str | None = None, *, download: bool = True) -> Files | None:
    """Return the encoder's files; None if the Hub has them, not we, and `download` is off.

    Parameters
    ----------
    encoder : str
        `packaged`, a folder, or a Hub id.
    revision : str or None
        Branch, tag or commit on the Hub; None: its main branch.

    Raises
    ------
    UsageError
        If it is none of these, or holds no safetensors; without a download also if the Hub does
        not know it.
    DataError
        If the Hub does not give it.
    """
    if encoder == PACKAGED:
        folder = packaged_encoder()
        return Files("all-MiniLM-L6-v2", folder, revision_of(folder))
    local = Path(encoder).expanduser()
    if local.is_dir():
        return Files(local.resolve().name, local, revision_of(local))
    if not _HUB_ID.fullmatch(encoder):
        raise UsageError(
            f"embed: encoder is `{encoder}`: no such folder; "
            "give a folder, a Hub id, or leave it out for the packaged one"
        )
    found = _from_hub(encoder, revision, download)
    if found is None:
        return None
    return Files(encoder, found, revision_of(found), commit=found.name)


def _from_hub(encoder: str, revision: str | None, download: bool) -> Path | None:
    """Return the snapshot folder of a Hub model; only safe file kinds are fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                encoder,
                revision=revision,
                allow_patterns=_PATTERNS,
                ignore_patterns=list(_SKIPPED_FOLDERS),
                local_files_only=not download,
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as fault:
        if not download:
            models.check_on_hub(encoder, revision, "embed: encoder")
            return None
        reason = " ".join(str(fault).split())[:200]
        raise DataError(
            f"embed: encoder `{encoder}` is no folder here and the Hub did not give it: {reason}; "
            "check the id, or the network, or give a folder"
        ) from None


def revision_of(folder: Path) -> str:
    """Return 32 hex digits for the contents of an encoder's files.

    Raises
    ------
    UsageError
        If the folder is no sentence-transformers model, or has weights that are only pickled.
    """
    if not (folder / "modules.json").is_file():
        raise UsageError(
            f"embed: encoder {folder}: no modules.json; it must be a sentence-transformers model"
        )
    files = _files(folder)
    if not any(path.suffix == ".safetensors" for path in files):
        raise UsageError(f"embed: encoder {folder}: no safetensors; pickled weights are not loaded")
    for part in _module_folders(folder):
        pickled = part.is_dir() and any(path.suffix in _PICKLES for path in part.iterdir())
        if pickled and not any(part.glob("*.safetensors")):
            raise UsageError(
                f"embed: encoder {folder}: {part.name} has only pickled weights; convert them"
            )
    stamp = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _hash(folder, stamp)


@functools.lru_cache(maxsize=8)
def _hash(folder: Path, stamp: tuple[tuple[Path, int, int], ...]) -> str:
    return content_key([[p.relative_to(folder).as_posix(), file_sha256(p)] for p, _, _ in stamp])


def _files(folder: Path) -> list[Path]:
    found = (path for pattern in _PATTERNS for path in folder.rglob(pattern))
    skipped = tuple(name.partition("/")[0] for name in _SKIPPED_FOLDERS)
    return sorted(p for p in found if p.is_file() and p.relative_to(folder).parts[0] not in skipped)


def _module_folders(folder: Path) -> list[Path]:
    """Return the folders that modules.json names; a path that leaves the model is refused."""
    try:
        modules = json.loads((folder / "modules.json").read_text("utf-8"))
        parts = [folder / str(module["path"]) for module in modules]
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"embed: encoder {folder}: modules.json is not readable") from None
    root = folder.absolute()
    if any(not part.absolute().is_relative_to(root) or ".." in part.parts for part in parts):
        raise UsageError(f"embed: encoder {folder}: modules.json names a path outside it")
    return parts
