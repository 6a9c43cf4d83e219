"""The command line of a task that several processes share, through accelerate's launcher."""

from __future__ import annotations

import zlib
from pathlib import Path

from sft_diversity.cluster import slurm_job
from sft_diversity.cluster.jobs import Job, Step, Task
from sft_diversity.cluster.profile import Resources
from sft_diversity.core import resources as files
from sft_diversity.core.errors import UsageError

#: The launcher must not end training on a signal, but let it write a checkpoint; see `worker`.
ENVIRONMENT = {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT"}
_FIRST_PORT, _PORTS = 20_000, 20_000


def processes(asked: Resources) -> int:
    """Return how many training processes a node has."""
    return asked.processes or max(asked.gpus, 1)


def shared(asked: Resources) -> bool:
    """Whether several processes share a task."""
    return processes(asked) * asked.nodes > 1


def config_file(named: str) -> Path:
    """Return the launch config of a name such as `ddp`, or of a path.

    Raises
    ------
    UsageError
        If there is none.
    """
    path = Path(named) if "/" in named or named.endswith(".yaml") else None
    path = path or files.shipped("configs") / "accelerate" / f"{named}.yaml"
    if not path.is_file():
        raise UsageError(f"submit: launch is {named!r}: no {path}; give ddp, fsdp or a file")
    return path.absolute()


def command(job: Job, step: Step, task: Task) -> list[str]:
    """Return what runs a task on this node."""
    asked, nodes = job.profile.of(step.name), slurm_job.nodes()
    found = [job.python, "-P", "-m", "accelerate.commands.launch"]
    found += ["--config_file", str(config_file(job.profile.launch))]
    found += ["--num_machines", str(nodes), "--num_processes", str(nodes * processes(asked))]
    found += ["--machine_rank", str(slurm_job.rank())]
    if nodes > 1:
        found += ["--main_process_ip", slurm_job.first_host(), "--main_process_port", _port(job)]
        found += ["--rdzv_backend", "static", "--same_network"]
    else:
        found += ["--main_process_port", "0"]
    return [*found, "-m", "sft_diversity", *task.argv]


def training(launcher: int) -> list[int]:
    """Return the processes that a launcher started, itself left out."""
    import psutil

    try:
        return [child.pid for child in psutil.Process(launcher).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _port(job: Job) -> str:
    """Return a port that all nodes of a job agree on and other jobs hardly ever have."""
    return str(_FIRST_PORT + zlib.crc32(f"{job.place}/{slurm_job.own_id()}".encode()) % _PORTS)
