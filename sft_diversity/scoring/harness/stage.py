"""The suite `harness`: lm-evaluation-harness, one result file a task, finished tasks kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from sft_diversity.core import extras, folder, machine, progress, stopping
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key, file_sha256
from sft_diversity.endpoint.config import is_url
from sft_diversity.scoring import model as models
from sft_diversity.scoring.harness import running
from sft_diversity.scoring.harness.running import HarnessConfig

STAGE = "score"
VERSION = 1


def plan(model: Path | str, config: HarnessConfig) -> dict[str, Any]:
    """Return what `harness` would do; loads no model and no task."""
    _check(model, config)
    return {
        "stage": STAGE,
        "model": str(model),
        "suite": config.suite,
        "tasks": list(config.tasks),
        "rows": None,
        "seconds": None,
        "bytes": None,
    }


def score(
    model: Path | str,
    out: Path,
    config: HarnessConfig,
    say: Callable[[str], None] = progress.say,
) -> dict[str, Any]:
    """Run the tasks; write `tasks/TASK.json`, `samples/TASK.jsonl` and `scores.json`.

    A stopped run goes on with the task that it was at: lm-eval's own cache of requests is not used
    (it is a pickle).

    Parameters
    ----------
    model : path or str
        A model folder, a Hub id, or the URL of an endpoint (`config.model_name` names its model).

    Returns
    -------
    dict
        The manifest; its `result` is `scores.json`: by task its metrics with standard errors.

    Raises
    ------
    UsageError
        If lm-eval is not installed, or a model, task or folder is not there.
    DataError
        If a task cannot be run.
    """
    own = _check(model, config)
    settings: dict[str, Any] = {}
    source: models.Source | None = None
    if is_url(model):
        key = content_key(["endpoint", config.model_name, _tokenizer_key(config.tokenizer)])
    else:
        source = models.find(model)
        key = source.key
        device, dtype = models.resolve(config.device, config.dtype)
        settings = {"device": device, "dtype": dtype}
    work = folder.Work(
        STAGE,
        VERSION,
        {"model": key, "own_tasks": own, "lm_eval": metadata.version("lm_eval")},
        config.model_dump(mode="json") | settings,
    )
    draft = folder.open_draft(out, work)
    say(f"score: {draft.reason}")
    if draft.reused:
        return folder.read_manifest(out, STAGE)
    manager, names = running.manager(config.include_path, config.tasks)
    lm: Any = None
    for name in names:
        if draft.has(f"tasks/{name}.json"):
            continue
        stopping.safe_point(STAGE)
        if lm is None:
            machine.keep_freed_memory()
            lm = (
                running.remote_model(str(model), config)
                if source is None
                else running.local_model(source, settings["device"], settings["dtype"], config)
            )
        say(f"score: task {name}")
        figures, samples = running.run(name, lm, manager, config)
        for task, rows in samples.items():
            with draft.writing(f"samples/{task}.jsonl") as path:
                running.write_rows(path, rows)
        draft.write_json(f"tasks/{name}.json", figures)
    return _finish(draft, names, config, source.name if source else str(config.model_name))


def _check(model: Path | str, config: HarnessConfig) -> str:
    """Refuse what cannot run; return what identifies the own task files."""
    extras.require("lm_eval", "score: the suite harness")
    if not config.tasks:
        raise UsageError("score: harness needs tasks; name them with --tasks")
    models.check_answering(str(model), config.model_name)
    return running.own_files_key(config.include_path, config.trust_remote_code)


def _tokenizer_key(name: str | None) -> Any:
    """Return what identifies a tokenizer: its files, or its name on the Hub."""
    if name is None or not Path(name).is_dir():
        return name
    return [[path.name, file_sha256(path)] for path in sorted(Path(name).glob("tokenizer*"))]


def _finish(
    draft: folder.Draft, names: list[str], config: HarnessConfig, model: str
) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for name in names:
        tasks |= json.loads((draft.path / f"tasks/{name}.json").read_text("utf-8"))["tasks"]
    documents = sum(
        one["documents"] or 0
        for name, one in tasks.items()
        if draft.has(f"samples/{name}.jsonl")  # a group's documents are those of its tasks
    )
    scores = {"suite": config.suite, "tasks": tasks}
    draft.write_json("scores.json", scores)
    return draft.commit(
        rows=folder.rows_account(documents, documents, {}),
        seeds={"seed": config.seed},
        result=scores,
        run={"model": model},
    )
