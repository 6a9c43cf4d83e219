"""Pieces for other people's loops: figures in a plain trainer's log, UBA by transformers' form."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
import types
from types import SimpleNamespace

import datasets
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments, get_cosine_schedule_with_warmup

import sft_diversity as sd
from tests import tiny

ROWS = 12


def trained(kind, place, optimizer, clip, callback, micro=2):
    """Train a tiny model for three steps; return the trainer and the plain gradient of each."""
    weights = tiny.model(64, hidden=16)
    ids = torch.randint(2, 64, (ROWS, 9), generator=torch.Generator().manual_seed(1)).tolist()
    rows = datasets.Dataset.from_dict({"input_ids": ids, "labels": ids})
    seen = []

    class Watched(kind):
        def _clip_grad_norm(self, model):
            self._note(model)
            return super()._clip_grad_norm(model)

        def _get_grad_norm(self, model, grad_norm=None):
            if grad_norm is None:
                self._note(model)
            return super()._get_grad_norm(model, grad_norm)

        def _note(self, model):
            seen.append([
                (p.detach().clone(), p.grad.clone(), g["weight_decay"])
                for g in self.optimizer.param_groups for p in g["params"]
            ])  # fmt: skip

    common = {
        "output_dir": str(place), "max_steps": 3, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": micro, "logging_steps": 1, "report_to": "none",
        "use_cpu": True, "save_strategy": "no", "max_grad_norm": clip, "disable_tqdm": True,
        "bf16": False,
    }  # fmt: skip
    more, arguments = {}, TrainingArguments
    if kind is not Trainer:
        from trl import SFTConfig as arguments

        more = {"processing_class": tiny.tokenizer()}
        common["dataset_kwargs"] = {"skip_prepare_dataset": True}
        common["activation_checkpointing"] = False
    trainer = Watched(
        model=weights, args=arguments(**common), train_dataset=rows, callbacks=[callback],
        optimizers=(optimizer(weights), None), **more,
    )  # fmt: skip
    trainer.train()
    return trainer, seen


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


def lion(model):
    from pytorch_optimizer import Lion

    return Lion(model.parameters(), lr=1e-4, weight_decay=3.0)


def kinds():
    from trl import SFTTrainer

    return Trainer, SFTTrainer


@pytest.mark.parametrize("kind", [0, 1], ids=["Trainer", "SFTTrainer"])
@pytest.mark.parametrize("clip", [0.01, 0.0])
def test_figures_are_those_of_the_gradient_before_it_is_clipped(kind, clip, tmp_path):
    theory = sd.GradientTheory()
    trainer, seen = trained(kinds()[kind], tmp_path, lion, clip, theory)
    told = [row for row in trainer.state.log_history if "loss" in row]
    assert len(told) == len(seen) == 3
    for row, step in zip(told, seen, strict=True):
        flat = torch.cat([g.flatten() for _, g, _ in step]).double()
        gap = flat.abs().sum() + sum(w * (x * g).sum().double() for x, g, w in step)
        inside = [x.abs() <= 1 / w for x, _, w in step]
        assert row["grad_l1"] == pytest.approx(flat.abs().sum().item(), rel=1e-4)
        assert row["grad_l2"] == pytest.approx(flat.norm().item(), rel=1e-4)
        assert row["grad_ratio"] == pytest.approx(
            (flat.abs().sum() / (math.sqrt(len(flat)) * flat.norm())).item(), rel=1e-4
        )
        assert row["kkt_gap"] == pytest.approx(gap.item(), rel=1e-3)
        assert row["box_share"] == pytest.approx(
            torch.cat([one.flatten() for one in inside]).double().mean().item()
        )
    assert theory.figures.grad_l1 == told[-1]["grad_l1"]


def test_without_lion_there_is_no_box_and_a_first_callback_is_seen_by_the_rest(tmp_path):
    class Tracker(sd.GradientTheory):
        heard = None

        def on_log(self, args, state, control, logs=None, **kwargs):
            super().on_log(args, state, control, logs, **kwargs)
            Tracker.heard = Tracker.heard or dict(logs)

    trained(Trainer, tmp_path, adamw, 1.0, Tracker())
    assert {"loss", "grad_l1", "grad_l2", "grad_ratio"} <= Tracker.heard.keys()
    assert not {"kkt_gap", "box_share"} & Tracker.heard.keys()


@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_phi_two_is_transformers_cosine_after_warm_up(warmup):
    ours, theirs = (
        form(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3), warmup, 40)
        for form in (sd.get_uba_schedule_with_warmup, get_cosine_schedule_with_warmup)
    )
    assert isinstance(theirs, LambdaLR)
    rates = []
    for _ in range(40):
        rates.append((ours.get_last_lr()[0], theirs.get_last_lr()[0]))
        ours.optimizer.step(), theirs.optimizer.step()
        ours.step(), theirs.step()
    assert [a for a, _ in rates[warmup:]] == pytest.approx([b for _, b in rates[warmup:]])
    assert [a for a, _ in rates[:warmup]] == pytest.approx(
        [0.3 * (s + 1) / (warmup + 1) for s in range(warmup)]
    )


def test_it_takes_a_floor_and_the_names_that_transformers_gives():
    form = inspect.signature(sd.get_uba_schedule_with_warmup).parameters
    theirs = inspect.signature(get_cosine_schedule_with_warmup).parameters
    assert list(form)[:3] == list(theirs)[:3]
    assert "last_epoch" in form
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = sd.get_uba_schedule_with_warmup(optimizer, 0, 10, phi=5.0, min_lr=0.01)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.01])


class BasePlugin:
    """The hooks of axolotl's class of this name that the plug-in has, with their signatures."""

    def get_input_args(self): ...
    def create_lr_scheduler(self, cfg, trainer, optimizer, num_training_steps): ...
    def add_callbacks_pre_trainer(self, cfg, model): ...


@pytest.fixture
def axolotl(monkeypatch):
    """The plug-in's module, its base class in axolotl's place."""
    for name in ("axolotl", "axolotl.integrations", "axolotl.integrations.base"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["axolotl.integrations.base"].BasePlugin = BasePlugin
    name = "sft_diversity.training.axolotl"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def test_the_plug_in_of_axolotl_keeps_to_its_hooks(axolotl):
    plugin = axolotl.DiversityPlugin()
    hooks = [name for name in vars(axolotl.DiversityPlugin) if not name.startswith("_")]
    assert set(hooks) <= set(vars(BasePlugin))
    for name in hooks:
        ours, theirs = (
            list(inspect.signature(getattr(c, name)).parameters)
            for c in (axolotl.DiversityPlugin, BasePlugin)
        )
        assert ours == theirs
    module, _, keys = plugin.get_input_args().rpartition(".")
    declared = getattr(sys.modules[module], keys)(uba_phi=5.0, gradient_theory=True)
    optimizer = adamw(torch.nn.Linear(2, 2))
    trainer = SimpleNamespace(
        optimizer=optimizer, args=SimpleNamespace(get_warmup_steps=lambda steps: steps // 10)
    )
    schedule = plugin.create_lr_scheduler(declared, trainer, optimizer, 50)
    assert (schedule.phi, schedule.warmup, schedule.total_steps) == (5.0, 5, 50)
    assert [type(one) for one in plugin.add_callbacks_pre_trainer(declared, None)] == [
        sd.GradientTheory
    ]
    none = axolotl.DiversityArgs()
    assert plugin.create_lr_scheduler(none, trainer, optimizer, 50) is None
    assert plugin.add_callbacks_pre_trainer(none, None) == []
