"""The suite `generate`: what a model's answers do, checked by rule: no judge, no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft_diversity.core import config as configs
from sft_diversity.core import extras, folder, parquet, resources
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.endpoint.config import is_url
from sft_diversity.scoring import sets as evalsets
from sft_diversity.scoring.generate import figures, rules, writing
from sft_diversity.scoring.generate.config import CheckedSet, GenerateConfig
from sft_diversity.scoring.generate.reading import distinct_share, final_number, longest_loop
from sft_diversity.scoring.sets import Prompt

STAGE, VERSION = "score", 1
_SHOWN = 3  # answers of each set that a result shows
_SHOWN_CHARS = 400


def needs(config: GenerateConfig, ask: Ask) -> None:
    """Read the model's answers, and what makes them right."""
    if is_url(ask.subject):
        raise UsageError(
            f"score: {ask.subject} is an endpoint, which the suite generate does not ask; name a "
            "model folder or a Hub id, or score its answers with --suite pairwise or harness"
        )
    config = with_sets(config)
    sets = config.sets or ()
    check_sets(config)
    ask.stage("answers", writing.STAGE, dict(config.answering(ask.subject)))
    for name, key in evalsets.file_keys(sets, evalsets.find_eval_dir(config.eval_dir)).items():
        ask.key(name, key)
    ask.resolve(sets=[one.model_dump(mode="json") for one in sets])
    ask.rows(ask.inputs["answers"].rows)


def check_sets(config: GenerateConfig) -> None:
    """Refuse sets that cannot be checked, before a model is asked anything.

    Raises
    ------
    UsageError, DataError
        If a file or a package is not there, or a row names no rule or no number.
    """
    sets = with_sets(config).sets or ()
    if any(one.check == "constraints" for one in sets):
        extras.require("py3langid", "score: the suite generate")
    for one in sets:
        _truths(one, _rows(one, config))


def join(job: Job[GenerateConfig]) -> Result:
    """Check every answer: `checked/SET.parquet`, `answers/SET.jsonl` to read, and `scores.json`.

    Raises
    ------
    DataError
        If a set names no rule that there is, or a reference holds no number.
    """
    config = with_sets(job.config)
    answered = job.inputs["answers"].path
    written = parquet.join(parquet.listed(answered, "batches", writing.STAGE)).to_pylist()
    tables = []
    for one in config.sets or ():
        own = {row["record"]: row for row in written if row["set"] == one.name}
        prompts = _read(one, config)
        truths = _truths(one, _rows(one, config))
        checked = [
            verdict_row(prompt, own[prompt.record], truths[prompt.record]) for prompt in prompts
        ]
        tables.append(pa.Table.from_pylist(checked, schema=figures.CHECKED))
        job.write_table(f"checked/{one.name}.parquet", tables[-1])
        with job.writing(f"answers/{one.name}.jsonl") as path:
            _write_lines(path, prompts, own, checked)
    table = pa.concat_tables(tables)
    scores = figures.summarise(table, config.draws, config.seed)
    scores |= {"suite": config.suite, "samples": _samples(job, config)}
    job.draft.write_json("scores.json", scores)
    skipped = scores["skipped"]
    return Result(
        rows=folder.rows_account(table.num_rows, table.num_rows - sum(skipped.values()), skipped),
        seeds={"seed": config.seed},
        figures=scores,
        run=_pace(folder.read_manifest(answered)["run"]),
    )


def verdict_row(prompt: Prompt, written: dict[str, Any], truth: Any) -> dict[str, Any]:
    """Return the CHECKED row of one answer.

    Parameters
    ----------
    written : dict
        A row of ANSWERS.
    truth : list of (rule, arguments), Decimal or None
        What makes it right.
    """
    answer, words = written["answer"], written["answer"].split()
    row = {
        "set": prompt.set,
        "record": prompt.record,
        "prompt": prompt.key,
        "status": written["status"],
        "tokens": written["tokens"],
        "words": len(words),
        "distinct": distinct_share(words),
        "loop": longest_loop(words),
    }
    if isinstance(truth, list):
        row["rules"] = [rule for rule, _ in truth]
        row["strict"] = [rules.follows_strictly(answer, *one) for one in truth]
        row["loose"] = [rules.follows_loosely(answer, *one) for one in truth]
    elif truth is not None:
        row["exact"] = final_number(answer) == truth
    return row


