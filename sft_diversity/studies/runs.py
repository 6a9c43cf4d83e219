"""One run of a study: fine-tune, score, and a record of both; independent of all other runs.

A run reads `study.json`, which `study` froze before the first run, and nothing else that another
run writes. `runs/NAME.json` is written last and carries the key of all that the run depends on.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sft_diversity.core import folder, locks, resources
from sft_diversity.core.errors import DataError, Interrupted, SftdivError, UsageError
from sft_diversity.core.hashing import content_key
from sft_diversity.scoring import stage as scoring
from sft_diversity.studies.cells import Run
from sft_diversity.studies.config import StudyConfig
from sft_diversity.training import stage as finetuning
from sft_diversity.training.models import find_base
from sft_diversity.verbs import training
from sft_diversity.verbs.measuring import measure as measure_verb

FROZEN = "study.json"
VERSION = 1
_MEASURE = "measure:"  # how the measuring of a subset is named among runs
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")


def freeze(study: StudyConfig, runs: list[Run], work: Path, place: Path) -> dict[str, Any]:
    """Write what runs read: their subsets and seeds, the options they share, and keys."""
    keys = keys_of(study, runs, place)
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
        **study.model_dump(mode="json", include={"finetune", "score", "measure", "keep_models"}),
    }
    write_json(place / FROZEN, frozen)
    return frozen


def thaw(place: Path) -> dict[str, Any]:
    """Return what `freeze` wrote.

    Raises
    ------
    UsageError
        If the study was never begun.
    """
    try:
        frozen: dict[str, Any] = json.loads((place / FROZEN).read_text("utf-8"))
    except (OSError, ValueError):
        raise UsageError(
            f"study: {place} has no {FROZEN}; make subsets and plan first (--prepare)"
        ) from None
    return frozen


def keys_of(study: StudyConfig, runs: list[Run], place: Path) -> dict[str, str]:
    """Return for each run a key of all that its figures depend on."""
    training, score = study.finetuning, study.scoring
    shared = {
        "version": [VERSION, finetuning.VERSION, scoring.VERSION],
        "model": find_base(training.model, training.revision).key,
        "finetune": training.model_dump(mode="json", exclude={"model", "revision"}),
        "score": score.model_dump(mode="json", exclude={"eval_dir"}),
        "eval": scoring.file_keys(*scoring.sets_of(score)),
    }
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
    try:
        found: dict[str, Any] = json.loads((place / "runs" / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("key") == key else None


def failure(place: Path, name: str) -> dict[str, Any] | None:
    """Return why a run's last attempt failed, if it did."""
    try:
        found: dict[str, Any] = json.loads(_failed(place, name).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def note_failure(place: Path, name: str, stage: str, error: str) -> None:
    """Keep why a run failed."""
    write_json(_failed(place, name), {"run": name, "stage": stage, "error": error})


def _failed(place: Path, name: str) -> Path:
    return place / "runs" / f"{file_name(name)}.failed.json"


def one(place: Path, name: str) -> dict[str, Any]:
    """Do one run, or take it up where it was stopped; return its record.

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
    key = frozen["runs"][name]["key"]

    def do(at: dict[str, str]) -> dict[str, Any]:
        return record(place, name, key) or _run(place, frozen, name, at)

    return record(place, name, key) or _guarded(place, name, do)


def _guarded(place: Path, name: str, do: Any) -> dict[str, Any]:
    """Do it alone, and keep the reason if it fails."""
    at = {"stage": "start"}
    with locks.alone(place / "runs" / file_name(name), "study"):
        _failed(place, name).unlink(missing_ok=True)
        try:
            made: dict[str, Any] = do(at)
        except Interrupted:
            raise
        except SftdivError as fault:
            note_failure(place, name, at["stage"], str(fault))
            raise
        except Exception as fault:
            note_failure(place, name, at["stage"], f"{type(fault).__name__}: {fault}")
            raise
    return made


def _run(place: Path, frozen: dict[str, Any], name: str, at: dict[str, str]) -> dict[str, Any]:
    run, trained, seconds = frozen["runs"][name], {}, {}
    model: Path | str = frozen["finetune"].get("model") or resources.tiny_base()
    if run["subset"] is not None:
        at["stage"] = "finetune"
        model = place / "models" / name
        _clear(place, name, model, run["key"])
        trained = training.finetune(
            place / "subsets" / run["subset"],
            out=model,
            **frozen["finetune"] | {"train_seed": run["train_seed"]},
        )
        seconds["finetune"] = trained.pop("seconds")
        trained = {k: v for k, v in trained.items() if k not in ("accounting", "out")}
    at["stage"] = "score"
    scores = training.score(model, out=place / "scores" / name, **frozen["score"])
    seconds["score"] = scores["seconds"]
    made = {
        "key": run["key"],
        "run": name,
        "training": trained,
        "scores": headline(scores),
        "seconds": seconds,
    }
    write_json(place / "runs" / f"{name}.json", made)
    _began(place, name).unlink(missing_ok=True)
    if run["subset"] is not None and not frozen["keep_models"]:
        lighten(Path(model))
    return made


def _clear(place: Path, name: str, model: Path, key: str) -> None:
    """Remove what a run under another key left: the study's own, so nobody is to be asked."""
    began, partial = _began(place, name), folder.draft_of(model)
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


def _measure(place: Path, frozen: dict[str, Any], name: str, at: dict[str, str]) -> dict[str, Any]:
    at["stage"] = "measure"
    return measure(place, frozen, name.removeprefix(_MEASURE), dry_run=False)


def measure(place: Path, frozen: dict[str, Any], cell: str, *, dry_run: bool) -> dict[str, Any]:
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
        write_json(model / folder.MANIFEST, manifest)
    for name in weights:
        (model / name).unlink()


def is_light(model: Path) -> bool:
    """Whether a finished model's weights were dropped."""
    return (
        folder.stage_of(model) == "finetune"
        and folder.read_manifest(model).get("dropped") is not None
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.writing")
    scratch.write_text(folder.dump_json(value), "utf-8")
    scratch.replace(path)
