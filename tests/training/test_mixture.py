"""Several sets in one run: each read as often as its weight says, and counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_diversity.core import folder
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.training.batches import reading_order
from sft_diversity.training.config import FinetuneConfig
from sft_diversity.training.stage import finetune, plan
from sft_diversity.verbs import training as verbs
from tests.command import sftdiv
from tests.training.conftest import dialogue, write_subset


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    out = tmp_path_factory.mktemp("subsets") / "other"
    return write_subset(out, [dialogue(100 + i) for i in range(10)])


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.05, 5.0), min_size=4, max_size=4),
    steps=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_every_stretch_has_the_sets_in_their_shares(sizes, weights, steps, seed):
    sets, weights = np.repeat(np.arange(len(sizes)), sizes), weights[: len(sizes)]
    tokens = np.ones(len(sets), np.int64)
    order = reading_order(tokens, 5, seed, steps=steps, sets=sets, weights=weights)
    assert len(order) == 5 * steps
    shares = np.array(weights) / sum(weights)
    for read in range(1, len(order) + 1):
        found = np.bincount(sets[order[:read]], minlength=len(sizes))
        assert (np.abs(found - read * shares) < len(sizes) / 2 + 0.51).all()
    for number, size in enumerate(sizes):  # each set in permutations of its own
        own = order[sets[order] == number]
        for start in range(0, len(own), size):
            assert len(set(own[start : start + size])) == len(own[start : start + size])
    again = reading_order(tokens, 5, seed, steps=steps, sets=sets, weights=weights)
    assert (order == again).all()


def test_a_token_budget_ends_with_the_sample_that_reaches_it():
    rng = np.random.default_rng(0)
    sets, tokens = np.repeat([0, 1], [30, 5]), rng.integers(1, 9, 35)
    order = reading_order(tokens, 4, 1, tokens=500, sets=sets, weights=[1, 3])
    read = tokens[order].cumsum()
    assert read[-2] < 500 <= read[-1]
    longer = reading_order(tokens, 4, 1, tokens=900, sets=sets, weights=[1, 3])
    assert (longer[: len(order)] == order).all()


def test_a_run_counts_what_it_read_of_each_set(subset, other, config, tmp_path):
    options = config(weights=[0.25, 0.75], steps=10, epochs=None)
    manifest = finetune([subset, other], tmp_path / "out", options, silent)
    result = manifest["result"]
    one, two = result["sets"]
    assert (one["weight"], one["samples"], one["samples_read"], one["epochs"]) == (
        0.25,
        40,
        20,
        0.5,
    )
    assert (one["samples_unread"], one["samples_reread"]) == (20, 0)
    assert (two["samples"], two["samples_read"], two["epochs"]) == (10, 60, 6.0)
    assert (two["samples_unread"], two["samples_reread"]) == (0, 10)
    assert (result["samples_unread"], result["samples_reread"]) == (20, 10)
    for name in ("samples", "samples_read", "response_tokens", "total_tokens"):
        assert one[name] + two[name] == result[name]
    places = [folder.read_manifest(place) for place in (subset, other)]
    keys = [folder.contents_key(place, "samples/") for place in places]
    assert [manifest["inputs"][name] for name in ("subset", "subset-2")] == keys
    assert manifest["rows"]["in"] == 50
    assert (
        "| set 2 | 60 reads of 10 samples, 6 epochs |" in (tmp_path / "out/README.md").read_text()
    )
    planned = plan([subset, other], tmp_path / "out", options)
    assert (planned["cached"], planned["rows"], planned["steps"]) == (True, 50, 10)
    swapped = options.model_copy(update={"weights": (0.75, 0.25)})
    assert not plan([subset, other], tmp_path / "out", swapped)["cached"]


def test_without_weights_they_are_read_as_one_set(subset, other, config, tmp_path):
    joined = write_subset(
        tmp_path / "joined", [dialogue(i) for i in (*range(40), *range(100, 110))]
    )
    made = finetune([subset, other], tmp_path / "two", config(epochs=1), silent)["result"]
    finetune(joined, tmp_path / "one", config(epochs=1), silent)
    assert [one["epochs"] for one in made["sets"]] == [1.0, 1.0]
    assert made["sets"][0]["weight"] is None
    name = "model.safetensors"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_held_out_share_is_of_all_sets(subset, other, config, tmp_path):
    options = config(weights=[1, 1], steps=2, epochs=None, eval_share=0.2)
    manifest = finetune([subset, other], tmp_path / "out", options, silent)
    assert manifest["rows"]["dropped"] == {"held_out": 10}
    assert sum(one["samples"] for one in manifest["result"]["sets"]) == 40
    tiny = write_subset(tmp_path / "tiny", [dialogue(500)])
    with pytest.raises(DataError, match="set 2 would have no sample left"):
        for seed in range(50):  # some seed draws it
            asked = options.model_copy(update={"train_seed": seed, "steps": 1})
            finetune([subset, tiny], tmp_path / f"{seed}", asked, silent)


def test_the_command_takes_several_and_a_file_names_them_too(subset, other, base, tmp_path):
    rows = [{"prompt": f"Say {i}", "completion": f"{i} it is"} for i in range(6)]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--model", base, "--steps", "2", "--batch-size", "4", "--work", tmp_path / "work"]
    out, raw = tmp_path / "out", tmp_path / "raw.jsonl"
    done = sftdiv("finetune", subset, raw, "--weights", "3,1", "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert "samples_reread" in done.stdout
    named = [{"data": str(subset), "weight": 3}, {"data": str(raw), "weight": 1}]
    (tmp_path / "mix.yaml").write_text(json.dumps({"sets": named}))
    again = sftdiv("finetune", "--config", tmp_path / "mix.yaml", "--out", out, *options)
    assert again.returncode == 0, again.stderr
    assert "is up to date" in again.stderr
    shown = verbs.finetune(subset, other, show_masks=1, model=str(base))["masks"]
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weights": "0.7,-1"}, "greater than 0"),
        ({"sets": [{"data": "a", "weight": 1}, {"data": "b"}]}, "all sets a weight, or none"),
        ({"sets": [{"data": "a", "weight": 1}], "weights": "1"}, "not both"),
    ],
)
def test_a_wrong_option_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        FinetuneConfig(**options)


def test_sets_that_do_not_fit_are_one_line(subset, other, config, tmp_path):
    for verb in (plan, finetune):
        with pytest.raises(UsageError, match="3 weights for 2 sets"):
            verb([subset, other], tmp_path / "out", config(weights=[1, 1, 1]))
    with pytest.raises(UsageError, match="name the samples"):
        verbs.finetune(out=tmp_path / "out")
