"""From a CSV to draws: every row accounted for, training seeds averaged in their draw."""

from __future__ import annotations

import contextlib
import csv
import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sft_diversity.core.cells import BASE, BASELINES, KEYS
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.spreadsheet import unquoted
from sft_diversity.fitting.config import ScoresConfig

if TYPE_CHECKING:
    import polars as pl

NEEDED = KEYS[1:]
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-"}
_MAX_BYTES = 256 << 20
#: What stands for a kind of score that nobody named.
NOT_GIVEN = "of a kind not given"
#: Losses that a study writes beside its score, in nats a token, each over other references.
_HELD_OUT = {
    "transfer_first64": "first 64 response tokens, prompts of other origin",
    "short_references": "short references, prompts of other origin",
    "in_mix": "the corpus's own mix",
    "domain_mean": "mean over domains",
}
#: Shares that a study writes where its models answer, in percent of what was asked.
_GENERATED = {
    "instruction_strict": "instructions kept",
    "instruction_loose": "instructions kept, loosely read",
    "prompt_strict": "prompts with all instructions kept",
    "prompt_loose": "prompts with all instructions kept, loosely read",
    "exact": "right numbers",
}


@dataclass(frozen=True, order=True)
class Group:
    """What one dial is turned within. Regime "" is that of a table without regimes."""

    regime: str
    size: int
    strategy: str

    @property
    def place(self) -> tuple[str, int]:
        """What strategies are compared within."""
        return self.regime, self.size


@dataclass(frozen=True)
class Draw:
    """One subset: its level of diversity (None without a dial) and a score a training.

    Subsets of a level that hardly differ may be one draw; those trained alike are one training.
    """

    group: Group
    diversity: float | None
    seed: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the training seeds."""
        return math.fsum(self.scores) / len(self.scores)

    @property
    def key(self) -> tuple[Group, float | None, str]:
        """What names the draw."""
        return self.group, self.diversity, self.seed


@dataclass
class Account:
    """What became of the rows of a table."""

    rows: int
    no_score: int = 0
    repeated: int = 0
    notes: list[str] = field(default_factory=list)


def table_at(results: Path) -> Path:
    """Return the table of scores: the file, or that of a study's folder."""
    return results / "results.csv" if results.is_dir() else results


@contextlib.contextmanager
def naming(path: Path | None, stage: str = "fit") -> Iterator[None]:
    """Name the stage, and the file, in what is said of a table."""
    try:
        yield
    except (DataError, UsageError) as fault:
        said = fault.args[0]
        start = f"{stage}: " if str(path) in said else f"{stage}: {path}: "
        raise type(fault)(said.replace("fit: ", start, 1)) from None


def there(path: Path) -> Path:
    """Return the path of a file that is there, or raise `UsageError`."""
    if not path.is_file():
        raise UsageError(f"fit: {path} is no file; name a CSV of scores or the folder of a study")
    return path


def read_csv(path: Path) -> pl.DataFrame:
    """Return a CSV with all its columns as text; empty cells are null, blank lines are skipped.

    Raises
    ------
    UsageError
        If there is no such file.
    DataError
        If it is empty, is not UTF-8 text, or its rows do not fit its header.
    """
    import polars as pl

    if there(path).stat().st_size > _MAX_BYTES:
        raise DataError(f"fit: {path} has over {_MAX_BYTES >> 20} MB; is it a table of scores?")
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = [row for row in csv.reader(handle, strict=True) if any(map(str.strip, row))]
    except UnicodeDecodeError:
        raise DataError(f"fit: {path} is not UTF-8 text; save it as CSV in UTF-8") from None
    except (csv.Error, OSError) as fault:
        raise DataError(f"fit: {path} is no readable CSV: {fault}") from None
    if not rows:
        raise DataError(f"fit: {path} is empty; it needs a header and one row a run")
    head, *body = [[unquoted(cell.strip()) for cell in row] for row in rows]
    _check_shape(path, head, body)
    columns = {
        name: pl.Series([row[i] or None for row in body], dtype=pl.String)
        for i, name in enumerate(head)
    }
    return pl.DataFrame(columns)


