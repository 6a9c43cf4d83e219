"""Count what the package is made of: lines of code, of signatures and imports, of words, by room.

    python benchmarks/house.py

A line counts once: as words (docstrings, comments), as blank, as head (imports, signatures with
their decorators), or as code. Where `grimp` is installed, the arrows of imports between rooms and
the circles of imports between modules are counted too, imports for types alone left out.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import tokenize
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "sft_diversity"
KINDS = ("code", "heads", "words", "blank")


def spans(tree: ast.Module) -> tuple[set[int], set[int]]:
    """Return the lines of docstrings, and those of imports and signatures."""
    words: set[int] = set()
    heads: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            heads |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            heads |= set(range(first, node.body[0].lineno))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = node.body[0] if node.body else None
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                words |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return words, heads - words


def count(path: Path) -> Counter[str]:
    """Return how many lines of each kind a file has."""
    text = path.read_text("utf-8")
    words, heads = spans(ast.parse(text))
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and lines[token.start[0] - 1].lstrip().startswith("#"):
            words.add(token.start[0])
    kinds: Counter[str] = Counter(files=1)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            kinds["words" if number in words else "blank"] += 1
        else:
            kinds["words" if number in words else "heads" if number in heads else "code"] += 1
    return kinds


def imports() -> tuple[int, int]:
    """Return the arrows between rooms, and the modules that lie on a circle of imports."""
    import grimp
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = grimp.build_graph(PACKAGE.name, exclude_type_checking_imports=True, cache_dir=None)
    names = sorted(graph.modules)
    number = {name: i for i, name in enumerate(names)}
    arrows = [(a, b) for a in names for b in graph.find_modules_directly_imported_by(a)]
    rooms = {(a.split(".")[1], b.split(".")[1]) for a, b in arrows if a.count(".") and b.count(".")}
    pairs = np.array([(number[a], number[b]) for a, b in arrows]).T
    matrix = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(len(names), len(names)))
    _, circle = connected_components(matrix, directed=True, connection="strong")
    return sum(a != b for a, b in rooms), sum(n for n in np.bincount(circle) if n > 1)


def main() -> None:
    """Print the table."""
    rooms: dict[str, Counter[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        rooms.setdefault(parts[0] if len(parts) > 1 else "(top)", Counter()).update(count(path))
    total = sum(rooms.values(), Counter())
    print(f"{'room':12}{'files':>7}{'lines':>8}" + "".join(f"{kind:>8}" for kind in KINDS))
    by_size = sorted(rooms.items(), key=lambda item: -sum(item[1][kind] for kind in KINDS))
    for name, kinds in [*by_size, ("all", total)]:
        lines = sum(kinds[kind] for kind in KINDS)
        columns = "".join(f"{kinds[kind]:>8,}" for kind in KINDS)
        print(f"{name:12}{kinds['files']:>7}{lines:>8,}{columns}")
    if importlib.util.find_spec("grimp"):
        arrows, modules = imports()
        print(
            f"arrows between rooms and modules at the top: {arrows}; modules in circles: {modules}"
        )


if __name__ == "__main__":
    main()
