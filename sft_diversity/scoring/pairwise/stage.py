"""The suite `pairwise`: a model's answers against a baseline's, judged in both orders."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft_diversity.core import config as configs
from sft_diversity.core import drafts, folder, parquet, quarantine, resources
from sft_diversity.core.hashing import text_key
from sft_diversity.core.stage import Ask, Job, Result, Stage
from sft_diversity.endpoint.client import Client
from sft_diversity.endpoint.config import check_endpoint, read_key
from sft_diversity.scoring import sets as evalsets
from sft_diversity.scoring.pairwise import answers as answering
from sft_diversity.scoring.pairwise import judge as judging
from sft_diversity.scoring.pairwise import winrate
from sft_diversity.scoring.pairwise.config import PairwiseConfig
from sft_diversity.scoring.sets import Prompt, PromptSet, read_prompts

STAGE = "score"
VERSION = 1
_CHARS_A_TOKEN, _ANSWER_CHARS, _VERDICT_TOKENS = 4, 1_500, 80  # guesses for plans
_ANSWER_S, _VERDICT_S = 0.8, 8.0


def needs(config: PairwiseConfig, ask: Ask) -> None:
    """Read or ask a model and a baseline, ask a judge, read the prompts' files."""
    answering.check_answerer(ask.subject, config.model_name, config.model_key_env, config)
    answering.check_baseline(config)
    judge = config.judge_endpoint()
    check_endpoint(judge, STAGE)
    sets, place = _sets_of(config)
    ask.key("judge_prompt", text_key(judging.load_prompt(config.judge_prompt)))
    for name, key in evalsets.file_keys(sets, place).items():
        ask.key(name, key)
    if ask.dry:  # models may be on the Hub
        ask.key("model", None)
    else:
        read_key(judge, STAGE)  # it is asked last
        both = _both(config, ask.subject, ask.work)
        ask.key("model", both["answers"].key)
        ask.key("baseline", both["against"].key)
    ask.resolve(
        sets=[one.model_dump(mode="json") for one in sets], judge=judge.model_dump(mode="json")
    )


def join(job: Job[PairwiseConfig]) -> Result:
    """Judge a model's answers against a baseline's.

    Writes `answers/SET.jsonl` and `against/SET.jsonl`, `judgments/SET.parquet` (every verdict with
    the judge's words), and `scores.json`, the figures. Answers and verdicts are kept in the work
    folder too: another run does not ask for them again.

    Raises
    ------
    DataError
        If a file is broken or an endpoint stops answering; the same call goes on.
    BadRowsError
        If more calls than `max_bad_fraction` gave no verdict; they are in `OUT.quarantine.jsonl`.
    """
    config, draft = job.config, job.draft
    judge, both = config.judge_endpoint(), _both(job.config, job.subject, job.work)
    template = judging.load_prompt(config.judge_prompt)
    sets, place = _sets_of(config)
    prompts = {one.name: read_prompts(one, place, config.seed, config.limit) for one in sets}
    for part, source in both.items():
        _answer(draft, part, source, prompts)
    with Client(judge, job.work / "answers", STAGE, judging.VERSION) as client:
        for name, some in prompts.items():
            _judge(draft, name, some, template, client)
        run = client.tally.as_json(judge)
    return _result(draft, list(prompts), config, both, run)


def _both(config: PairwiseConfig, model: str, work: Path) -> dict[str, answering.Answerer]:
    """Return who answers: the model, and what it is compared with."""
    kept = work / "answers"
    return {
        "answers": answering.model_of(model, config.model_name, config.model_key_env, config, kept),
        "against": answering.baseline_of(config, kept),
    }


def _cost(config: PairwiseConfig, ask: Ask) -> dict[str, Any]:
    """Guess the judge's tokens; asks nothing."""
    judge = config.judge_endpoint()
    template = judging.load_prompt(config.judge_prompt)
    sets, place = _sets_of(config)
    found = {one.name: read_prompts(one, place, config.seed, config.limit) for one in sets}
    flat = [prompt for some in found.values() for prompt in some]
    given = config.against == "reference"
    characters = sum(
        len(template) + len(p.text) + _ANSWER_CHARS
        + (len(p.reference or "") if given else _ANSWER_CHARS)
        for p in flat
    )  # fmt: skip
    read, written = 2 * characters // _CHARS_A_TOKEN, 2 * len(flat) * _VERDICT_TOKENS
    return {
        "model": ask.subject,
        "suite": config.suite,
        "against": config.against,
        "judge": judge.model,
        "sets": {name: len(some) for name, some in found.items()},
        "rows": len(flat),
        "calls": 2 * len(flat),
        "seconds": round(len(flat) * (_ANSWER_S + 2 * _VERDICT_S / judge.concurrency)),
        "bytes": 6_000 * len(flat),
        "tokens_in": read,
        "tokens_out": written,
        "cost": round(judge.cost(read, written), 2),
    }


