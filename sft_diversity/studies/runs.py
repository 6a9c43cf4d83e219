"""One run of a study: fine-tune, score, and a record of both; independent of all other runs.

A run reads `study.json`, which `study` froze before the first run, and nothing else that another
run writes. `runs/NAME.json` is written last and carries the key of all that the run depends on.
What equal runs do not have in common, their seconds, is in `logs/`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sft_diversity.core import drafts, folder, locks, resources
from sft_diversity.core.cells import Run
from sft_diversity.core.errors import DataError, Interrupted, SftdivError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.scoring import stage as scoring
from sft_diversity.scoring.generate import stage as generation
from sft_diversity.studies.config import STAGE, StudyConfig
from sft_diversity.training import stage as finetuning
from sft_diversity.training.models import BASES
from sft_diversity.training.samples import find_samples
from sft_diversity.verbs import training
from sft_diversity.verbs.measuring import measure as measure_verb

FROZEN = "study.json"
#: Figures of answers that a row of results has, in percent but for the mean length.
GENERATED = (
    "instruction_strict", "instruction_loose", "prompt_strict", "prompt_loose", "exact", "ended",
    "looping", "tokens_mean",
)  # fmt: skip
VERSION = 1
_FROZEN = {"finetune", "score", "generate", "measure", "keep_models"}
_MEASURE = "measure:"  # how the measuring of a subset is named among runs
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")


def freeze(study: StudyConfig, runs: list[Run], work: Path, place: Path) -> dict[str, Any]:
    """Write what runs read: their subsets and seeds, the options they share, and keys."""
    keys = run_keys(study, runs, place)
    frozen = {
        "runs": {
            run.name: {
                "subset": run.cell.name if run.cell else None,
                "train_seed": run.train_seed,
                "key": keys[run.name],
            }
            for run in runs
        },
        "work": str(work.absolute()),
        **study.model_dump(mode="json", include=_FROZEN),
    }
    frozen["score"] |= {"dtype": study.scoring.dtype}
    folder.write_json(place / FROZEN, frozen, STAGE)
    return frozen


def thaw(place: Path) -> dict[str, Any]:
    """Return what `freeze` wrote.

    Raises
    ------
    UsageError
        If the study was never begun.
    """
    frozen = read(place / FROZEN)
    if frozen is None:
        raise UsageError(f"study: {place} has no {FROZEN}; make subsets and plan first (--prepare)")
    return frozen


def run_keys(study: StudyConfig, runs: list[Run], place: Path) -> dict[str, str]:
    """Return for each run a key of all that its figures depend on."""
    training, score = study.finetuning, study.scoring
    # On a CPU these mean what the options did that older studies have in their keys.
    as_before = {
        "dtype": study.score.get("dtype", "auto"), "batch_tokens": score.batch_tokens or 4096
    }  # fmt: skip
    shared = {
        "version": [VERSION, finetuning.VERSION, scoring.VERSION],
        "model": BASES.find(training.model, training.revision).key,
        "finetune": training.model_dump(mode="json", exclude={"model", "revision", "eval_data"}),
        "evaluation": training.eval_data and find_samples(Path(training.eval_data)).key,
        "score": score.model_dump(mode="json", exclude={"eval_dir"}) | as_before,
        "eval": scoring.file_keys(*scoring.sets_of(score)),
    }
    if (generate := study.generating) is not None:
        shared["generate"] = generation.score_content(generate)
    subsets: dict[str | None, str | None] = {None: None}
    for run in runs:
        name = run.cell.name if run.cell else None
        if name not in subsets:
            manifest = folder.read_manifest(place / "subsets" / str(name), "select")
            subsets[name] = folder.contents_key(manifest, "samples/")
    return {
        run.name: content_key(
            shared
            | {"subset": subsets[run.cell.name if run.cell else None], "seed": run.train_seed}
        )
        for run in runs
    }


def record(place: Path, name: str, key: str) -> dict[str, Any] | None:
    """Return the record of a run that is finished under this key."""
    found = read(place / "runs" / f"{name}.json")
    return found if found and found.get("key") == key else None


def finished(place: Path, frozen: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the record of a run that is finished, as itself or as one that is the same.

    Draws of a level may pick the same samples, at 100 % above all; their runs have one key then,
    and the first one's figures are the others' too.
    """
    key = frozen["runs"][name]["key"]
    if found := record(place, name, key):
        return found
    for other, run in frozen["runs"].items():
        if run["key"] == key and (found := record(place, other, key)):
            made = found | {"run": name}
            folder.write_json(place / "runs" / f"{name}.json", made, STAGE)
            return made
    return None


