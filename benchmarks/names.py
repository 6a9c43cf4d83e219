"""Public functions and classes that stand under one name in several rooms.

    python benchmarks/names.py [FOLDER]

A name that means one thing in the whole house is searched for once. What stages declare (`needs`,
`units`, `join`) and what verbs are called as on the command line is listed too, and may stay.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "sft_diversity"


def homes(package: Path) -> dict[str, list[Path]]:
    """Return for each public top-level name the modules that define it."""
    found = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                found[node.name].append(path.relative_to(package))
    return found


def main() -> None:
    """Print each name with the modules of the several rooms that define it."""
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    several = {
        name: paths
        for name, paths in sorted(homes(package).items())
        if len({path.parts[0] for path in paths}) > 1
    }
    for name, paths in several.items():
        print(f"{name:20} {', '.join(path.as_posix() for path in paths)}")
    print(f"{len(several)} names in several rooms", file=sys.stderr)


if __name__ == "__main__":
    main()