def _check_shape(path: Path, head: list[str], body: list[list[str]]) -> None:
    marks = [mark for mark in ";\t|" if len(head) == 1 and mark in head[0]]
    if marks:
        raise DataError(
            f"fit: {path} is separated by {marks[0]!r}; write it with commas (and decimal points)"
        )
    repeated = sorted({name for name in head if head.count(name) > 1})
    if repeated:
        raise DataError(f"fit: {path} has the column {repeated[0]!r} twice; keep one")
    for number, row in enumerate(body, start=1):
        if len(row) != len(head):
            raise DataError(
                f"fit: {path}: row {number:,} has {len(row)} cells, the header {len(head)}; "
                "quote cells that hold commas"
            )


def need(frame: pl.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a table that lacks a column, naming the nearest it has."""
    lacking = [name for name in columns if name not in frame.columns]
    if not lacking:
        return
    lower = {name.lower().strip(): name for name in frame.columns}
    near = difflib.get_close_matches(lacking[0].lower(), lower, n=1, cutoff=0.6)
    hint = f"; is `{lower[near[0]]}` meant?" if near else ""
    has = ", ".join(frame.columns[:12]) + (", …" if frame.width > 12 else "")
    raise DataError(
        f"fit: {what} lacks the column {', '.join(lacking)}{hint} (it has {has or 'none'})"
    )


def draws_of(frame: pl.DataFrame, score: str, sign: float = 1.0) -> tuple[list[Draw], Account]:
    """Return the draws of a table of runs, ordered by what names them, and the account of rows.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns `strategy, size, diversity, seed`, the score, and maybe `regime`, `train_seed` and
        `draw` (rows of a level with the same one count as one draw; by default the seed); as text
        or as numbers. Others are not read.
    score : str
        Name of the column of scores; `sign` is multiplied in.

    Raises
    ------
    DataError
        If a column is missing, a cell is no number or out of range, or two rows are of the same
        run but have different scores.
    """
    need(frame, [*NEEDED, score], "the table")
    if not frame.height:
        raise DataError("fit: the table has a header but no rows; it needs one row a run")
    account = Account(frame.height)
    found: dict[tuple[Group, float | None, str, str], tuple[float, int]] = {}
    seeds, shared = (
        frame[name].to_list() if name in frame.columns else [None] * frame.height
        for name in ("train_seed", "draw")
    )
    scores = frame[score].to_list()
    for number, key in enumerate(keys(frame), start=1):
        value = numeric(scores[number - 1], score, number)
        if value is None or not math.isfinite(value):
            account.no_score += 1
            continue
        run = (*key, label(seeds[number - 1]))
        if run in found and found[run][0] != sign * value:
            raise DataError(
                f"fit: rows {found[run][1]:,} and {number:,} are the same run ({_named(key)}) with "
                "different scores; give trainings of one subset their own `train_seed`"
            )
        account.repeated += run in found
        found.setdefault(run, (sign * value, number))
    # Subsets that count as one draw, trained alike, are one training, and say nothing of its noise.
    together: dict[tuple[Group, float | None, str], dict[str, list[float]]] = {}
    for run in sorted(found, key=_order):
        value, number = found[run]
        draw = label(shared[number - 1]) or run[2]
        together.setdefault((*run[:2], draw), {}).setdefault(run[3], []).append(value)
    draws = [Draw(*key, tuple(map(fmean, trained.values()))) for key, trained in together.items()]
    return draws, account


def keys(frame: pl.DataFrame) -> Iterable[tuple[Group, float | None, str]]:
    """Yield what names the draw of every row."""
    regimes = frame["regime"].to_list() if "regime" in frame.columns else [None] * frame.height
    rows = zip(regimes, *(frame[name].to_list() for name in NEEDED), strict=True)
    for number, (regime, strategy, size, diversity, seed) in enumerate(rows, start=1):
        name = label(strategy)
        if not name:
            raise DataError(f"fit: row {number:,} has no strategy; name it, or remove the row")
        level = None if name in BASELINES else numeric(diversity, "diversity", number)
        if level is not None and not 0 <= level <= 100:
            raise DataError(f"fit: row {number:,}: diversity is {level:g}; it goes from 0 to 100 %")
        samples = numeric(size, "size", number)
        if name == BASE:
            group = Group("", 0, BASE)
        elif samples is None or samples < 1 or samples % 1:
            raise DataError(
                f"fit: row {number:,}: size is {size!r}; it is the number of samples of the subset"
            )
        else:
            group = Group(label(regime), int(samples), name)
        yield group, level, label(seed) if name != BASE else f"{label(regime)}|{size}|{label(seed)}"


def numeric(cell: Any, column: str, number: int) -> float | None:
    """Return a cell as a number; None where it is empty or NaN."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in _MISSING):
        return None
    try:
        if isinstance(cell, bool):
            raise ValueError
        value = float(cell)
    except (TypeError, ValueError):
        raise DataError(
            f"fit: row {number:,}: {column} is {str(cell)[:40]!r}, which is no number; "
            "correct it, or leave the cell empty"
        ) from None
    return None if math.isnan(value) else value


def label(cell: Any) -> str:
    """Return a cell as a name; 3, 3.0 and "3" are the same."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    text = str(cell).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def _order(run: tuple[Group, float | None, str, str]) -> tuple[Any, ...]:
    group, level, seed, train_seed = run
    return group, -1.0 if level is None else level, _by_number(seed), _by_number(train_seed)


def _by_number(text: str) -> tuple[bool, int, str]:
    whole = text.lstrip("-").isdecimal() and text.isascii() and len(text) < 20
    return (not whole, int(text) if whole and text.count("-") <= 1 else 0, text)


def _named(key: tuple[Group, float | None, str]) -> str:
    group, level, seed = key
    parts = [f"regime {group.regime}" if group.regime else "", group.strategy]
    parts += ["" if level is None else f"{level:g} %", f"seed {seed}" if seed else ""]
    return ", ".join(part for part in parts if part)


def score_kind(frame: pl.DataFrame, config: ScoresConfig) -> str:
    """Return the kind of score in words, its unit among them, as `score_kind` gives or names tell.

    A column that is minus a known loss in every row is that loss, whatever its name; one that is a
    known share is that share.
    """
    if config.score_kind:
        return config.score_kind
    for name, over in _HELD_OUT.items():
        turned = _equals(frame, config.score, name, -1.0)
        if turned or config.score == name:
            minus = "minus " * (turned or config.lower_is_better)
            return f"{minus}held-out loss, nats a token; {over}"
    for name, what in _GENERATED.items():
        if config.score == name or _equals(frame, config.score, name):
            return f"generated answers, percent; {what}"
    return f"column {config.score}, {NOT_GIVEN}"


def generated(frame: pl.DataFrame) -> list[str]:
    """Return the columns of a table that are known shares of generated answers, with a value."""
    return [
        name for name in _GENERATED
        if name in frame.columns and frame[name].null_count() < frame.height
    ]  # fmt: skip


def _equals(frame: pl.DataFrame, score: str, known: str, times: float = 1.0) -> bool:
    """Whether a column is a known one, times a factor, in every row that has both."""
    if known not in frame.columns:
        return False
    try:
        columns = [[numeric(cell, name, 0) for cell in frame[name]] for name in (score, known)]
    except DataError:  # a column of that name that is something else
        return False
    both = [(a, b) for a, b in zip(*columns, strict=True) if a is not None and b is not None]
    return bool(both) and all(math.isclose(a, times * b, rel_tol=1e-9) for a, b in both)
