"""Quality scores against a plain forward pass, sample by sample."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sft_diversity import ingest
from sft_diversity.core import quality
from sft_diversity.core.chat import ensure_template, reference
from tests.making import make

ROWS = [
    {"instruction": "What is the capital?", "input": "", "output": "Paris."},
    {"instruction": "Sort: 3, 1, 2.", "input": "", "output": "1, 2, 3 " * 60},
    {"instruction": "Write a poem.", "input": "about rain", "output": "Rain taps the roof."},
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory, llama):
    place = tmp_path_factory.mktemp("quality")
    (place / "pool.jsonl").write_text("\n".join(map(json.dumps, ROWS)), "utf-8")
    ingest(place / "pool.jsonl", out=place / "corpus")
    options = {"model": str(llama), "max_length": 80, "batch_tokens": 128, "dtype": "float32"}
    return place, make("quality", options, place / "out", place / "corpus")


def nll(model, ids, start):
    logits = model(torch.tensor([ids])).logits[0].float()
    losses = torch.nn.functional.cross_entropy(
        logits[start - 1 : -1], torch.tensor(ids[start:]), reduction="none"
    )
    return float(losses.double().mean())


def test_scores_are_those_of_a_plain_forward_pass(scored, llama):
    place, made = scored
    assert made["result"]["unscored"] == 0
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(llama).eval()
    tokenizer = AutoTokenizer.from_pretrained(llama)
    ensure_template(tokenizer)
    files = sorted((place / "corpus/samples").glob("*.parquet"))
    samples = [row for path in files for row in pq.read_table(path).to_pylist()]
    low, ifd = (quality.read(place / "out", name) for name in quality.JUDGED)
    with torch.inference_mode():
        for at, sample in enumerate(samples):
            answer = reference(sample["messages"], tokenizer)
            ids, start, stop = answer.ids, answer.start, min(answer.stop, 80)
            given = nll(model, ids[:stop], start)
            alone = nll(model, [tokenizer.bos_token_id, *ids[start:stop]], 1)
            assert low[at] == pytest.approx(-given, abs=1e-5)
            if given <= alone:
                assert ifd[at] == pytest.approx(given / alone, abs=1e-5)
            else:
                assert np.isnan(ifd[at])
