"""The loss on samples that are not trained on, against plain sums; and that it disturbs nothing."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import chat, folder
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.training import evaluation, head, output
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.rendering import Rendered
from sft_diversity.training.stage import finetune, plan
from sft_diversity.verbs import training as verbs
from tests.training.conftest import dialogue, write_subset
from tests.training.test_kill import bodies, start

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft's


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Return a subset of which the first two samples are in the other too."""
    out = tmp_path_factory.mktemp("subsets") / "held"
    return write_subset(out, [dialogue(i) for i in (0, 1, 50, 51, 52, 53, 54)])


def lines_of(out):
    return [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]


def steps_of(out):
    return [line for line in lines_of(out) if "loss" in line]


def losses_of(out):
    return {line["step"]: line["eval_loss"] for line in lines_of(out) if "eval_loss" in line}


def loss_by_hand(model, base, dialogues):
    """Return the mean loss over all answers' tokens, one sample at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    chat.ensure_template(tokenizer)
    loaded, total, tokens = AutoModelForCausalLM.from_pretrained(model).eval(), 0.0, 0
    for turns in dialogues:
        ids, labels = (torch.tensor([part]) for part in chat.render(turns, tokenizer))
        count = int((labels[0, 1:] >= 0).sum())
        with torch.no_grad():
            total += loaded(input_ids=ids, labels=labels).loss.item() * count
        tokens += count
    return total / tokens


@pytest.mark.parametrize("path", ["our-head", "trl-head", "padding-free"])
def test_it_is_the_mean_over_all_trained_tokens(
    path, subset, held, config, base, tmp_path, monkeypatch
):
    if path == "trl-head":
        monkeypatch.setattr(head, "is_plain", lambda model: False)
    trainer = {"padding_free": path == "padding-free"}
    options = config(eval_data=str(held), eval_steps=4, trainer=trainer)
    made = finetune(subset, tmp_path / "out", options, silent)["result"]
    told = losses_of(tmp_path / "out")
    assert list(told) == [4, 8, 10]  # and at the end
    by_hand = loss_by_hand(tmp_path / "out", base, [dialogue(i) for i in (0, 1, *range(50, 55))])
    assert told[10] == made["final_eval_loss"] == pytest.approx(by_hand, rel=1e-5)
    assert (made["eval_samples"], made["eval_samples_trained"]) == (7, 2)
    assert made["kept_step"] == 10
    assert "on 7 samples" in (tmp_path / "out/README.md").read_text()


def test_training_is_the_same_with_it_and_without(subset, held, config, tmp_path):
    """Dropout draws from the generator that a loader would draw from too."""
    plain = config(lora=True, lora_dropout=0.3, trainer={"dataloader_num_workers": 0})
    finetune(subset, tmp_path / "without", plain, silent)
    measured = plain.model_copy(update={"eval_data": str(held), "eval_steps": 2})
    finetune(subset, tmp_path / "with", measured, silent)
    assert steps_of(tmp_path / "with") == steps_of(tmp_path / "without")
    name = "adapter_model.safetensors"
    assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def test_a_held_out_share_is_counted_and_not_read(subset, config, tmp_path, base, rows):
    out = tmp_path / "out"
    manifest = finetune(subset, out, config(eval_share=0.2, epochs=4), silent)
    assert manifest["rows"] == {"in": 40, "kept": 32, "dropped": {"held_out": 8}, "quarantined": 0}
    result = manifest["result"]
    assert (result["eval_samples"], result["eval_samples_trained"]) == (8, 0)
    assert (result["samples"], result["samples_read"], result["steps"]) == (32, 128, 16)
    assert len(losses_of(out)) == 8  # every two steps: a tenth of sixteen, rounded up


@given(
    texts=st.lists(st.integers(0, 5), min_size=2, max_size=30),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
)
def test_what_is_held_out_is_drawn_by_the_seed_and_never_equal_to_what_is_trained(
    texts, share, seed
):
    ids = [np.array([text, 7], np.int32) for text in texts]
    names = [str(i) for i in range(len(ids))]
    rendered = Rendered(names, ids, ids, rows=len(ids), truncated=0, dropped=0)
    try:
        trained, held_out = evaluation.hold_out(rendered, share, seed)
    except DataError:
        assert len(set(texts)) == 1 or share * len(texts) > 1
        return
    assert sorted(trained.ids + held_out.ids) == sorted(names)
    assert not {texts[int(i)] for i in trained.ids} & {texts[int(i)] for i in held_out.ids}
    assert len(held_out.ids) >= max(round(share * len(texts)), 1)
    again = evaluation.hold_out(rendered, share, seed)[1]
    assert again.ids == held_out.ids


def test_the_best_weights_are_kept_and_the_manifest_says_which(
    subset, held, config, base, tmp_path
):
    """A rate that rises beyond what can be: the loss falls and then rises, on any processor."""
    options = config(
        eval_data=str(held),
        eval_steps=2,
        keep_best=True,
        lr=1.0,
        schedule="constant",
        epochs=4,
        warmup=19,
    )
    made = finetune(subset, tmp_path / "out", options, silent)["result"]
    told = losses_of(tmp_path / "out")
    assert len(told) == 10
    assert made["best_eval_loss"] == min(told.values()) < made["final_eval_loss"]
    assert made["kept_step"] == made["best_step"] == min(told, key=lambda step: told[step])
    by_hand = loss_by_hand(tmp_path / "out", base, [dialogue(i) for i in (0, 1, *range(50, 55))])
    assert by_hand == pytest.approx(made["best_eval_loss"], rel=1e-5)


def test_the_last_weights_are_kept_where_they_are_the_best(subset, held, config, tmp_path):
    plain = config(eval_data=str(held), eval_steps=3)
    made = finetune(subset, tmp_path / "last", plain, silent)["result"]
    assert made["best_step"] == 10
    best = plain.model_copy(update={"keep_best": True})
    assert finetune(subset, tmp_path / "best", best, silent)["result"]["kept_step"] == 10
    name = "model.safetensors"
    assert (tmp_path / "best" / name).read_bytes() == (tmp_path / "last" / name).read_bytes()


@pytest.fixture
def stopping_early(held, config):
    return config(
        eval_data=str(held), eval_steps=1, early_stopping=2, lr=0.1, schedule="constant", epochs=8
    )


def test_it_stops_after_so_many_without_a_better_one(subset, stopping_early, tmp_path):
    made = finetune(subset, tmp_path / "out", stopping_early, silent)
    result, told = made["result"], losses_of(tmp_path / "out")
    assert result["stopped_early"]
    assert result["steps"] == max(told) == result["best_step"] + 2 < 40
    assert result["samples_read"] == 8 * result["steps"]
    assert result["response_tokens"] == steps_of(tmp_path / "out")[-1]["response_tokens"]
    assert result["epochs"] == 8 * result["steps"] / 40


def test_killed_after_it_stopped_early_it_trains_no_further(
    subset, stopping_early, tmp_path, monkeypatch
):
    finetune(subset, tmp_path / "whole", stopping_early, silent)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "save_model", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(subset, tmp_path / "out", stopping_early, silent)
    monkeypatch.undo()
    (tmp_path / ".out.partial").rename(tmp_path / ".moved.partial")  # the best is found there too
    finetune(subset, tmp_path / "moved", stopping_early, silent)
    one, other = bodies(tmp_path / "moved", tmp_path / "whole")
    assert one == other


def test_killed_in_the_middle_it_resumes_to_the_same_bytes(subset, held, config, tmp_path):
    options = config(
        epochs=4, lora=True, lora_dropout=0.2, eval_data=str(held), eval_steps=3, keep_best=True
    )
    process = start(subset, tmp_path / "out", options)
    process.until((tmp_path / ".out.partial/checkpoints/checkpoint-9/complete.json").exists)
    assert process.kill() == -signal.SIGKILL
    said: list[str] = []
    finetune(subset, tmp_path / "out", options, said.append)
    assert any("resumed at step" in line for line in said)
    finetune(subset, tmp_path / "whole", options, silent)
    one, other = bodies(tmp_path / "out", tmp_path / "whole")
    assert one == other


def test_where_evaluation_lies_is_no_part_of_what_is_made_but_what_it_holds_is(
    subset, held, config, tmp_path
):
    options = config(eval_data=str(held), steps=2, epochs=None)
    finetune(subset, tmp_path / "out", options, silent)
    assert "evaluation" in folder.read_manifest(tmp_path / "out")["inputs"]
    held.rename(tmp_path / "elsewhere")
    moved = options.model_copy(update={"eval_data": str(tmp_path / "elsewhere")})
    try:
        assert plan(subset, tmp_path / "out", moved)["cached"]
    finally:
        (tmp_path / "elsewhere").rename(held)
    other = options.model_copy(update={"eval_data": str(subset)})
    assert not plan(subset, tmp_path / "out", other)["cached"]


def test_raw_data_is_taken_and_its_plan_is_dearer(subset, config, base, tmp_path):
    rows = [{"prompt": f"Say {i}", "completion": f"{i} it is"} for i in range(9)]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = config(epochs=1).model_dump(exclude_unset=True) | {"work": tmp_path / "work"}
    asked = options | {"eval_data": str(tmp_path / "held.jsonl")}
    made = verbs.finetune(subset, out=tmp_path / "out", **asked)
    assert made["eval_samples"] == 9
    planned = [
        verbs.finetune(subset, out=tmp_path / "new", dry_run=True, **which)["plan"][-1]["seconds"]
        for which in (options, options | {"eval_share": 0.0, "eval_data": str(subset)})
    ]
    assert planned[0] <= planned[1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"eval_share": 0.1, "eval_data": "x"}, "not both"),
        ({"keep_best": True}, "give eval_share or eval_data"),
        ({"early_stopping": 2}, "early_stopping is for evaluation"),
        ({"eval_steps": 2}, "eval_steps is for evaluation"),
        ({"eval_share": 1.0}, "less than 1"),
    ],
)
def test_a_wrong_option_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        FinetuneConfig(**options)


def test_what_cannot_be_measured_is_one_line(subset, config, tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        finetune(subset, tmp_path / "out", config(eval_data=str(tmp_path / "none")), silent)
    with pytest.raises(DataError, match="leaves none to train on"):
        finetune(subset, tmp_path / "out", config(eval_share=0.999), silent)
