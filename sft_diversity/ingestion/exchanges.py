"""Rows of texts alone, column by column: an instruction, an input, a response, as most rows are.

A format's reader makes a sample of any row, or says why it cannot. Of a row that has its texts as
text, and nothing in its other columns that a reader looks at, all there is to say is which columns
they are in; that is an `Exchange`, and reads many rows in the time of a few. It takes a row only
where the reader would come to the same, and leaves all others to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from typing import Any, NamedTuple

#: Literal texts, each with the column behind it, or None.
Template = tuple[tuple[str, str | None], ...]
#: Columns that make more than an exchange of a row.
_BEFORE = ("history", "system")


class Texts(NamedTuple):
    """Texts of some rows of a block; `rows` are their numbers in it, `more` their other columns."""

    rows: list[int]
    instructions: list[str]
    inputs: list[str]
    responses: list[str]
    more: list[dict[str, Any] | None]


@dataclass(frozen=True)
class Exchange:
    """Where rows have an exchange.

    Attributes
    ----------
    used : frozenset of str
        Columns that are no part of `meta`.
    instruction, given, response : templates
        Over columns; those of `given`, the input, may be missing or null.
    mended : callable, optional
        What is done to every text of a row before.
    """

    used: frozenset[str]
    instruction: Template
    given: Template
    response: Template
    mended: Callable[[str], str] | None = None

    def texts(self, rows: Sequence[dict[str, Any]]) -> Texts:
        """Return the texts of the rows that are exchanges and no more; the others are not there."""
        plain = [True] * len(rows)
        more: list[dict[str, Any] | None] = [None] * len(rows)
        used = self.used
        if not used.issuperset(chain.from_iterable(rows)):
            for number, row in enumerate(rows):
                if not row.keys() <= used:
                    more[number] = {key: row[key] for key in row if key not in used}
                    plain[number] = not self._says_more(row)
        instructions = self._filled(self.instruction, rows, plain)
        inputs = self._filled(self.given, rows, plain, optional=True)
        responses = self._filled(self.response, rows, plain)
        for number, said in enumerate(responses):
            if "<t" in said:  # of a thought, or of a call
                plain[number] = False
        if all(plain):
            return Texts([*range(len(rows))], instructions, inputs, responses, more)
        return Texts(
            list(compress(range(len(rows)), plain)),
            list(compress(instructions, plain)),
            list(compress(inputs, plain)),
            list(compress(responses, plain)),
            list(compress(more, plain)),
        )

    def _says_more(self, row: dict[str, Any]) -> bool:
        """Whether what a row has besides is no mere `meta`: turns before, its place in a corpus."""
        if any(name in row for name in _BEFORE) or ("id" in row and "source" in row):
            return True
        return self.mended is not None

    def _filled(
        self,
        template: Template,
        rows: Sequence[dict[str, Any]],
        plain: list[bool],
        optional: bool = False,
    ) -> list[str]:
        parts: list[Iterable[str]] = []
        for literal, column in template:
            if literal:
                parts.append(repeat(literal, len(rows)))
            if column is not None:
                parts.append(self._column(column, rows, plain, optional))
        if len(parts) == 1 and isinstance(parts[0], list):
            return parts[0]
        return ["".join(one) for one in zip(*parts, strict=True)] if parts else [""] * len(rows)

    def _column(
        self, name: str, rows: Sequence[dict[str, Any]], plain: list[bool], optional: bool
    ) -> list[str]:
        values: list[Any] = [row.get(name) for row in rows]
        if {*map(type, values)} - {str}:
            for number, value in enumerate(values):
                if type(value) is not str:
                    plain[number] &= optional and value is None
                    values[number] = ""
        return values if self.mended is None else [self.mended(value) for value in values]
