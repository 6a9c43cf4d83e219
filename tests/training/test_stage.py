from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from sft_diversity.core import chat, folder, machine, stopping
from sft_diversity.core.errors import BadRowsError, Interrupted, UsageError
from sft_diversity.training import blocks, checkpoints, head
from sft_diversity.training.batches import micro_batches, reading_order
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.models import BASES
from sft_diversity.training.schedules import Schedule
from sft_diversity.training.stage import finetune, plan
from tests.training.conftest import dialogue, write_subset

STEPS = 10  # of `config`: 40 samples twice, in eights


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def undisturbed(shared, subset, config):
    """Return the folder of a whole run, made by the first test that asks."""
    finetune(subset, shared / "whole", config(), silent)
    return shared / "whole"


def log_of(out):
    return [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]


def body(out):
    return {k: v for k, v in folder.read_manifest(out).items() if k != "run"}


def test_the_folder_is_a_model_that_transformers_loads(undisturbed):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(undisturbed)
    tokenizer = AutoTokenizer.from_pretrained(undisturbed)
    assert model.dtype == torch.float32
    assert tokenizer.chat_template == chat.TEMPLATE
    names = {path.name for path in undisturbed.iterdir()}
    assert {"model.safetensors", "training.jsonl", "README.md", "manifest.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth")) or name[0] == "." for name in names)
    assert folder.verify(undisturbed)["faults"] == []


def test_the_manifest_states_what_was_trained(undisturbed, rows):
    manifest = folder.read_manifest(undisturbed, "finetune")
    result, log = manifest["result"], log_of(undisturbed)
    assert (result["steps"], result["epochs"], result["samples"]) == (STEPS, 2.0, 40)
    assert result["response_tokens"] == log[-1]["response_tokens"]
    assert result["truncated_share"] == 0.0
    assert result["final_loss"] < result["first_loss"]
    assert [entry["step"] for entry in log] == list(range(1, STEPS + 1))
    assert "seconds" in manifest["run"]
    assert str(undisturbed.parent) not in json.dumps(body(undisturbed))


@pytest.mark.parametrize(("bf16", "dtype"), [(0, "float32"), (1, "bfloat16")])
def test_auto_trains_in_the_precision_that_is_multiplied_here(
    tmp_path, subset, config, monkeypatch, bf16, dtype
):
    monkeypatch.setenv(machine.DETECT, f"bf16={bf16},gpus=0")
    named = {"steps": 3, "epochs": None, "dtype": dtype}
    finetune(subset, tmp_path / "named/model", config(**named), silent)
    finetune(subset, tmp_path / "auto/model", config(**named | {"dtype": "auto"}), silent)
    assert body(tmp_path / "auto/model") == body(tmp_path / "named/model")
    assert body(tmp_path / "auto/model")["config"]["dtype"] == dtype


