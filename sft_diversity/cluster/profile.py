"""A profile: where jobs run, and what each step of a command may use there."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.core.resources import shipped
from sft_diversity.verbs import VERBS

#: Verbs that can be submitted.
SUBMITTED = {*VERBS, "run"} - {"cancel", "retry", "status", "submit"}
#: Steps that they have; a command of one step has one of its own name.
STEPS = (SUBMITTED - {"study"}) | {"collect", "parts", "prepare", "runs"}


def _line(given: Any) -> Any:
    if not str(given).replace("\t", " ").isprintable():
        raise ValueError("must be one line, without control characters")
    return given


def _variable(given: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", given):
        raise ValueError(f"{given!r} is no name of a variable")
    return given


def _option(given: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", given):
        raise ValueError(f"{given!r} is no option of sbatch")
    if given in _OURS:
        raise ValueError(f"{given!r} is set by sftdiv")
    return given


def _step(given: str) -> str:
    if given not in STEPS:
        near = difflib.get_close_matches(given, STEPS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(STEPS))}"
        raise ValueError(f"there is no step {given!r}; {hint}")
    return given


_OURS = {
    "array", "dependency", "error", "export", "export-file", "job-name", "no-requeue", "open-mode",
    "output", "parsable", "requeue", "signal", "wait", "wrap",
}  # fmt: skip
Line = Annotated[str, AfterValidator(_line)]
Value = Annotated[str | int | float | bool, AfterValidator(_line)]
Option = Annotated[str, AfterValidator(_option)]
StepName = Annotated[str, AfterValidator(_step)]
Variable = Annotated[str, AfterValidator(_variable)]


class Resources(Config):
    """What one job, or one task of an array, asks for."""

    partition: Line | None = Field(None, description="Slurm partition")
    account: Line | None = Field(None, description="Slurm account")
    qos: Line | None = Field(None, description="Slurm quality of service")
    constraint: Line | None = Field(None, description="features that nodes must have")
    gres: Line | None = Field(None, description="generic resources, where `gpus` does not say it")
    nodes: int = Field(1, ge=1, description="nodes of a job; above 1 for finetune alone")
    gpus: int = Field(0, ge=0, description="GPUs a node")
    processes: int | None = Field(
        None, ge=1, description="training processes a node; default: one a GPU"
    )
    cpus: int = Field(1, ge=1, description="cores a node")
    memory_gb: float | None = Field(None, gt=0, description="memory a node; default: Slurm's")
    time_min: int | None = Field(None, ge=1, description="time limit; default: the partition's")
    concurrency: int | None = Field(None, ge=1, description="tasks of an array at a time")
    sbatch: dict[Option, Value] = Field(
        {}, description="further options of sbatch, without dashes: {exclusive: true}"
    )

    @property
    def processes_a_node(self) -> int:
        """How many training processes a node has."""
        return self.processes or max(self.gpus, 1)

    @property
    def shared(self) -> bool:
        """Whether several processes share a task."""
        return self.processes_a_node * self.nodes > 1


class Profile(Resources):
    """Where and how jobs run; the keys of `Resources` hold for all steps, `steps` overrides them.

    Names of steps: those that `submit --dry-run` prints, such as prepare, runs, collect, report.
    """

    executor: Literal["auto", "local", "slurm"] = Field(
        "auto", description="local: here, until all is done; slurm; auto: slurm where sbatch is"
    )
    steps: dict[StepName, Resources] = Field({}, description="step: the keys that differ for it")
    parts: int = Field(8, ge=1, description="tasks that embed and index are split into")
    launch: str = Field(
        "ddp",
        description="how several training processes share a model: ddp, fsdp, zero2, zero3 or a "
        "file of accelerate's",
    )
    modules: tuple[Line, ...] = Field((), description="environment modules to load in a job")
    setup: tuple[Line, ...] = Field((), description="shell lines before a job's command")
    environment: dict[Variable, Line] = Field({}, description="environment variables of a job")
    python: Line | None = Field(None, description="interpreter in jobs; default: this one")
    offline: bool = Field(
        False, description="jobs have no internet: models are fetched before, the Hub is not asked"
    )
    signal_s: int = Field(
        120, ge=1, description="seconds before the time limit at which a job is told to stop"
    )
    max_requeues: int = Field(20, ge=0, description="how often a stopped task starts again")
    array_size: int | None = Field(
        None, ge=1, description="most tasks of one array; default: Slurm's MaxArraySize"
    )

    def launch_file(self) -> Path:
        """Return accelerate's config that `launch` names.

        Raises
        ------
        UsageError
            If there is none.
        """
        named = "/" in self.launch or self.launch.endswith(".yaml")
        path = Path(self.launch if named else shipped("configs") / f"accelerate/{self.launch}.yaml")
        if not path.is_file():
            raise UsageError(
                f"submit: launch is {self.launch!r}: no {path}; give ddp, fsdp, zero2, "
                "zero3 or a file"
            )
        return path.absolute()

    def of(self, step: str) -> Resources:
        """Return what a step may use."""
        shared = self.model_dump(include=set(Resources.model_fields))
        own = self.steps[step].model_dump(exclude_unset=True) if step in self.steps else {}
        return Resources(**shared | own)
