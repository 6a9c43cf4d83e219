"""What the experiments on gradients share: small Llama models with random weights, real samples,
losses as unbiased estimates, a gradient over a whole set, runs that are kept and not run twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from sft_diversity.core import chat, folder
from sft_diversity.core.chat import IGNORED
from sft_diversity.training import head, models, optimizers, rendering, samples

ROOT = Path(__file__).resolve().parents[1]
MAX_LENGTH = 96  # tokens of a sample; what is longer is cut, and left out if no label is left
LAYERS = 2

Groups = list[dict[str, Any]]
P = ParamSpec("P")


@dataclass(frozen=True)
class Texts:
    """Rendered samples. A loss is the sum over labelled tokens divided by `scale` and by the
    samples it is over, so that the mean over random batches is the loss of the whole set.
    """

    ids: list[torch.Tensor]
    labels: list[torch.Tensor]
    scale: float

    def part(self, start: int, stop: int) -> Texts:
        """Return the samples from `start` up to `stop`, with a scale of their own."""
        ids, labels = self.ids[start:stop], self.labels[start:stop]
        return Texts(ids, labels, _tokens(labels))

    def batches(self, size: int) -> list[list[int]]:
        """Cut all samples into batches of like length."""
        order = sorted(range(len(self.ids)), key=lambda row: len(self.ids[row]))
        return [order[start : start + size] for start in range(0, len(order), size)]


def read_texts(corpus: Path, count: int) -> Texts:
    """Render the first samples of a corpus; it is ordered by content hash, so they are a draw."""
    source, tokenizer = (
        samples.find_samples(corpus),
        models.load_right_padding_tokenizer(models.BASES.find(None)),
    )
    chat.ensure_template(tokenizer)
    first = samples.Source(source.files[:1], source.key, source.stage)
    rendered = rendering.render_samples(first, tokenizer, MAX_LENGTH, "trim")
    if len(rendered.input_ids) < count:
        raise SystemExit(f"the file read holds {len(rendered.input_ids):,} samples, not {count:,}")
    ids = [torch.from_numpy(x).long() for x in rendered.input_ids[:count]]
    labels = [torch.from_numpy(x).long() for x in rendered.labels[:count]]
    return Texts(ids, labels, _tokens(labels))


def _tokens(labels: Sequence[torch.Tensor]) -> float:
    """Return labelled tokens per sample; the first token is never predicted."""
    return sum(int((x[1:] != IGNORED).sum()) for x in labels) / len(labels)


def make_model(width: int, seed: int) -> Any:
    """Return a Llama model of two layers with random weights, heads of 32, tied embeddings."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(models.BASES.find(None).path)
    config.hidden_size, config.intermediate_size = width, 11 * width // 4
    config.num_hidden_layers, config.head_dim = LAYERS, 32
    config.num_attention_heads = config.num_key_value_heads = width // 32
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    head.add_labelled_head(model)
    return model.train()


def groups(model: Any, decay: float) -> Groups:
    """Return all parameters; norms have no decay, as in the product."""
    named = list(model.named_parameters())
    return [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]


def block_matrices(model: Any) -> Groups:
    """Return the matrices of attention and feed-forward: no embeddings, no norms."""
    named = model.model.layers.named_parameters()
    return [{"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.0}]


def make_optimizer(
    name: optimizers.Name, parameters: Any, lr: float, betas: tuple[float, float] | None = None
) -> torch.optim.Optimizer:
    """Return the product's optimizer, with other betas where they are given."""
    kind, options = optimizers.optimizer_class(name, lr)
    return kind(parameters, **(options if betas is None else options | {"betas": betas}))


def loss_of(model: Any, texts: Texts, rows: Sequence[int]) -> torch.Tensor:
    """Return the loss of a batch in nats per labelled token; see `Texts`."""
    ids = pad_sequence([texts.ids[row] for row in rows], batch_first=True, padding_value=0)
    labels = pad_sequence(
        [texts.labels[row] for row in rows], batch_first=True, padding_value=IGNORED
    )
    total: torch.Tensor = model(input_ids=ids, labels=labels, labelled_head=True).loss
    return total / (texts.scale * len(rows))


def full_gradient(model: Any, texts: Texts) -> float:
    """Leave the gradient of the loss over all samples in `.grad`; return that loss."""
    model.zero_grad(set_to_none=True)
    total = 0.0
    for rows in texts.batches(32):
        loss = loss_of(model, texts, rows) * (len(rows) / len(texts.ids))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


@torch.no_grad()
def full_loss(model: Any, texts: Texts) -> float:
    """Return the loss over all samples."""
    return sum(
        loss_of(model, texts, rows).item() * len(rows) / len(texts.ids)
        for rows in texts.batches(32)
    )


def kept(
    work: Path, key: str, make: Callable[P, dict[str, Any]], *args: P.args, **options: P.kwargs
) -> dict[str, Any]:
    """Return `make(*args)`, read if an earlier call has finished it."""
    path = work / f"{key}.json"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_text(folder.dump_json(make(*args, **options)), "utf-8")
        draft.replace(path)
        print(key, flush=True)
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return result


def slope(x: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
    """Fit log y against log x by least squares.

    Returns
    -------
    dict
        `slope` and its 95 % t interval `low`, `high`; `factor`, y where x is 1; `r2`.
    """
    from scipy import stats

    a, b = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    fit = stats.linregress(a, b)
    half = float(stats.t.ppf(0.975, len(a) - 2) * fit.stderr)
    found = {
        "slope": fit.slope,
        "low": fit.slope - half,
        "high": fit.slope + half,
        "factor": np.exp(fit.intercept),
        "r2": fit.rvalue**2,
    }
    return {name: round(float(value), 4) for name, value in found.items()}