def test_it_trains_what_a_plain_loop_trains(undisturbed, base, rows, config):
    """Against torch alone: the model's own loss and AdamW, one sample at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    chat.ensure_template(tokenizer)
    rendered = [chat.render(row["messages"], tokenizer) for row in rows]
    counts = np.array([sum(label >= 0 for label in labels) for _, labels in rendered])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, Schedule("uba", STEPS, 1))
    order = reading_order(counts, 8, 0, epochs=2)
    for entry, step in zip(log_of(undisturbed), order.reshape(STEPS, 8), strict=True):
        loss = 0.0
        for row in step:
            ids, labels = (torch.tensor([part]) for part in rendered[row])
            part = model(input_ids=ids, labels=labels).loss * counts[row] / counts[step].sum()
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert entry["loss"] == pytest.approx(loss, rel=1e-4)
        assert entry["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
        assert entry["lr"] == schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def test_equal_runs_are_equal_bytes_and_a_second_call_does_nothing(
    undisturbed, tmp_path, subset, config
):
    finetune(subset, tmp_path / "again", config(checkpoint_steps=50), silent)
    assert body(tmp_path / "again") == body(undisturbed)
    said: list[str] = []
    finetune(subset, tmp_path / "again", config(), said.append)
    assert said == [f"finetune: {tmp_path / 'again'} is up to date"]


def test_a_signal_saves_and_the_same_call_resumes_to_the_same_bytes(
    undisturbed, tmp_path, subset, config, monkeypatch
):
    calls = iter([False] * 4 + [True] * 99)  # the signal comes during the fifth step
    monkeypatch.setattr(stopping, "requested", lambda: next(calls))
    monkeypatch.setattr(stopping, "_received", [signal.SIGTERM.name])
    with pytest.raises(Interrupted, match="stopped by SIGTERM; run the same command to resume"):
        finetune(subset, tmp_path / "out", config(), silent)
    monkeypatch.undo()
    assert plan(subset, tmp_path / "out", config())["checkpoint"] == 5
    said: list[str] = []
    finetune(subset, tmp_path / "out", config(), said.append)
    assert "finetune: resumed at step 5" in said
    assert body(tmp_path / "out") == body(undisturbed)


def test_a_finished_run_has_written_no_checkpoint_at_its_end(tmp_path, subset, config, monkeypatch):
    saved, mark = [], checkpoints.mark_complete

    def marked(path):
        saved.append(checkpoints.step_of(path))
        mark(path)

    monkeypatch.setattr(checkpoints, "mark_complete", marked)
    finetune(subset, tmp_path / "out", config(checkpoint_steps=2, steps=4, epochs=None), silent)
    assert saved == [2]


def test_several_cards_in_one_process_are_no_fault(tmp_path, subset, config, monkeypatch):
    """TRL refuses what transformers makes of them; the first is used."""
    made = blocks.made

    def with_four(*args):
        arguments = made(*args)
        arguments._n_gpu = 4
        return arguments

    monkeypatch.setattr(blocks, "made", with_four)
    made_by = finetune(subset, tmp_path / "out", config(steps=1, epochs=None), silent)
    assert made_by["result"]["steps"] == 1


def test_an_unusable_sample_is_left_out_and_listed_and_the_rest_trains_as_without_it(
    undisturbed, tmp_path, config, monkeypatch
):
    talks = [dialogue(i) for i in range(40)]
    far = [{"role": "user", "content": "so " * 400}, {"role": "assistant", "content": "Yes."}]
    subset = write_subset(tmp_path / "mixed", [*talks[:7], far, *talks[7:]])
    calls = iter([False] * 4 + [True] * 99)  # resumed on the way
    monkeypatch.setattr(stopping, "requested", lambda: next(calls))
    monkeypatch.setattr(stopping, "_received", [signal.SIGTERM.name])
    with pytest.raises(Interrupted):
        finetune(subset, tmp_path / "out", config(), silent)
    monkeypatch.undo()
    finetune(subset, tmp_path / "out", config(), silent)
    manifest, out = folder.read_manifest(tmp_path / "out"), tmp_path / "out"
    assert manifest["rows"] == {
        "in": 41, "kept": 40, "dropped": {}, "quarantined": 1,
    }  # fmt: skip
    assert manifest["result"]["unusable"] == {"cut-off": 1}
    assert manifest["result"]["steps"] == STEPS
    (listed,) = (out / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(listed)["id"] == f"{7:032x}"
    assert "1 (`quarantine.jsonl`: 1 cut-off)" in (out / "README.md").read_text()
    assert log_of(out) == log_of(undisturbed)
    weights = "model.safetensors"
    assert (out / weights).read_bytes() == (undisturbed / weights).read_bytes()


def test_more_unusable_samples_than_allowed_stop_the_run_with_code_3(tmp_path, subset, config):
    with pytest.raises(BadRowsError, match=r"of 40 samples .* are cut-off") as fault:
        finetune(subset, tmp_path / "out", config(max_length=40), silent)
    assert fault.value.exit_code == 3
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.quarantine.jsonl").is_file()


def test_another_config_begins_anew_and_says_why(tmp_path, subset, config, undisturbed):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    said: list[str] = []
    finetune(subset, out, config(steps=2, epochs=None, optimizer="lion"), said.append)
    assert "recomputed because" in said[0]
    assert 'optimizer changed: "adamw" -> "lion"' in said[0]
    assert len(log_of(out)) == 2


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("merge", [False, True])
def test_lora_trains_an_adapter_or_merges_it(merge, tmp_path, subset, config, base):
    from transformers import AutoModelForCausalLM

    options = {"lora": True, "lora_rank": 2, "steps": 3, "epochs": None, "merge_adapter": merge}
    manifest = finetune(subset, tmp_path / "out", config(**options), silent)
    log = log_of(tmp_path / "out")
    assert log[-1]["loss"] < log[0]["loss"]
    assert (tmp_path / "out" / "adapter_config.json").exists() == (not merge)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    before = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(2, 12)[None]
    assert not torch.allclose(model(ids).logits, before(ids).logits, atol=1e-5)
    assert manifest["result"]["lr"] == 1e-3


def test_micro_batches_do_not_change_the_run(tmp_path, subset, config, undisturbed):
    finetune(subset, tmp_path / "out", config(micro_batch_size=8, steps=3, epochs=None), silent)
    finetune(subset, tmp_path / "other", config(micro_batch_size=1, steps=3, epochs=None), silent)
    for one, other in zip(log_of(tmp_path / "out"), log_of(tmp_path / "other"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_losses_are_those_of_trl_itself(tmp_path, subset, config, undisturbed, monkeypatch):
    monkeypatch.setattr(head, "is_plain", lambda model: False)  # TRL's head, masks and all
    finetune(subset, tmp_path / "out", config(), silent)
    for theirs, ours in zip(log_of(tmp_path / "out"), log_of(undisturbed), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-3)


def test_plan_touches_nothing(tmp_path, subset, config, base):
    planned = plan(subset, tmp_path / "out", config())
    assert planned["rows"] == 40
    assert planned["cached"] is False
    assert planned["checkpoint"] is None
    assert planned["seconds"] > 0
    assert json.dumps(planned)
    assert planned["bytes"] == pytest.approx((base / "model.safetensors").stat().st_size, rel=0.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"epochs": 1, "steps": 2}, "one budget"),
        ({"phi": 0.0}, "must be above 0"),
        ({"lr": 1e-4, "lr_min": 1e-3}, "above lr"),
        ({"schedule": "polynomial"}, "uba"),
        ({"batch_size": 0}, "greater than 0"),
    ],
)
def test_a_wrong_option_is_refused_with_the_reason(options, reason):
    with pytest.raises(ValueError, match=reason):
        FinetuneConfig(**options)


def test_wrong_inputs_are_refused_with_the_way_out(tmp_path, subset, config):
    with pytest.raises(UsageError, match="lower max_length"):
        finetune(subset, tmp_path / "a", config(max_length=4096), silent)
    with pytest.raises(UsageError, match="is not a folder"):
        finetune(tmp_path / "none", tmp_path / "b", config(), silent)
    with pytest.raises(UsageError, match=r"has no config\.json"):
        finetune(subset, tmp_path / "c", config(model=str(tmp_path)), silent)
    with pytest.raises(UsageError, match="the Hub does not give it"):
        finetune(subset, tmp_path / "d", config(model="nobody/nothing"), silent)


def test_an_lr_min_above_the_default_rate_is_refused(tmp_path, subset, config):
    asked = config(lr=None, lr_min=0.1)
    for step in (finetune, plan):
        with pytest.raises(
            UsageError, match=r"lr_min is 0\.1, above the peak .* 0\.00256 \(the def"
        ):
            step(subset, tmp_path / "out", asked)


@pytest.mark.parametrize("budget", [{"steps": 1}, {"epochs": 0.01}, {"tokens": 1}])
def test_a_run_of_one_step_takes_it_at_the_peak(tmp_path, subset, base, budget):
    asked = FinetuneConfig(model=str(base), dtype="float32", max_length=256, **budget)
    result = finetune(subset, tmp_path / "out", asked, silent)["result"]
    assert [entry["lr"] for entry in log_of(tmp_path / "out")] == [result["lr"]]


def test_padding_takes_little(rows, base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    chat.ensure_template(tokenizer)
    lengths = np.array([len(chat.render(row["messages"], tokenizer)[0]) for row in rows])
    order = reading_order(lengths, 8, 0, epochs=1)
    cut = micro_batches(order, lengths, 8, 4)
    padded = sum(len(part) * lengths[part].max() for part in cut)
    unsorted = sum(4 * lengths[order[i : i + 4]].max() for i in range(0, 40, 4))
    assert padded < unsorted


@pytest.mark.parametrize(
    ("options", "micro"),
    [({"optimizer": "lion", "max_grad_norm": 0.01}, 2), ({"lora": True, "lora_rank": 2}, 8)],
)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_log_has_the_theory_of_the_whole_gradient_before_clipping(
    options, micro, tmp_path, subset, config, monkeypatch
):
    """Against plain sums over the gradients that the optimizer's parameters hold."""
    from transformers import Trainer

    seen = []

    def spy(trainer, model):
        groups = trainer.optimizer.param_groups
        held = [(p, g["weight_decay"]) for g in groups for p in g["params"]]
        grads = [p.grad.double().flatten() for p, _ in held]
        dots = [d * (p.double() * p.grad.double()).sum().item() for p, d in held]
        boxed = [(p.abs() <= 1 / d).double().flatten() for p, d in held if d]
        seen.append((torch.cat(grads), sum(dots), torch.cat(boxed).mean().item()))
        return clip(trainer, model)

    clip = Trainer._clip_grad_norm
    monkeypatch.setattr(Trainer, "_clip_grad_norm", spy)
    settings = config(steps=3, epochs=None, micro_batch_size=micro, **options)
    finetune(subset, tmp_path / "out", settings, silent)
    log = log_of(tmp_path / "out")
    assert len(log) == len(seen) == 3
    for entry, (gradient, dot, inside) in zip(log, seen, strict=True):
        l1, l2 = gradient.abs().sum().item(), gradient.norm().item()
        # what clipping multiplied by is divided out again: a rounding more
        assert entry["grad_l1"] == pytest.approx(l1, rel=1e-5)
        assert entry["grad_l2"] == pytest.approx(l2, rel=1e-5)
        assert entry["grad_ratio"] == pytest.approx(l1 / (len(gradient) ** 0.5 * l2), rel=1e-5)
        if settings.lora:
            assert len(gradient) < 10_000  # the adapter alone
            assert "kkt_gap" not in entry
        else:
            assert l2 > 0.01  # what clipping would have left
            assert entry["kkt_gap"] == pytest.approx(l1 + dot, rel=1e-5)
            assert entry["box_share"] == inside == 1.0


