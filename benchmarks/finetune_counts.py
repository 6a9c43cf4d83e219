"""What a fine-tuning step does besides its products, counted and not timed.

    python benchmarks/finetune_counts.py SUBSET [--model DIR]

Real tokens over computed ones with the batches of before (the whole step at once, as GPUs had it;
eights of equal number, as CPUs had it) and of now, for steps of 32 and 128 samples cut at 512 and
1,024 tokens. Operations of PyTorch in a step's forward passes and in measuring its gradient, and
those among them for which a GPU is waited, views left out: by our loss and by TRL's own, by lists
of tensors (as on a GPU). Not seen here: the one `tolist` of the gradient's sums, and two selections
by a mask in TRL's loss on a GPU, each of which waits too. Bytes of checkpoints that a run of 4
steps leaves, and of the one at its end that it would have written before. Writes
benchmarks/results/finetune_counts.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode

from sft_diversity.core import chat, folder, machine
from sft_diversity.core.drafts import Work, open_draft
from sft_diversity.core.progress import Progress
from sft_diversity.training import batches, course, head, rendering, samples, theory, trainer
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES, load_right_padding_tokenizer
from sft_diversity.training.team import Team

RESULTS = Path(__file__).parent / "results" / "finetune_counts.json"
# What a GPU's answer decides: a value that Python reads, a shape that depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero")


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that PyTorch dispatches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def figures(self) -> dict[str, int]:
        """Return how many operations there were, and how many a GPU would be waited for."""
        waits = sum(self.seen[name] for name in WAITS)
        return {"operations": self.seen.total(), "waits": waits}


def padding(rendered: rendering.Rendered) -> dict[str, dict[str, float]]:
    """Return real over computed tokens, and micro-batches a step, by how steps are cut."""
    told = {}
    for length in (512, 1024):
        lengths = np.minimum(rendered.lengths, length)
        for size in (32, 128):
            order = batches.reading_order(rendered.response_tokens, size, 0, epochs=1)
            cuts = {
                "whole step": batches.micro_batches(order, lengths, size, size),
                "eights": batches.micro_batches(order, lengths, size, 8),
                "now": batches.least_padded(order, lengths, size, 8192),
            }
            row: dict[str, float] = {}
            for name, cut in cuts.items():
                computed = sum(len(rows) * int(lengths[rows].max()) for rows in cut)
                row[name] = round(int(lengths[order].sum()) / computed, 4)
                row[f"{name}, a step"] = round(len(cut) * size / len(order), 2)
            told[f"{size} samples, {length} tokens"] = row
    return told


def steps(rendered: rendering.Rendered, base: Any, tokenizer: Any, own: bool) -> dict[str, Any]:
    """Return the operations of one step, and the bytes that four steps write."""
    from transformers import TrainerCallback

    config = FinetuneConfig(steps=4, optimizer="lion", checkpoint_steps=10_000)
    draft = open_draft(Path(tempfile.mkdtemp()) / "out", Work("finetune", 0, {}, {}))
    run = course.lay_out(rendered, base, config, 8192)
    bar = Progress("", 4, "steps", silent=True)
    plain = head.is_plain
    head.is_plain = plain if own else lambda model: False
    one = trainer.build_trainer(run, base, tokenizer, config, "float32", draft, bar, Team())
    head.is_plain = plain
    result: dict[str, Any] = {}
    compute = one.compute_loss

    def counted(*args: Any, **kwargs: Any) -> Any:
        if "forward" in result:
            return compute(*args, **kwargs)
        with Counting() as counting:
            loss = compute(*args, **kwargs)
        result["forward"] = counting.figures()
        return loss

    setattr(one, "compute_loss", counted)  # noqa: B010 - a method to the type checker
    groups: list[Any] = []

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            if groups:
                return
            groups.extend(kwargs["optimizer"].param_groups)
            held = [(p, g["weight_decay"]) for g in groups for p in g["params"]]
            for box in (False, True):
                with Counting() as counting:
                    theory._sums_of_lists(held, box, False)
                result["gradient, LION" if box else "gradient, AdamW"] = counting.figures()
            result["tensors"] = len(held)

    one.add_callback(Look())
    one.train()
    left = (draft.path / "checkpoints").rglob("*")
    result["bytes of checkpoints"] = sum(path.stat().st_size for path in left if path.is_file())
    one.state.global_step, one.args.output_dir = 1, tempfile.mkdtemp()
    one._save_checkpoint(one.model, None)
    left = Path(one.args.output_dir).rglob("*")
    result["bytes of the one at the end, before"] = sum(
        path.stat().st_size for path in left if path.is_file()
    )
    return result


def main() -> None:
    """Count and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("subset", type=Path)
    parser.add_argument("--model")
    asked = parser.parse_args()
    base = BASES.find(asked.model)
    tokenizer = load_right_padding_tokenizer(base)
    chat.ensure_template(tokenizer)
    source = samples.find_samples(asked.subset)
    rendered = rendering.render_samples(source, tokenizer, 1024, "trim")
    report = {
        "machine": machine.measured_on(),
        "model": base.name,
        "samples": len(rendered.lengths),
        "real_share": padding(rendered),
        "ours": steps(rendered, base, tokenizer, own=True),
        "trl": steps(rendered, base, tokenizer, own=False),
    }
    RESULTS.write_text(folder.dump_json(report), "utf-8")
    print(folder.dump_json(report))


if __name__ == "__main__":
    main()
