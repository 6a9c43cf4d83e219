"""The suite `harness`: lm-evaluation-harness, one result file a task, finished tasks kept."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from sft_diversity.core import drafts, extras, folder, machine, stopping
from sft_diversity.core.errors import UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.endpoint.config import is_url
from sft_diversity.scoring import model as models
from sft_diversity.scoring.harness import running
from sft_diversity.scoring.harness.running import HarnessConfig

STAGE = "score"
VERSION = 1


def needs(config: HarnessConfig, ask: Ask) -> None:
    """Read a model or ask an endpoint; run lm-eval and own tasks as they are here."""
    own = _check(ask.subject, config)
    if is_url(ask.subject):
        endpoint = ["endpoint", config.model_name, _tokenizer_key(config.tokenizer)]
        ask.key("model", content_key(endpoint))
    else:
        model = models.needed(ask.subject, ask.dry)
        ask.key("model", model.key if model else None)
        device, dtype = models.resolve(config.device, config.dtype, model)
        ask.resolve(device=device, dtype=dtype)
    ask.key("own_tasks", own)
    ask.key("lm_eval", metadata.version("lm_eval"))


def join(job: Job[HarnessConfig]) -> Result:
    """Run the tasks; write `tasks/TASK.json`, `samples/TASK.jsonl` and `scores.json`.

    A stopped run goes on with the task that it was at: lm-eval's own cache of requests is not used
    (it is a pickle).

    Raises
    ------
    UsageError
        If a task or a folder is not there.
    DataError
        If a task cannot be run.
    """
    config, draft = job.config, job.draft
    source = None if is_url(job.subject) else models.MODELS.find(job.subject)
    manager, names = running.manager(config.include_path, config.tasks)
    lm: Any = None
    for name in names:
        if draft.has(f"tasks/{name}.json"):
            continue
        stopping.safe_point(STAGE)
        if lm is None:
            machine.keep_freed_memory()
            lm = (
                running.remote_model(job.subject, config)
                if source is None
                else running.local_model(
                    source, *models.resolve(config.device, config.dtype, source), config
                )
            )
        job.say(f"score: task {name}")
        figures, samples = running.run(name, lm, manager, config)
        for task, rows in samples.items():
            with draft.writing(f"samples/{task}.jsonl") as path:
                running.write_rows(path, rows)
        draft.write_json(f"tasks/{name}.json", figures)
    return _result(draft, names, config, source.name if source else str(config.model_name))


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
    return [[path.name, file_key(path)] for path in sorted(Path(name).glob("tokenizer*"))]


def _result(draft: drafts.Draft, names: list[str], config: HarnessConfig, model: str) -> Result:
    tasks: dict[str, Any] = {}
    for name in names:
        tasks |= folder.read_json(draft.path / f"tasks/{name}.json")["tasks"]
    documents = sum(
        one["documents"] or 0
        for name, one in tasks.items()
        if draft.has(f"samples/{name}.jsonl")  # a group's documents are those of its tasks
    )
    scores = {"suite": config.suite, "tasks": tasks}
    draft.write_json("scores.json", scores)
    return Result(
        rows=folder.rows_account(documents, documents, {}),
        seeds={"seed": config.seed},
        figures=scores,
        run={"model": model},
    )


def _cost(config: HarnessConfig, ask: Ask) -> dict[str, Any]:
    unknown = dict.fromkeys(("rows", "seconds", "bytes"))
    return {
        "model": ask.subject, "suite": config.suite, "tasks": list(config.tasks), **unknown,
    }  # fmt: skip


HARNESS = Stage(STAGE, VERSION, HarnessConfig, needs=needs, join=join, cost=_cost)
