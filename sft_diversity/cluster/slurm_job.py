"""What a task can ask of the Slurm job that it runs in; outside Slurm there is none."""

from __future__ import annotations

import os
import re
import subprocess


def own_id() -> str | None:
    """Return the number of the job, `17` or `17_4` in an array; None outside Slurm."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


def rank() -> int:
    """Return which of the nodes of a task this is."""
    return int(os.environ.get("SLURM_PROCID") or 0)


def nodes() -> int:
    """Return how many nodes share a task."""
    return int(os.environ.get("SLURM_NTASKS") or 1)


def first_host() -> str:
    """Return the name of a task's first node."""
    listed = os.environ.get("SLURM_JOB_NODELIST", "localhost")
    if "[" not in listed and "," not in listed:
        return listed
    done = subprocess.run(
        ["scontrol", "show", "hostnames", listed], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[0]


def ending() -> str:
    """Say whether Slurm is ending the job: "cancelled", "requeued", or "" where it is not.

    The state is COMPLETING then, whatever comes after it. A job at its time limit is not meant: it
    would be over, so that it must ask to be started again, as one that runs.
    """
    own = own_id()
    if own is None:
        return ""
    done = subprocess.run(
        ["scontrol", "--oneliner", "show", "job", own], capture_output=True, text=True, check=False
    )
    said = dict(re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", done.stdout))
    if said.get("JobState") == "CANCELLED":
        return "cancelled"
    if said.get("JobState") != "COMPLETING" or said.get("Reason") == "TimeLimit":
        return ""
    return "cancelled" if said.get("ExitCode") == "0:15" else "requeued"


def requeue() -> str:
    """Ask Slurm to start the job again; return what went wrong, or nothing."""
    own = own_id()
    if own is None:
        return ""
    done = subprocess.run(["scontrol", "requeue", own], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or "scontrol failed"
