"""Where a step of all weights of a real model goes, beside what the processor can multiply.

    python benchmarks/finetune_profile.py --model FOLDER [--precision bfloat16]
        [--shapes 2x128 4x512]

For each shape (samples x tokens, the second half of each sample labelled) one warm step in a plain
loop, as in `finetune_vs_trl.py`: seconds of the processor and tokens of them, operations a second
(6 a weight and token, the head at labelled positions, attention), and the share of PyTorch's
operations by kind, from its profiler. The product rate is that of 1,024 rows by the model's own
matrices, measured in the same process. Writes benchmarks/results/finetune_profile.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from sft_diversity.core import folder, machine
from sft_diversity.training.models import BASES, load_base

RESULTS = Path(__file__).parent / "results" / "finetune_profile.json"
KINDS = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("scaled_dot_product",),
    "optimizer": ("_fused_adamw", "Optimizer"),
    "casts and copies": ("aten::copy_", "aten::_to_copy"),
    "clipping": ("vector_norm", "aten::mul_"),
    "loss": ("softmax", "nll_loss"),
}


def kind_of(operation: str) -> str:
    """Return the kind of an operation; the rest is element by element."""
    for kind, names in KINDS.items():
        if any(operation == n if n.startswith("aten::m") else n in operation for n in names):
            return kind
    return "element by element, sums, other"


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor seconds of a second call."""
    work()
    start = time.process_time()
    work()
    return time.process_time() - start


def product_rate(net: Any, dtype: torch.dtype) -> float:
    """Return the operations a second of the products of a layer, forward and backward."""
    weights = [p.detach().to(dtype) for p in net.model.layers[0].parameters() if p.ndim == 2]
    rows = [torch.randn(1024, w.shape[1]).to(dtype) for w in weights]
    grads = [torch.randn(1024, w.shape[0]).to(dtype) for w in weights]

    def work() -> None:
        for _ in range(10):
            for x, w, g in zip(rows, weights, grads, strict=True):
                x @ w.t(), g @ w, g.t() @ x

    operations = 10 * sum(6 * 1024 * int(w.numel()) for w in weights)
    return operations / seconds(work)


def step_of(net: Any, optimizer: Any, shape: tuple[int, int], mixed: bool) -> Callable[[], None]:
    """Return a step on random tokens."""
    ids = torch.randint(5, net.config.vocab_size - 1, shape)
    at = torch.arange(ids.numel()).view(shape)[:, shape[1] // 2 : -1].flatten()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            hidden = net.model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
            logits = net.lm_head(hidden[at]).float()
            loss = functional.cross_entropy(logits, ids.flatten()[at + 1])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Profile all shapes and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--shapes", nargs="+", default=["2x128", "4x512"])
    asked = parser.parse_args()
    machine.keep_freed_memory()
    base = BASES.find(asked.model)
    net: Any = load_base(base, 0)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True)
    head = net.lm_head.weight.numel()
    body = sum(p.numel() for p in net.model.layers.parameters())
    shape_of = net.config
    told: dict[str, Any] = {}
    for name in asked.shapes:
        rows, length = map(int, name.split("x"))
        step = step_of(net, optimizer, (rows, length), asked.precision == "bfloat16")
        took = seconds(step)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            step()
        spent: defaultdict[str, float] = defaultdict(float)
        for one in seen.key_averages():
            spent[kind_of(one.key)] += one.self_cpu_time_total
        layers, hidden = shape_of.num_hidden_layers, shape_of.hidden_size
        attention = 6 * layers * hidden * length * rows * length  # causal: half of all pairs
        labelled = rows * (length - 1 - length // 2)
        flops = 6 * (body * rows * length + head * labelled) + attention
        told[name] = {
            "step_cpu_s": round(took, 3),
            "tokens_per_cpu_s": round(rows * length / took),
            "gflops": round(flops / took / 1e9),
            "share": {k: round(v / sum(spent.values()), 3) for k, v in sorted(spent.items())},
        }
    rate = product_rate(net, getattr(torch, asked.precision))
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"runs": {}}
    runs = known["runs"] | {
        f"{base.name}, {asked.precision}": {"product_gflops": round(rate / 1e9), "steps": told}
    }
    report = {"machine": machine.measured_on(), "threads": torch.get_num_threads(), "runs": runs}
    RESULTS.write_text(folder.dump_json(report), "utf-8")
    print(folder.dump_json(report["runs"]))


if __name__ == "__main__":
    main()
