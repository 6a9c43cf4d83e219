"""Tasks of lm-evaluation-harness: which are meant, what own ones may not do, and running one.

Its figures come without what differs between equal runs.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from sft_diversity.core.config import Config
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.hashing import content_key, file_key
from sft_diversity.core.models import ModelFolder
from sft_diversity.endpoint.config import EndpointConfig, completions_url, read_key
from sft_diversity.scoring import model as models
from sft_diversity.scoring.model import Device, KeyEnv, ModelName, Precision

_BOOTSTRAP = 1_000
_CODE = re.compile(r"^[^#\n]*!function\b", re.MULTILINE)
_KEPT = ("doc_id", "doc", "target", "resps", "filtered_resps", "filter", "metrics")


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class HarnessConfig(Config):
    """What lm-evaluation-harness is to run."""

    suite: Literal["harness"] = Field(
        default="harness", description="tasks of lm-evaluation-harness"
    )
    tasks: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        default=(), description="tasks, groups or patterns such as mmlu_*; with commas between"
    )
    include_path: Path | None = Field(
        default=None,
        exclude=True,
        description="folder of own task files; their data_files count from it",
    )
    batch_size: int = Field(default=8, ge=1, description="requests a batch, always the same")
    num_fewshot: int | None = Field(
        default=None, ge=0, description="examples before each question; default: the task's"
    )
    limit: int | None = Field(default=None, ge=1, description="only a task's first documents")
    chat_template: bool = Field(
        default=False, description="ask through the chat template, as the model was fine-tuned"
    )
    model_name: ModelName = None
    model_key_env: KeyEnv = None
    api: Literal["completions", "chat"] = Field(
        default="completions",
        description="how an endpoint is asked; chat can run only tasks that generate",
    )
    tokenizer: str | None = Field(
        default=None,
        exclude=True,
        description="the endpoint's tokenizer (folder or Hub id); tasks of likelihood need it",
    )
    concurrency: int = Field(
        default=8, ge=1, le=1_024, exclude=True, description="requests under way at a time"
    )
    seed: int = Field(default=0, ge=0, description="of few-shot examples and sampling")
    device: Device = "auto"
    dtype: Precision = "auto"
    trust_remote_code: bool = Field(
        default=False,
        exclude=True,
        description="run code that a model repository or own task files bring",
    )

    @field_validator("tasks")
    @classmethod
    def _names(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tasks)) != len(tasks) or not all(tasks):
            raise ValueError("name tasks, each once")
        if any("/" in name or "\\" in name or name.startswith(".") for name in tasks):
            raise ValueError("name tasks, not files; the folder of own files is include_path")
        return tasks


def own_files_key(folder: Path | None, trust_code: bool) -> str:
    """Return what identifies the files of a folder of own tasks; "" without one.

    Raises
    ------
    UsageError
        If the folder is not there, holds no task file, or a file brings code without `trust_code`.
    """
    if folder is None:
        return ""
    if not folder.is_dir():
        raise UsageError(f"score: include_path {folder} is no folder; name that of own task files")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p[0] in "._" for p in path.relative_to(folder).parts)
    )
    configs = [path for path in files if path.suffix in (".yaml", ".yml")]
    if not configs:
        raise UsageError(f"score: include_path {folder} holds no task file (*.yaml)")
    for path in configs:
        if not trust_code and _CODE.search(path.read_text("utf-8", "replace")):
            raise UsageError(
                f"score: {path} names Python code (!function); if you trust it, "
                "--trust-remote-code runs it"
            )
    return content_key([[path.relative_to(folder).as_posix(), file_key(path)] for path in files])


def manager(folder: Path | None, names: Sequence[str]) -> tuple[Any, list[str]]:
    """Return lm-eval's task manager and the tasks that `names` stand for.

    The thousands of tasks that lm-eval brings are read only where own ones do not do.

    Raises
    ------
    UsageError
        If a name stands for no task.
    """
    from lm_eval.tasks import TaskManager

    if folder is not None:
        own = TaskManager(include_path=str(folder.resolve()), include_defaults=False)
        if all(own.match_tasks([name]) for name in names):
            return own, _expanded(own, names)
    path = None if folder is None else str(folder.resolve())
    every = TaskManager(include_path=path)
    return every, _expanded(every, names)


def _expanded(tasks: Any, names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        matched = tasks.match_tasks([name])
        if not matched:
            raise UsageError(
                f"score: lm-eval knows no task {name}; own ones come with --include-path"
            )
        found += matched
    return list(dict.fromkeys(found))


def local_model(source: ModelFolder, device: str, dtype: str, config: HarnessConfig) -> Any:
    """Return a model that runs here, as lm-eval wants it; loaded as all suites load it."""
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = models.load_model(source, device, dtype, config.trust_remote_code)
    with quiet():
        return HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=config.batch_size,
            device=device,
            trust_remote_code=config.trust_remote_code,
        )


def remote_model(url: str, config: HarnessConfig) -> Any:
    """Return a model behind an endpoint. The key goes there and nowhere else.

    Raises
    ------
    UsageError
        If the URL or the key is not usable, or chat is asked for without the chat template.
    """
    from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

    assert config.model_name is not None
    address = completions_url(url, "score")
    endpoint = EndpointConfig(url=url, model=config.model_name, api_key_env=config.model_key_env)
    key = read_key(endpoint, "score")
    header = {"content-type": "application/json"}  # not empty: else lm-eval sends OPENAI_API_KEY
    if key:
        header["authorization"] = f"Bearer {key}"
    # When one call fails, asyncio prints a traceback for each that was under way, much later.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    shared: dict[str, Any] = {
        "model": config.model_name,
        "header": header,
        "num_concurrent": config.concurrency,
        "seed": config.seed,
        "trust_remote_code": config.trust_remote_code,
    }
    with quiet():
        if config.api == "chat":
            if not config.chat_template:
                raise UsageError("score: --api chat goes through a template; add --chat-template")
            return LocalChatCompletion(base_url=address, **shared)
        return LocalCompletionsAPI(
            base_url=address.replace("/chat/completions", "/completions"),
            tokenizer=config.tokenizer,
            tokenizer_backend="huggingface" if config.tokenizer else None,
            batch_size=config.batch_size if config.tokenizer else 1,
            **shared,
        )


def run(
    name: str, lm: Any, manager: Any, config: HarnessConfig
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return a task's figures and, for each of its subtasks, one row a document.

    Raises
    ------
    DataError
        If lm-eval cannot run the task.
    """
    import lm_eval

    try:
        with quiet(), _at(config.include_path), _calm():
            found: Any = lm_eval.simple_evaluate(
                model=lm,
                tasks=[name],
                task_manager=manager,
                num_fewshot=config.num_fewshot,
                limit=config.limit,
                apply_chat_template=config.chat_template,
                fewshot_as_multiturn=config.chat_template,
                bootstrap_iters=_BOOTSTRAP,
                log_samples=True,
                random_seed=config.seed,
                numpy_random_seed=config.seed,
                torch_random_seed=config.seed,
                fewshot_random_seed=config.seed,
            )
    except Exception as fault:  # tasks fail in as many ways as there are tasks
        said = " ".join(str(fault).split())[:300] or "no message"
        raise DataError(f"score: task {name}: {type(fault).__name__}: {said}") from fault
    samples = {
        task: [{key: row[key] for key in (*_KEPT, *row.get("metrics", [])) if key in row}
               for row in rows]
        for task, rows in sorted(found["samples"].items())
    }  # fmt: skip
    return _figures(found), samples


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    tasks = {}
    for name, values in sorted(found["results"].items()):
        sizes = found["n-samples"].get(name)
        tasks[name] = {
            "metrics": _metrics(values),
            "documents": None if sizes is None else sizes["effective"],
            "version": found["versions"].get(name),
            "num_fewshot": found["n-shot"].get(name),
            "higher_is_better": found["higher_is_better"].get(name),
        }
    return {"tasks": tasks, "configs": _plain(found["configs"])}