PAIRWISE = Stage(STAGE, VERSION, PairwiseConfig, needs=needs, join=join, cost=_cost)


def read_judgments(scored: Path) -> pa.Table:
    """Return the judgments of a finished pairwise score, one row a prompt."""
    return parquet.join(parquet.listed(scored, "judgments", STAGE))


def _answer(
    draft: drafts.Draft,
    part: str,
    source: answering.Answerer,
    prompts: dict[str, list[Prompt]],
) -> None:
    left = {n: some for n, some in prompts.items() if not draft.has(f"{part}/{n}.jsonl")}
    with contextlib.closing(source.answers(left)) as answered:
        for name, said in answered:
            with draft.writing(f"{part}/{name}.jsonl") as path:
                answering.write_answers(path, left[name], said)


def _judge(
    draft: drafts.Draft, name: str, prompts: list[Prompt], template: str, client: Client
) -> None:
    if not draft.has(f"judgments/{name}.parquet"):
        by_record = sorted(prompts, key=lambda prompt: prompt.record)
        said = (
            answering.read_answers(draft.path / f"{p}/{name}.jsonl") for p in ("answers", "against")
        )
        pairs = [judging.Pair(*row) for row in zip(by_record, *said, strict=True)]
        draft.write_table(f"judgments/{name}.parquet", judging.judge(name, pairs, template, client))


def _result(
    draft: drafts.Draft,
    names: list[str],
    config: PairwiseConfig,
    both: dict[str, answering.Answerer],
    run: dict[str, Any],
) -> Result:
    table = _tables(draft.path, names)
    _check_verdicts(table, draft, config.max_bad_fraction)
    scores = winrate.summarise_judgments(table, config.draws, config.seed)
    scores |= {"suite": config.suite, "answers": _account(draft, names)}
    draft.write_json("scores.json", scores)
    skipped = scores["skipped"]
    return Result(
        rows=folder.rows_account(table.num_rows, table.num_rows - sum(skipped.values()), skipped),
        seeds={"seed": config.seed},
        figures=scores,
        run={"model": both["answers"].name, "baseline": both["against"].name, **run},
    )


def _tables(place: Path, names: Sequence[str]) -> pa.Table:
    return parquet.join([place / f"judgments/{name}.parquet" for name in names])


def _account(draft: drafts.Draft, names: list[str]) -> dict[str, dict[str, int]]:
    """Count what became of the answers of both sides: statuses, and how many were cut."""
    found: dict[str, dict[str, int]] = {}
    for part, side in (("answers", "model"), ("against", "baseline")):
        said = [
            one for n in names for one in answering.read_answers(draft.path / f"{part}/{n}.jsonl")
        ]
        counts = Counter(one.status for one in said)
        counts["cut"] += sum(one.cut for one in said)
        found[side] = dict(counts)
    return found


def _check_verdicts(table: pa.Table, draft: drafts.Draft, limit: float) -> None:
    """Stop where too many calls gave no verdict: the figures would be of something else."""
    judged = [row for row in table.to_pylist() if row["status"] == "judged"]
    bad = [
        {
            "set": row["set"],
            "record": row["record"],
            "order": order,
            "reason": row[order],
            "raw": row[f"{order}_text"],
        }
        for row in judged
        for order in ("first", "second")
        if row[order] not in winrate.WORTH
    ]
    if len(bad) <= limit * 2 * len(judged):
        return
    shutil.rmtree(draft.path / "judgments")  # the verdicts themselves are kept elsewhere
    raise quarantine.too_many(
        STAGE, draft.out, folder.json_lines(bad),
        bad=len(bad), rows=2 * len(judged), limit=limit,
        what="calls to the judge gave no verdict", way_out="mend the judge's prompt",
    )  # fmt: skip


def _sets_of(config: PairwiseConfig) -> tuple[tuple[PromptSet, ...], Path]:
    """Return the sets that a config means and the folder they lie in."""
    if config.prompts is not None:
        own, place = evalsets.own_set(config.prompts)
        return (own,), place
    sets = config.sets
    if sets is None:
        default = resources.shipped("configs") / "score" / "pairwise.yaml"
        sets = configs.load(default, PairwiseConfig).sets or ()
    return sets, evalsets.find_eval_dir(config.eval_dir)
