"""A schedule beside those it is compared with: figures, and a picture of them."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from sft_diversity.core import folder
from sft_diversity.core.config import Config
from sft_diversity.core.errors import UsageError
from sft_diversity.training.schedules import (
    Kind,
    KindOption,
    Phases,
    Phi,
    Schedule,
    WarmUp,
)
from sft_diversity.training.uba import uba_half, uba_mean, warmup_steps

# Points of a curve: in the result, and in a picture.
_POINTS, _DRAWN = 101, 2001

_BESIDE: tuple[Kind, ...] = ("cosine", "linear", "wsd", "step", "constant")
_NAMES: dict[Kind, str] = {"uba": "UBA", "wsd": "WSD"}


class ScheduleOptions(Config):
    """A learning-rate schedule."""

    schedule: KindOption = "uba"
    steps: int = Field(1000, gt=0, description="optimizer steps, warm-up included")
    phi: Phi = 2.0
    warmup: WarmUp = 0.0
    lr: float = Field(1.0, gt=0, description="peak learning rate")
    floor: float = Field(0.0, ge=0, le=1, description="share of the peak at the end, η_min/η_max")
    phases: Phases = ()
    equal_area: bool = Field(
        False, description="scale all peaks so that the rates sum to those of the cosine"
    )


def compare_schedules(options: ScheduleOptions, points: int = _POINTS) -> dict[str, Any]:
    """Return the rates of a schedule and of those beside it.

    Returns
    -------
    dict
        The options; `warmup_steps`; for UBA `mean_law`, the closed mean of its factor, and
        `half_law`, the share of a phase after which it is halved; `curves`, the schedule first: of
        each `name, kind, peak, sum, mean` (over all steps) and `rates` at the steps in `shown`.
        The last of these is the end: the rate after the last step.

    Raises
    ------
    UsageError
        If the schedule cannot be.
    """
    warmup = warmup_steps(options.warmup, options.steps)
    shown = sorted({round(i * options.steps / (points - 1)) for i in range(points)})
    asked = _curve(options, options.schedule, warmup, shown)
    plain = options.model_copy(update={"phases": ()})
    beside = [
        _curve(plain, kind, warmup, shown)
        for kind in _BESIDE
        if kind != options.schedule or options.phases
    ]
    laws = {"mean_law": uba_mean(options.phi), "half_law": uba_half(options.phi)}
    return {
        **options.model_dump(mode="json"),
        "warmup_steps": warmup,
        **(laws if options.schedule == "uba" and not options.phases else {}),
        "shown": shown,
        "curves": [asked, *beside],
    }


def _curve(options: ScheduleOptions, kind: Kind, warmup: int, shown: list[int]) -> dict[str, Any]:
    steps, phi, phases = options.steps, options.phi, options.phases
    peak, factor = 1.0, Schedule(kind, steps, warmup, phi, options.floor, phases)
    if options.equal_area:
        peak, factor = factor.equal_area()
    peak *= options.lr
    total = peak * math.fsum(map(factor, range(steps)))
    name = _NAMES.get(kind, kind) + (f", φ = {phi:g}" if kind == "uba" and not phases else "")
    return {
        "name": name + (f", {len(phases)} phases" if phases else ""),
        "kind": kind,
        "peak": peak,
        "sum": total,
        "mean": total / steps,
        "rates": [peak * factor(step) for step in shown],
    }


_SOFTWARE = "sftdiv schedule"  # as the pictures say, which may be drawn anew


def _check_place(path: Path) -> None:
    try:
        there = path.lstat()
        own = stat.S_ISREG(there.st_mode) and f"Software\0{_SOFTWARE}".encode() in _start(path)
    except FileNotFoundError:
        return
    except OSError as fault:
        raise UsageError(f"schedule: {path}: {fault.strerror}; name another file") from None
    if not own:
        raise UsageError(
            f"schedule: {path} is there and no picture that `sftdiv schedule` drew; name another "
            "file or remove it"
        )


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1_000)


def draw_schedules(options: ScheduleOptions, path: Path) -> None:
    """Draw the schedule beside the others into a PNG file.

    Raises
    ------
    UsageError
        If something lies there that is no picture of this function's.
    DataError
        If the file cannot be written.
    """
    _check_place(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result = compare_schedules(options, _DRAWN)
    shown, (asked, *beside) = result["shown"], result["curves"]
    figure = Figure(figsize=(9.0, 5.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in beside:
        colour, line = _STYLES[curve["kind"]]
        label = _label(curve, options)
        axes.plot(shown, curve["rates"], color=colour, linestyle=line, linewidth=1.6, label=label)
    axes.plot(shown, asked["rates"], color="black", linewidth=2.6, label=_label(asked, options))
    axes.set_xlim(0, options.steps)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("optimizer step")
    peak = "cosine's peak" if options.equal_area else "peak"
    axes.set_ylabel("learning rate" if options.lr != 1 else f"share of the {peak} learning rate")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    order = [len(beside), *range(len(beside))]  # drawn last, named first
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    _title(axes.set_title, options, result["warmup_steps"])
    with folder.replacing(path, "schedule") as scratch:
        figure.savefig(scratch, format="png", metadata={"Software": _SOFTWARE})


# Okabe and Ito's colours, which colour-blind readers can tell apart; lines that run on top of each
# other at the peak differ in their dashes.
_STYLES: dict[Kind, tuple[str, str]] = {
    "cosine": ("#0072B2", "-"),
    "linear": ("#E69F00", "-"),
    "wsd": ("#009E73", "-"),
    "step": ("#CC79A7", "--"),
    "constant": ("#D55E00", ":"),
}


def _label(curve: dict[str, Any], options: ScheduleOptions) -> str:
    figure = "peak" if options.equal_area else "mean"
    return f"{curve['name']} ({figure} {curve[figure]:.3g})"


def _title(write: Callable[..., Any], options: ScheduleOptions, warmup: int) -> None:
    parts = [f"{options.steps:,} steps"]
    parts += [f"{warmup:,} of warm-up"] if warmup else []
    parts += [f"floor {options.floor:g}"] if options.floor else []
    parts += ["equal sum of rates"] if options.equal_area else []
    write(", ".join(parts), fontsize=10, loc="left")