def score_content(config: GenerateConfig) -> dict[str, Any]:
    """Return what a score's figures depend on besides the model, for who keeps scores of many."""
    named = with_sets(config)
    place = evalsets.find_eval_dir(config.eval_dir)
    return {
        "version": [VERSION, writing.VERSION],
        "options": named.model_dump(mode="json"),
        "files": evalsets.file_keys(named.sets or (), place),
    }


def expected_s(config: GenerateConfig, parameters: float) -> float:
    """Return about how long a score of a model with so many parameters takes."""
    sets = with_sets(config).sets or ()
    prompts = sum(len(_read(one, config)) for one in sets)
    return writing.estimated_s(prompts, config.max_new_tokens, parameters)


def with_sets(config: GenerateConfig) -> GenerateConfig:
    """Return a config whose sets are named: the default ones where none are."""
    if config.sets is not None:
        return config
    default = resources.shipped("configs") / "score" / "generate.yaml"
    return config.model_copy(update={"sets": configs.load(default, GenerateConfig).sets})


def _read(one: CheckedSet, config: GenerateConfig) -> list[Prompt]:
    place = evalsets.find_eval_dir(config.eval_dir)
    return evalsets.read_prompts(one, place, config.seed, config.limit)


def _rows(one: CheckedSet, config: GenerateConfig) -> list[dict[str, Any]]:
    return evalsets.joined_rows(evalsets.find_eval_dir(config.eval_dir), one.file, one.join)


def _truths(one: CheckedSet, rows: list[dict[str, Any]]) -> list[Any]:
    """Return what makes an answer to each row of a set right."""
    found: list[Any] = []
    for number, row in enumerate(rows):
        where = f"score: {one.file}, row {number}"
        if one.check == "constraints":
            found.append(rules.check_row(row.get("instruction_id_list"), row.get("kwargs"), where))
        elif one.check == "number":
            reference = evalsets.value_at(row, one.response or "response")
            truth = final_number(str(reference))
            if truth is None:
                raise DataError(f"{where}: no number in `{one.response}`; mend the set's paths")
            found.append(truth)
        else:
            found.append(None)
    return found


def _write_lines(
    path: Path,
    prompts: list[Prompt],
    written: dict[int, dict[str, Any]],
    checked: list[dict[str, Any]],
) -> None:
    """Write one JSON line a prompt with its answer and verdicts, in the order of the set's file."""
    with path.open("w", encoding="utf-8") as handle:
        for prompt, row in sorted(zip(prompts, checked, strict=True), key=lambda p: p[0].record):
            line = {"record": prompt.record, "prompt": prompt.text}
            line |= {"answer": written[prompt.record]["answer"], "status": row["status"]}
            for name in ("rules", "strict", "loose", "exact"):
                if row.get(name) is not None:
                    line[name] = row[name]
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def _samples(job: Job[GenerateConfig], config: GenerateConfig) -> dict[str, list[dict[str, Any]]]:
    """Return the first answers of each set, shortened."""
    found = {}
    for one in config.sets or ():
        lines = (job.draft.path / f"answers/{one.name}.jsonl").read_text("utf-8").split("\n")
        rows = [json.loads(line) for line in lines[:_SHOWN] if line]
        for row in rows:
            row |= {name: row[name][:_SHOWN_CHARS] for name in ("prompt", "answer")}
        found[one.name] = rows
    return found


def _pace(run: dict[str, Any]) -> dict[str, Any]:
    names = ("model", "tokens_new", "answering_seconds", "tokens_per_s")
    return {name: run[name] for name in names if name in run}


def _cost(config: GenerateConfig, ask: Ask) -> dict[str, Any]:
    rows = ask.inputs["answers"].rows
    return {
        "model": ask.subject,
        "suite": config.suite,
        "rows": rows,
        "seconds": 5,
        "bytes": 2_000 * rows,
    }


GENERATE = Stage(STAGE, VERSION, GenerateConfig, needs=needs, join=join, cost=_cost)
