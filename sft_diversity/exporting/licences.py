"""The licences of the sources: what the Hub calls them, and which need a look before a push."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_diversity.core import corpus as corpora
from sft_diversity.core import folder
from sft_diversity.core.errors import UsageError

UNKNOWN = "unknown"
#: Identifiers of the Hub that a licence's usual name equals, but for case and spaces.
_IDENTIFIERS = {
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "wtfpl",
    "zlib", "mpl-2.0", "epl-2.0", "ecl-2.0", "afl-3.0", "artistic-2.0", "bsl-1.0", "ms-pl",
    "postgresql", "openrail", "bigscience-openrail-m", "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0",
    "lgpl", "lgpl-2.1", "lgpl-3.0", "gfdl", "eupl-1.1", "eupl-1.2", "cc", "cc0-1.0", "cc-by-2.0",
    "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by", "odbl", "pddl", "etalab-2.0",
}  # fmt: skip
_SAME = {
    "apache": "apache-2.0", "apache2.0": "apache-2.0", "apache-license-2.0": "apache-2.0",
    "mit-license": "mit", "cc0": "cc0-1.0", "cc-by": "cc-by-4.0", "cc-by-sa": "cc-by-sa-4.0",
    "cc-by-nc": "cc-by-nc-4.0", "odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl",
}  # fmt: skip
_NOT_STATED = {"", "-", "?", "none", "n/a", UNKNOWN, "other", "unspecified", "not stated"}
_NON_COMMERCIAL = re.compile(
    r"\bnc\b|non-?\s?commercial|research|academic|evaluation only|personal use", re.IGNORECASE
)
_NO_DERIVATIVES = re.compile(r"\bnd\b|no-?\s?deriv", re.IGNORECASE)


def identifier(licence: str) -> str:
    """Return what the Hub calls a licence: its identifier, `unknown` or `other`."""
    plain = re.sub(r"[\s_]+", "-", licence.strip().lower())
    plain = _SAME.get(plain, plain)
    if plain in _IDENTIFIERS:
        return plain
    return UNKNOWN if plain in _NOT_STATED else "other"


def doubt(licence: str) -> str | None:
    """Return why a licence needs a look before its rows are passed on; None where it does not.

    Several, as a card lists them, are parted by commas: the first that does is named.
    """
    parts = [part.strip() for part in licence.split(",")]
    if len(parts) > 1 and all(identifier(part) != "other" for part in parts):
        return next((why for part in parts if (why := doubt(part)) is not None), None)
    if _NON_COMMERCIAL.search(licence):
        return "non-commercial or research only"
    if _NO_DERIVATIVES.search(licence):
        return "no derivatives"
    known = identifier(licence)
    if known == UNKNOWN:
        return "no licence stated"
    return "not a licence that is known here" if known == "other" else None


def doubts(stated: Mapping[str, str]) -> list[str]:
    """Return one phrase for each source whose licence needs a look: `name (licence: why)`."""
    found = []
    for source, licence in sorted(stated.items()):
        why = doubt(licence)
        if why is not None:
            said = "" if identifier(licence) == UNKNOWN else f"{_short(licence)}: "
            found.append(f"{_short(source)} ({said}{why})")
    return found


def _short(text: str) -> str:
    """Return text of others as it may stand in a message."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:80]


def stated(
    manifest: Mapping[str, Any], given: Mapping[str, str], corpus: Path | None = None
) -> dict[str, str]:
    """Return source -> licence: of the corpus's manifest, the subset's, then those given."""
    found: dict[str, str] = {}
    known = [manifest]
    if corpus is not None and manifest["stage"] != "finetune":
        known.append(corpora.manifest(corpus))
    for one in known:
        found |= corpora.licences_of(one)
    return dict(sorted((found | dict(given)).items()))


def of_rows(
    manifest: Mapping[str, Any], given: Mapping[str, str], corpus: Path | None = None
) -> dict[str, str]:
    """Return the licence of every source that has rows in what a manifest is of.

    A model's are those of what it was trained on, which `corpus` must be.

    Raises
    ------
    UsageError
        If a model was trained on something else.
    """
    if manifest["stage"] == "finetune":
        if corpus is None:
            return {"what the model was trained on": UNKNOWN}
        trained = folder.read_manifest(corpus)
        if folder.contents_key(trained, "samples/") != manifest["inputs"]["subset"]:
            raise UsageError(f"export: --corpus {corpus} is not what the model was trained on")
        return of_rows(trained, given)
    known = stated(manifest, given, corpus)
    sources = manifest.get("result", {}).get("sources", {})
    if isinstance(sources, dict):
        return {str(name): known.get(str(name), UNKNOWN) for name in sources}
    rows = {str(one["name"]): one.get("rows", {}).get("kept", 1) for one in _listed(manifest)}
    return {name: known.get(name, UNKNOWN) for name, kept in rows.items() if kept}


def _listed(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sources that a corpus's manifest lists."""
    sources = manifest.get("result", {}).get("sources", [])
    listed = sources if isinstance(sources, list) else []
    return [one for one in listed if isinstance(one, dict) and one.get("name")]