def seconds(place: Path, name: str) -> dict[str, float]:
    """Return how long each stage of a run took, as far as it is known here."""
    return read(_seconds(place, name)) or {}


def failure(place: Path, name: str) -> dict[str, Any] | None:
    """Return why a run's last attempt failed, if it did."""
    return read(_failed(place, name))


def read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object that a study keeps for itself, None where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def note_failure(place: Path, name: str, stage: str, error: str) -> None:
    """Keep why a run failed; paths of the study are told from its own folder."""
    for said in (place.absolute(), place):
        error = error.replace(f"{said}/", "")
    told = {"run": name, "stage": stage, "error": error}
    folder.write_json(_failed(place, name), told, STAGE)


def _failed(place: Path, name: str) -> Path:
    return place / "runs" / f"{file_name(name)}.failed.json"


def _seconds(place: Path, name: str) -> Path:
    return place / "logs" / f"{file_name(name)}.seconds.json"


def one(place: Path, name: str) -> dict[str, Any]:
    """Do one run, or take it up where it was stopped; return its record.

    Another process that is at it is waited for.

    Raises
    ------
    UsageError
        If the study has no such run.
    """
    frozen = thaw(place)
    if name.startswith(_MEASURE):
        return _guarded(place, name, lambda at: _measure(place, frozen, name, at))
    if name not in frozen["runs"]:
        raise UsageError(f"study: no run {name!r}; `--dry-run` lists them")
    done = finished(place, frozen, name)
    return done or _guarded(place, name, lambda at: _run(place, frozen, name, at))


def _guarded(
    place: Path, name: str, do: Callable[[dict[str, str]], dict[str, Any]]
) -> dict[str, Any]:
    """Do it alone, and keep the reason if it fails."""
    at = {"stage": "start"}
    with locks.alone(place / "runs" / file_name(name), f"study: {name}"):
        _failed(place, name).unlink(missing_ok=True)
        try:
            return do(at)
        except Interrupted:
            raise
        except SftdivError as fault:
            note_failure(place, name, at["stage"], str(fault))
            raise
        except Exception as fault:
            note_failure(place, name, at["stage"], f"{type(fault).__name__}: {fault}")
            raise


def _run(place: Path, frozen: dict[str, Any], name: str, at: dict[str, str]) -> dict[str, Any]:
    run, options = frozen["runs"][name], frozen["finetune"]
    done = finished(place, frozen, name)
    if done:
        return done
    trained, took = {}, {}
    model: Path | str | None = options.get("model")
    if run["subset"] is not None:
        at["stage"] = "finetune"
        model = place / "models" / name
        _clear(place, name, model, run["key"])
        trained = training.finetune(
            place / "subsets" / run["subset"],
            out=model,
            work=frozen["work"],
            **options | {"train_seed": run["train_seed"]},
        )
        took["finetune"] = trained.pop("seconds")
        trained = {k: v for k, v in trained.items() if k not in ("accounting", "out")}
    elif model is None:
        model = resources.base_model()
    elif options.get("revision"):
        model = f"{model}@{options['revision']}"
    at["stage"] = "score"
    scores = training.score(model, out=place / "scores" / name, **frozen["score"])
    took["score"] = scores["seconds"]
    figures = headline(scores)
    if frozen.get("generate") is not None:
        at["stage"] = "generate"
        options = frozen["generate"] | {"suite": "generate", "work": frozen["work"]}
        began = time.monotonic()
        generated = training.score(model, out=place / "generated" / name, **options)
        took["generate"] = round(
            time.monotonic() - began, 3
        )  # its answers are a stage of their own
        figures |= generated_figures(generated)
    made = {"key": run["key"], "run": name, "training": trained, "scores": figures}
    folder.write_json(_seconds(place, name), took, STAGE)
    folder.write_json(place / "runs" / f"{name}.json", made, STAGE)
    _began(place, name).unlink(missing_ok=True)
    if run["subset"] is not None and not frozen["keep_models"]:
        lighten(Path(model))
    return made


