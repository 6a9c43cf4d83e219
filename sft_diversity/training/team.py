"""The processes of one run: `accelerate launch` starts several, the first of them leads.

All read and compute; the leader alone speaks, opens the output folder and writes into it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sft_diversity.core import children, machine
from sft_diversity.core.errors import SftdivError

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """One process's place among those of its run."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def by_leader(self, work: Callable[[], T]) -> T:
        """Let the leader do `work`, return what it returned to all.

        Where it fails as expected, the leader raises and the others leave without a word: one fault
        is one line.
        """
        if self.size == 1:
            return work()
        fault: SftdivError | None = None
        said: list[Any] = [None, None]
        if self.leads:
            try:
                said[0] = work()
            except SftdivError as raised:
                fault, said[1] = raised, raised.exit_code
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(said)
        if fault is not None:
            raise fault
        if said[1] is not None:
            raise SystemExit(said[1])
        return said[0]  # type: ignore[no-any-return]

    def any(self, here: bool) -> bool:
        """Whether it is so in any process: what all must do together is agreed on."""
        if self.size == 1:
            return here
        import torch
        from accelerate import PartialState
        from accelerate.utils import reduce

        flag = torch.tensor(float(here), device=PartialState().device)
        return bool(reduce(flag, "sum").item())


def join_team() -> Team:
    """Meet the other processes that the launcher has started, if any, and end when it does.

    torch's launcher gives each a session of its own: without that tie they would go on where it was
    killed, at an output that the next call also writes. Without a launcher who started a process,
    a shell say, may well end before it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        children.end_with_starter()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team()
    from accelerate import PartialState

    state = PartialState(cpu=not machine.gpus())
    return Team(state.process_index, state.num_processes)


def kind() -> str:
    """How the launcher lets processes share a model: each has all of it under DDP."""
    if _asks_for("DEEPSPEED"):
        return "DeepSpeed"
    return "FSDP" if _asks_for("FSDP") and machine.gpus() else "DDP"  # accelerate: no FSDP on CPUs


def _asks_for(plugin: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{plugin}", "false").lower() in ("1", "true")