def test_the_logged_gradient_is_that_of_the_whole_step(tmp_path, subset, config):
    """However a step is cut into micro-batches, its gradient is the same."""
    for name, micro in (("one", 8), ("many", 1)):
        options = config(steps=3, epochs=None, micro_batch_size=micro, optimizer="lion", lr=1e-4)
        finetune(subset, tmp_path / name, options, silent)
    for one, many in zip(log_of(tmp_path / "one"), log_of(tmp_path / "many"), strict=True):
        for name in ("grad_l1", "grad_l2", "grad_ratio", "kkt_gap"):
            assert one[name] == pytest.approx(many[name], rel=1e-3), name


def test_the_log_is_written_while_the_run_goes_on(tmp_path, subset, config, undisturbed, capsys):
    calls = iter([False] * 3 + [True] * 99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: next(calls))
        patch.setattr(stopping, "_received", [signal.SIGTERM.name])
        with pytest.raises(Interrupted):
            finetune(subset, tmp_path / "out", config(), silent)
    live = tmp_path / ".out.partial" / "training.jsonl"
    assert (
        live.read_bytes().splitlines()
        == ((undisturbed / "training.jsonl").read_bytes().splitlines()[:4])
    )
    live.write_bytes(live.read_bytes() + b'{"step": 5, "lo')  # as a kill may leave it
    finetune(subset, tmp_path / "out", config(), silent)
    assert body(tmp_path / "out") == body(undisturbed)


