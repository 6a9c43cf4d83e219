"""From dialogues to token ids with loss labels, every row accounted for."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sft_diversity.core import chat, children, machine, parquet, quarantine
from sft_diversity.core.errors import DataError
from sft_diversity.core.folder import json_lines
from sft_diversity.core.progress import progress
from sft_diversity.training import samples
from sft_diversity.training.samples import Dialogue

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OnTruncation = Literal["error", "drop", "keep", "trim"]
Tokens = npt.NDArray[np.int32]

#: Why a sample trains nothing, and what helps.
REASONS = {
    "not-rendered": "the chat template does not take the dialogue; mend or remove such samples",
    "no-label": "its answers are empty under the chat template; remove such samples",
    "cut-off": "no assistant token within max_length; raise max_length, or leave such samples out "
    "with on_truncation trim or drop",
}


@dataclass(frozen=True)
class Unusable:
    """A sample that trains nothing: its id, one of REASONS, and what was seen."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Rendered:
    """Samples ready to be trained on, in the order of the subset.

    Attributes
    ----------
    ids : list of str
        Of the samples.
    input_ids, labels : list of int32 array
        One array a sample; a label is -100 where there is no loss.
    rows : int
        Rows read.
    truncated : int
        Samples longer than `max_length`.
    dropped : int
        Samples left out for their length, as `on_truncation` asks.
    lost_labels : int
        Response tokens that were cut off or dropped.
    unusable : list of Unusable
        Samples left out because they would train nothing, unasked.
    sets : list of int
        The number of the set that each sample is of, from 0; empty where there is one.
    thoughts : list of int32 array
        One array a sample: the places of the tokens that are thoughts.
    unthought, untold : int
        Thoughts, and samples with tools, that the chat template leaves out.
    """

    ids: list[str]
    input_ids: list[Tokens]
    labels: list[Tokens]
    rows: int
    truncated: int
    dropped: int
    lost_labels: int = 0
    unusable: list[Unusable] = field(default_factory=list)
    sets: list[int] = field(default_factory=list)
    thoughts: list[Tokens] = field(default_factory=list)
    unthought: int = 0
    untold: int = 0

    def __post_init__(self) -> None:
        """Take samples that are given without thoughts as having none."""
        if len(self.thoughts) < len(self.ids):
            object.__setattr__(self, "thoughts", [np.zeros(0, np.int32)] * len(self.ids))

    @property
    def unusable_by_reason(self) -> dict[str, int]:
        """How many samples are unusable for which reason, the commonest first."""
        return dict(Counter(one.reason for one in self.unusable).most_common())

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each sample."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)

    @property
    def response_tokens(self) -> npt.NDArray[np.int64]:
        """Labelled tokens of each sample."""
        return np.array([_count(labels) for labels in self.labels], dtype=np.int64)

    @property
    def thinking_tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of each sample that are thoughts, with a label or without."""
        return np.array([len(places) for places in self.thoughts], dtype=np.int64)

    @property
    def lost_share(self) -> float:
        """Share of all response tokens that were cut off or dropped."""
        return self.lost_labels / max(int(self.response_tokens.sum()) + self.lost_labels, 1)


def render_samples(
    source: samples.Source,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    on_truncation: OnTruncation,
    limit: int | None = None,
    train_thinking: bool = True,
) -> Rendered:
    """Tokenise all samples; see `core.chat.rendering` for what is labelled.

    Parameters
    ----------
    on_truncation : {"error", "drop", "keep", "trim"}
        What becomes of a sample longer than `max_length`: it is an error, it is dropped, or its
        start is kept. Where the start has no label, "keep" counts it as unusable and "trim" drops
        it.
    limit : int, optional
        The first so many alone.

    Raises
    ------
    DataError
        If a sample is too long under "error"; the message names it.

    Notes
    -----
    About 0.6 milliseconds a sample, two thirds of them Python's; many samples are shared out to a
    process a core.
    """
    kept: list[tuple[str, Tokens, Tokens, Tokens]] = []
    unusable: list[Unusable] = []
    truncated = rows = labels_read = unthought = untold = 0
    total = sum(parquet.rows(path) for path in source.files)
    total = total if limit is None else min(total, limit)
    dialogues = itertools.islice(samples.dialogues(source), limit)
    with (
        progress("tokenise", total) as bar,
        contextlib.closing(_tokenised(dialogues, total, tokenizer, train_thinking)) as made,
    ):
        for one in made:
            rows += 1
            bar.advance()
            if isinstance(one, Unusable):
                unusable.append(one)
                continue
            identity, ids, labels, thoughts = one.id, one.ids, one.labels, one.thoughts
            unthought, untold = unthought + one.unthought, untold + one.untold
            labels_read += _count(labels)
            if one.why is not None:
                unusable.append(Unusable(identity, "no-label", one.why))
                continue
            if len(ids) > max_length:
                truncated += 1
                if on_truncation == "error":
                    raise DataError(
                        f"finetune: sample {identity} has {len(ids):,} tokens, max_length is "
                        f"{max_length:,}; raise max_length, or set on_truncation to keep or trim"
                    )
                if on_truncation == "drop":
                    continue
                whole = labels
                ids, labels = ids[:max_length], labels[:max_length]
                if not _count(labels[1:]):
                    if on_truncation == "keep":
                        first = int(np.argmax(whole != chat.IGNORED))
                        detail = f"{len(whole):,} tokens, the first label is at {first:,}"
                        unusable.append(Unusable(identity, "cut-off", detail))
                    continue
            kept.append((identity, ids, labels, thoughts[thoughts < len(ids)]))
    return Rendered(
        ids=[identity for identity, *_ in kept],
        input_ids=[ids for _, ids, _, _ in kept],
        labels=[labels for _, _, labels, _ in kept],
        rows=rows,
        truncated=truncated,
        dropped=rows - len(kept) - len(unusable),
        lost_labels=labels_read - sum(_count(labels) for _, _, labels, _ in kept),
        unusable=unusable,
        thoughts=[thoughts for *_, thoughts in kept],
        unthought=unthought,
        untold=untold,
    )


class _Made(NamedTuple):
    """A dialogue as tokens, uncut; `why` it trains nothing, where it does not."""

    id: str
    ids: Tokens
    labels: Tokens
    thoughts: Tokens
    unthought: int
    untold: bool
    why: str | None


#: Samples that pay for another process, which takes seconds to load transformers and TRL; and
#: those that one is given at a time.
_A_PROCESS, _TOGETHER = 25_000, 250


def _tokenised(
    dialogues: Iterator[Dialogue],
    total: int,
    tokenizer: PreTrainedTokenizerBase,
    train_thinking: bool,
) -> Generator[_Made | Unusable]:
    """Yield the dialogues as tokens, in order."""
    render = partial(_made_of, tokenizer=tokenizer, train_thinking=train_thinking)
    processes = min(machine.cores(), total // _A_PROCESS)
    if processes < 2:
        yield from map(render, dialogues)
        return
    chunks = iter(lambda: list(itertools.islice(dialogues, _TOGETHER)), [])
    with (
        children.told_when_ended("finetune"),
        children.pool(processes, _remember, render) as executor,
    ):
        for made in children.in_order("finetune", executor, _render, chunks, 2 * processes):
            yield from made


def _made_of(
    dialogue: Dialogue, tokenizer: PreTrainedTokenizerBase, train_thinking: bool
) -> _Made | Unusable:
    identity, messages, tools = dialogue
    try:
        made = chat.rendering(messages, tokenizer, tools, train_thinking)
    except DataError as fault:
        return Unusable(identity, "not-rendered", str(fault))
    ids, labels = np.array(made.input_ids, np.int32), np.array(made.labels, np.int32)
    thoughts = np.flatnonzero(made.thoughts).astype(np.int32)
    why = None
    if not _count(labels[1:]):  # the first token is never predicted
        why = _without_label(ids, messages, train_thinking)
    return _Made(identity, ids, labels, thoughts, made.unthought, not made.tools, why)


Render: TypeAlias = Callable[[Dialogue], _Made | Unusable]
_renders: list[Render] = []  # of a worker process


def _remember(render: Render) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core
    _renders.append(render)


def _render(dialogues: list[Dialogue]) -> list[_Made | Unusable]:
    return [_renders[-1](one) for one in dialogues]


def _without_label(ids: Tokens, messages: list[dict[str, Any]], train_thinking: bool) -> str:
    """Say which turns of the assistant train nothing and why, of a sample without a label."""
    said = []
    for number, turn in enumerate(messages, 1):
        if turn["role"] != "assistant" or turn["content"].strip() or turn.get("tool_calls"):
            continue
        if not turn.get("thinking"):
            said.append(f"turn {number}, the assistant's, is empty")
        elif not train_thinking:
            said.append(f"turn {number}, the assistant's, is a thought, which is not trained")
    return f"{len(ids):,} tokens, no label" + (f": {'; '.join(said)}" if said else "")


def marked_samples(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Return samples as text, cut where a token with a label meets one without.

    Returns
    -------
    list of dict
        `id, tokens, trained` (how many have a label), `thinking` (how many are thoughts), and
        `pieces`: a text, whether it is trained, and whether it is a thought; of an unusable sample
        `id, unusable`, the reason.
    """
    shown: list[dict[str, Any]] = []
    for identity, ids, labels, thoughts in zip(
        rendered.ids, rendered.input_ids, rendered.labels, rendered.thoughts, strict=True
    ):
        marks = (labels != chat.IGNORED) + 2 * np.isin(np.arange(len(ids)), thoughts)
        edges = [0, *(np.flatnonzero(np.diff(marks)) + 1), len(ids)]
        pieces = [
            (str(tokenizer.decode(ids[start:end])), bool(marks[start] & 1), bool(marks[start] & 2))
            for start, end in itertools.pairwise(edges)
        ]
        counts = {"tokens": len(ids), "trained": _count(labels), "thinking": len(thoughts)}
        shown.append({"id": identity, **counts, "pieces": pieces})
    return shown + [
        {"id": one.id, "unusable": f"{one.reason}: {one.detail}"} for one in rendered.unusable
    ]


def check_usable(rendered: Rendered, max_length: int, max_bad_fraction: float, out: Path) -> None:
    """Refuse samples of which too many, or all, would train nothing.

    Raises
    ------
    BadRowsError
        If more are unusable than `max_bad_fraction` allows; they are in `OUT.quarantine.jsonl`.
    DataError
        If none is left.
    """
    quarantine.beside(out).unlink(missing_ok=True)
    rows, bad = rendered.rows, rendered.unusable
    if len(bad) > max_bad_fraction * rows:
        reason, count = next(iter(rendered.unusable_by_reason.items()))
        first = next(one for one in bad if one.reason == reason)
        commonest = f"{count:,} are {reason} (the first is {first.id}: {first.detail})"
        raise quarantine.too_many(
            "finetune", out, json_lines(map(asdict, bad)),
            bad=len(bad), rows=rows, limit=max_bad_fraction,
            what="samples would train nothing", way_out=f"{commonest}: {REASONS[reason]},",
        )  # fmt: skip
    if not rendered.input_ids:
        raise DataError(
            f"finetune: none of {rows:,} samples is left to train on; "
            f"raise max_length (now {max_length})"
        )


def _count(labels: Tokens) -> int:
    return int((labels != chat.IGNORED).sum())
