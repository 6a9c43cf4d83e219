"""Loads that overlap in threads leave weight tying as it was."""

import threading

from transformers import AutoModelForCausalLM, PreTrainedModel

from sft_diversity.training.models import find_base, load_base
from tests import tiny


def test_models_loaded_from_threads_keep_their_tied_heads(tmp_path, monkeypatch):
    base = find_base(str(tiny.save(tmp_path / "base")), None)
    plain, tie = AutoModelForCausalLM.from_pretrained, PreTrainedModel.tie_weights
    inside, most = [], []

    def watched(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        model = plain(*args, **kwargs)
        inside.pop()
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", watched)
    threads = [threading.Thread(target=load_base, args=(base, 0)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert PreTrainedModel.tie_weights is tie
    model = load_base(base, 0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
