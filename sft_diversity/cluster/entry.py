"""How our own processes are started: with what they need, not with all that the verbs import."""

from __future__ import annotations

# `-m sft_diversity.cluster.worker` would run the package's __init__, which loads every verb: two
# seconds of a core for each task. The package is registered without being run instead.
_BARE = (
    'import importlib.util as u, sys; s = u.find_spec("sft_diversity"); '
    "sys.modules[s.name] = u.module_from_spec(s); from sft_diversity.cluster.{module} import main; "
    "sys.exit(main(sys.argv[1:]))"
)


def command(python: str, module: str, *arguments: str) -> list[str]:
    """Return what calls `main` of a module here; -P: nothing comes from the current folder."""
    return [python, "-P", "-c", _BARE.format(module=module), *arguments]
