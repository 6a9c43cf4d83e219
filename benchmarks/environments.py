"""Which packages live beside this one: what uv resolves, a file each in results/environments/.

    python benchmarks/environments.py            needs `uv` on the path, and a package index

With the newest vLLM, with lm-evaluation-harness and the training extra, and the floors: the lowest
versions that pyproject.toml allows. Nothing is installed.
"""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results") / "environments"
LOWEST = ["--resolution", "lowest-direct"]
#: Name: extras of ours, packages of others, options of uv.
ENVIRONMENTS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "vllm": ([], ["vllm>=0.33"], []),
    "vllm-train": (["train"], ["vllm>=0.33"], []),
    "train-lm-eval": (["train", "harness"], ["lm-eval[hf]"], []),
    "all-cpu": (["all", "cpu"], [], []),
    "floors-base": ([], [], LOWEST),
    "floors-embed-train": (["embed", "cpu", "train"], [], LOWEST),
}


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Return what an install with these extras asks for, references to own extras followed."""
    wanted = list(project["dependencies"])
    queue = list(extras)
    while queue:
        for one in project["optional-dependencies"][queue.pop()]:
            if one.startswith("sft-diversity["):
                queue += one.partition("[")[2].rstrip("]").split(",")
            else:
                wanted.append(one)
    return wanted


def main() -> None:
    """Resolve each environment; stop at the first that cannot be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name, (extras, others, options) in ENVIRONMENTS.items():
        lines = "\n".join([*requirements(project, extras), *others])
        command = ["uv", "pip", "compile", "-q", "--no-header", "--no-annotate"]
        command += ["--python-version", "3.11", *options, "-"]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr}")
        (RESULTS / f"{name}.txt").write_text(done.stdout, "utf-8", newline="\n")
        print(f"{name}: {len(done.stdout.splitlines())} packages")


if __name__ == "__main__":
    main()
