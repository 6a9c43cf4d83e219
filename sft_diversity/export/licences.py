"""The licences of the sources: what the Hub calls them, and which need a look before a push."""

from __future__ import annotations

import re
from collections.abc import Mapping

UNKNOWN = "unknown"
#: Identifiers of the Hub that a licence's usual name equals, but for case and spaces.
_IDENTIFIERS = frozenset(
    """
    apache-2.0 mit bsd bsd-2-clause bsd-3-clause isc unlicense wtfpl zlib mpl-2.0 epl-2.0 ecl-2.0
    afl-3.0 artistic-2.0 bsl-1.0 ms-pl postgresql openrail bigscience-openrail-m
    gpl gpl-2.0 gpl-3.0 agpl-3.0 lgpl lgpl-2.1 lgpl-3.0 gfdl eupl-1.1 eupl-1.2
    cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0
    cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 odc-by odbl pddl etalab-2.0
    """.split()
)
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
    """Return why a licence needs a look before its rows are passed on; None where it does not."""
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
            said = "" if identifier(licence) == UNKNOWN else f"{' '.join(licence.split())[:80]}: "
            found.append(f"{source} ({said}{why})")
    return found
