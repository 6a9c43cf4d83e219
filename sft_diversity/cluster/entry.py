"""How our own processes are started."""

from __future__ import annotations


def command(python: str, module: str, *arguments: str) -> list[str]:
    """Return what calls `main` of a module here; -P: nothing comes from the current folder."""
    code = (
        f"import sys; from sft_diversity.cluster.{module} import main; sys.exit(main(sys.argv[1:]))"
    )
    return [python, "-P", "-c", code, *arguments]