def test_a_stopped_run_is_not_lost_to_another(tmp_path, subset, config, base, undisturbed):
    """The difference is named: of config, subset or model; the run itself still resumes."""
    calls = iter([False] * 4 + [True] * 99)
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: next(calls))
        patch.setattr(stopping, "_received", [signal.SIGUSR1.name])
        with pytest.raises(Interrupted):
            finetune(subset, out, config(), silent)
    other = write_subset(tmp_path / "other", [dialogue(i) for i in range(9)])
    wider = tmp_path / "wider"
    shutil.copytree(base, wider)
    settings = json.loads((wider / "config.json").read_text()) | {"rms_norm_eps": 1e-3}
    (wider / "config.json").write_text(json.dumps(settings))
    for call, options, reason in [
        (subset, config(lr=2e-3), r"stopped at step 5, but since then lr changed: 0.001 -> 0.002"),
        (other, config(), "input subset changed"),
        (subset, config(model=str(wider)), "input model changed"),
    ]:
        for verb in (finetune, plan):
            with pytest.raises(UsageError, match=reason) as refused:
                verb(call, out, options)
            assert "name another --out, or remove that folder" in str(refused.value)
    finetune(subset, out, config(checkpoint_steps=9), silent)  # changes nothing that is made
    assert body(out) == body(undisturbed)


