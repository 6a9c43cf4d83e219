"""One task of lm-evaluation-harness, run; its figures without what differs between equal runs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.endpoint.config import EndpointConfig, completions_url, read_key
from sft_diversity.scoring import model as models
from sft_diversity.scoring.harness import tasks as tasking
from sft_diversity.scoring.harness.config import HarnessConfig

_BOOTSTRAP = 1_000
_KEPT = ("doc_id", "doc", "target", "resps", "filtered_resps", "filter", "metrics")


def local_model(source: models.Source, device: str, dtype: str, config: HarnessConfig) -> Any:
    """Return a model that runs here, as lm-eval wants it; loaded as all suites load it."""
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = models.load(source, device, dtype, config.trust_remote_code)
    with tasking.quiet():
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
    with tasking.quiet():
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
        with tasking.quiet(), _at(config.include_path), _calm():
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