def _clear(place: Path, name: str, model: Path, key: str) -> None:
    """Remove what a run under another key left: the study's own, so nobody is to be asked."""
    began, partial = _began(place, name), drafts.draft_of(model)
    if is_light(model):  # scored before, under other options
        shutil.rmtree(model)
    if partial.exists() and not (began.is_file() and began.read_text("utf-8") == key):
        shutil.rmtree(partial)
    began.write_text(key, "utf-8")


def _began(place: Path, name: str) -> Path:
    """Return the file that says under which key a run under way trains."""
    return place / "runs" / f".{name}.began"


def headline(scores: dict[str, Any]) -> dict[str, float | None]:
    """Return the scores of a row; `score` is the one that fits read, higher is better.

    Raises
    ------
    DataError
        If the sets that were scored have no transfer prompts.
    """
    figures = {
        "transfer_first64": scores["headline"]["transfer_first64"],
        "short_references": scores["headline"]["short_references"],
        "in_mix": scores["in_mix"],
        "domain_mean": scores["domains"]["mean"],
    }
    found = {name: figure["nll_per_token"] for name, figure in figures.items()}
    if found["transfer_first64"] is None:
        raise DataError("study: no transfer set was scored, so there is no headline; add one")
    return {"score": -found["transfer_first64"], **found}


def generated_figures(scores: dict[str, Any]) -> dict[str, float | None]:
    """Return the figures of answers of a row; `score` is the share of instructions kept.

    Where no set has instructions it is that of right numbers.

    Raises
    ------
    DataError
        If the answers of no set are checked.
    """
    found = {
        name: figure["value"] if isinstance(figure, dict) else figure
        for name, figure in scores["headline"].items()
    }
    for name in ("instruction_strict", "exact"):
        if found[name] is not None:
            return {"score": found[name], **{name: found[name] for name in GENERATED}}
    raise DataError("study: `generate` checks no set's answers, so there is no score; add one")


def _measure(place: Path, frozen: dict[str, Any], name: str, at: dict[str, str]) -> dict[str, Any]:
    at["stage"] = "measure"
    return measure_subset(place, frozen, name.removeprefix(_MEASURE), dry_run=False)


def measure_subset(
    place: Path, frozen: dict[str, Any], cell: str, *, dry_run: bool
) -> dict[str, Any]:
    """Measure a subset of the study (or plan to)."""
    return measure_verb(
        place / "subsets" / cell,
        out=place / "measures" / cell,
        work=frozen["work"],
        dry_run=dry_run,
        **frozen["measure"],
    )


def file_name(name: str) -> str:
    """Return how files of a run are named."""
    return name.replace(":", "-")


def measuring(cell: str) -> str:
    """Return how the measuring of a cell is named among runs."""
    return f"{_MEASURE}{cell}"


def lighten(model: Path) -> None:
    """Drop a model's weights, if it is there; its manifest keeps the log and says what is gone."""
    if not model.exists():
        return  # the record is what a study needs; models may be deleted, or never have been here
    manifest = folder.read_manifest(model, "finetune")
    weights = {path.name for pattern in _WEIGHTS for path in model.glob(pattern)}
    if manifest.get("dropped") is None:
        manifest["dropped"] = [f for f in manifest["files"] if f["path"] in weights]
        manifest["files"] = [f for f in manifest["files"] if f["path"] not in weights]
        body = {k: v for k, v in manifest.items() if k not in ("run", "digest")}
        manifest["digest"] = content_key(body)
        folder.write_json(model / folder.MANIFEST, manifest, STAGE)
    for name in weights:
        (model / name).unlink()


def is_light(model: Path) -> bool:
    """Whether a finished model's weights were dropped."""
    return (
        folder.stage_of(model) == "finetune"
        and folder.read_manifest(model).get("dropped") is not None
    )