def _metrics(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return value and standard error by metric; one that a filter made carries its name."""
    metrics: dict[str, dict[str, Any]] = {}
    for label, value in values.items():
        metric, comma, chosen = label.partition(",")
        if not comma:  # name, alias, sizes
            continue
        kind = "stderr" if metric.endswith("_stderr") else "value"
        metric = metric.removesuffix("_stderr") + ("" if chosen == "none" else f",{chosen}")
        number = float(value) if isinstance(value, int | float) else None
        metrics.setdefault(metric, {"value": None, "stderr": None})[kind] = number
    return metrics


def _plain(value: Any) -> Any:
    """Return JSON values: functions by name, no path of this machine."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if k != "config_source"}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if callable(value):
        return f"function {getattr(value, '__name__', type(value).__name__)}"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON line a document."""
    with path.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(_plain(row), sort_keys=True) + "\n")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what lm-eval and `datasets` say about their work off the log; errors stay."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "evaluate", "httpx")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@contextlib.contextmanager
def _at(folder: Path | None) -> Iterator[None]:
    """Work in the folder of own task files, so that their relative paths count from it."""
    if folder is None:
        yield
        return
    with contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Drop the many progress bars where nobody watches them."""
    if sys.stderr.isatty():
        yield
        return
    with contextlib.redirect_stderr(io.StringIO()):
        yield
