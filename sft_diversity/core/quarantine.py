"""Rows that cannot be used: where they are listed, and when there are too many to go on."""

from __future__ import annotations

import shutil
from pathlib import Path

from sft_diversity.core.errors import BadRowsError

#: The list in an output; beside one that was not made for it, `OUT.quarantine.jsonl`.
FILE = "quarantine.jsonl"


def beside(out: Path) -> Path:
    """Return where the list of an output lies that was not made for what is in it."""
    return out.parent / f"{out.name}.{FILE}"


def too_many(
    stage: str,
    out: Path,
    listing: bytes | Path,
    *,
    bad: int,
    rows: int,
    limit: float,
    what: str,
    way_out: str,
) -> BadRowsError:
    """Put the list of bad rows beside `out` and return the error that names it.

    Parameters
    ----------
    listing : bytes or Path
        The list as JSON lines, or a file of them.
    bad, rows, limit : int, int, float
        How many of how many are bad, and the share that `max_bad_fraction` allows.
    what : str
        What they are, and what befell the bad ones: `samples failed`.
    """
    kept = beside(out)
    kept.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(listing, Path):
        shutil.copyfile(listing, kept)
    else:
        kept.write_bytes(listing)
    return BadRowsError(
        f"{stage}: {bad:,} of {rows:,} {what} ({bad / rows:.1%}), `max_bad_fraction` allows "
        f"{limit:.1%}; see {kept}, {way_out} or raise the limit"
    )