def test_what_a_stopped_run_left_without_a_checkpoint_is_in_nobodys_way(tmp_path, subset, config):
    out = tmp_path / "out"
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "work.json").write_text('{"stage": "finetune"}')
    said: list[str] = []
    finetune(subset, out, config(steps=2, epochs=None), said.append)
    assert said[0].startswith("finetune: recomputed because")
    assert "finetune: fresh start" in said


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_the_card_says_lineage_schedule_and_what_the_gradients_were_like(
    optimizer, tmp_path, subset, config
):
    out = tmp_path / "out"
    manifest = finetune(subset, out, config(epochs=1, phi=5.0, optimizer=optimizer))
    log = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    card, result = (out / "README.md").read_text(), manifest["result"]
    assert result["final_grad_ratio"] == pytest.approx(log[-1]["grad_ratio"])  # a tenth is a step
    assert result["clipped_share"] == sum(x["grad_l2"] > 1.0 for x in log) / len(log)
    assert f"= {result['final_grad_ratio']:.3f}, clipped in {result['clipped_share']:.0%}" in card
    assert "UBA, φ = 5" in card
    assert manifest["inputs"]["subset"] in card
    named = ModelCard(card).data.to_dict()
    assert named["library_name"] == "transformers"
    assert named["tags"] == ["sft", "trl", "sft-diversity"]
    assert ("KKT gap" in card) == (optimizer == "lion")
    if optimizer == "lion":
        assert result["final_kkt_gap"] == pytest.approx(log[-1]["kkt_gap"])
        assert f"{log[-1]['box_share']:.1%}" in card


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [("*.safetensors", "has no weights as safetensors"), ("tokenizer*", "has no tokenizer; put")],
)
def test_a_model_folder_that_lacks_a_part_is_refused_by_a_plan_too(
    subset, config, base, tmp_path, lacking, reason
):
    shutil.copytree(base, tmp_path / "base")
    for path in (tmp_path / "base").glob(lacking):
        path.unlink()
    for ask in (plan, finetune):
        with pytest.raises(UsageError, match=reason):
            ask(subset, tmp_path / "out", config(model=str(tmp_path / "base")))
    assert not (tmp_path / "out").exists()


def test_the_clipped_share_is_that_of_steps_whose_gradient_is_above_the_limit(
    tmp_path, subset, config
):
    def run(name, limit):
        made = finetune(subset, tmp_path / name, config(epochs=1, max_grad_norm=limit))
        lines = (tmp_path / name / "training.jsonl").read_text().splitlines()
        return made["result"]["clipped_share"], [json.loads(line)["grad_l2"] for line in lines]

    share, norms = run("free", 0.0)
    assert share == 0
    limit = (min(norms) + max(norms)) / 2
    share, norms = run("clipped", limit)
    assert share == sum(norm > limit for norm in norms) / len(norms)
    assert 0 < share < 1
    assert share != 0.5  # or the share of the other steps would be the same


def test_a_sample_is_cut_where_the_model_ends_unless_a_length_is_given(subset, base, tmp_path):
    assert BASES.find(base).context == 512
    plain = FinetuneConfig(model=str(base), steps=1, batch_size=4)
    made = finetune(subset, tmp_path / "out", plain, say=lambda line: None)
    assert made["config"]["max_length"] == 512
    assert plan(subset, tmp_path / "out", plain)["cached"]
    with pytest.raises(UsageError, match="reads at most 512"):
        finetune(subset, tmp_path / "new", FinetuneConfig(model=str(base), max_length=1024))
