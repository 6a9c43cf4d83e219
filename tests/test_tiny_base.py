import gzip
import importlib.util
import json
import math
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from sft_diversity.core import resources
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.core.folder import read_manifest, verify
from sft_diversity.core.hashing import file_sha256
from sft_diversity.core.models import Finder
from sft_diversity.levels.tokenizing import load_tokenizer

ROOT = Path(__file__).resolve().parents[1]
MODELS = {name: resources.base_model(name) for name in resources.BASE_MODELS}
PLAIN = [
    "The people of the United States are the best hope of the free world.",
    "She looked at him for a moment, and then she went out of the room without a word.",
    "The film is not very good, but there are a few good scenes at the end of the story.",
    "In the morning we went down to the river and sat on the grass under the trees.",
]


def load_recipe():
    spec = importlib.util.spec_from_file_location("tiny_base", ROOT / "pipelines/tiny_base.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_base"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tiny_base = load_recipe()


# --- the checked-in models ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=MODELS)
def folder(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def nats_per_token(model, tokenizer, text):
    import torch

    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids]])
    with torch.inference_mode():
        return model(input_ids=ids, labels=ids).loss.item()


def test_the_folder_is_small_and_agrees_with_its_manifest(folder):
    assert verify(folder)["faults"] == []
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 25e6
    result = read_manifest(folder, "tiny-base")["result"]
    assert result["heldout"]["all"]["bits_per_byte"] < 3
    assert set(result["parts"]) == set(tiny_base.PARTS)
    assert not {"brown", "abc", "webtext"} & set(result["parts"])
    licences = result["licences"]["parts"]
    assert {name: tiny_base.PARTS[name].licence for name in result["parts"]} == {
        name: part["licence"] for name, part in licences.items()
    }


def test_the_successor_read_more_and_is_better_at_every_part_and_at_other_text():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first, second = (read_manifest(folder)["result"] for folder in MODELS.values())
    assert first["tokens_seen"] < 4e6
    assert second["tokens_seen"] >= 20e6
    for part, figures in second["heldout"].items():
        assert figures["bits_per_byte"] < first["heldout"][part]["bits_per_byte"]
    nats = []
    for folder in MODELS.values():  # of the texts: tokens of two vocabularies are not alike
        words = AutoTokenizer.from_pretrained(folder)
        loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
        told = [nats_per_token(loaded, words, t) * len(words(t).input_ids) for t in PLAIN]
        nats.append(sum(told))
    assert nats[1] < nats[0]


def test_an_offline_base_model_is_named_as_model_and_as_tokenizer(tmp_path, monkeypatch):
    for name, place in MODELS.items():
        found = Finder("finetune: model").find(name)
        assert (found.path, found.name) == (place, name)
        assert load_tokenizer(name).revision == file_sha256(place / "tokenizer.json")
    shutil.copytree(MODELS["tiny-base"], tmp_path / "tiny-base-20m")
    monkeypatch.chdir(tmp_path)  # what lies here comes first
    assert Finder("finetune: model").find("tiny-base-20m").path == Path("tiny-base-20m")
    monkeypatch.setattr(resources, "_CHECKOUT", tmp_path)
    monkeypatch.setenv("SFTDIV_DATA", str(tmp_path))
    with pytest.raises(UsageError, match=r"tiny-base is not here.*SFTDIV_DATA"):
        Finder("finetune: model").find("tiny-base")


def test_it_has_the_size_it_says_and_loads_as_float32(model, tokenizer):
    import torch

    assert 5e6 <= model.num_parameters() <= 10e6
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer) == 16_384
    assert model.config.tie_word_embeddings
    assert model.config.max_position_embeddings == 1024


def test_plain_english_is_far_likelier_than_chance_and_than_its_words_shuffled(model, tokenizer):
    shuffled = [" ".join(random.Random(5).sample(s.split(), len(s.split()))) for s in PLAIN]
    plain = np.mean([nats_per_token(model, tokenizer, text) for text in PLAIN])
    mixed = np.mean([nats_per_token(model, tokenizer, text) for text in shuffled])
    assert plain < math.log(16_384 / 20)
    assert plain < mixed - 0.5


def test_the_tokenizer_keeps_text_digits_and_roles(tokenizer):
    text = "Don’t panic: 2006 (naïve) 日本\n\tx = {'a': 1}\r\n\n  end 😀"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("2006") == ["2", "0", "0", "6"]
    roles = ["<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
    assert tokenizer("".join(roles)).input_ids == list(range(6))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|endoftext|>", "<|endoftext|>")
    assert tokenizer.pad_token_id == 1
    assert tokenizer.chat_template is None


def test_generation_stops_by_itself_or_at_the_limit(model, tokenizer):
    inputs = tokenizer("The president said", return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert inputs.input_ids.shape[1] < out.shape[1] <= inputs.input_ids.shape[1] + 8


# --- the recipe, on a text of our own -----------------------------------------------------------


@pytest.fixture
def inputs(tmp_path):
    """Pre-training and instruction folders made from the licence text of this repository."""
    pa = pytest.importorskip("pyarrow")
    paragraphs = (ROOT / "LICENSE").read_text("utf-8").split("\n\n")
    paragraphs = [p for p in paragraphs if len(p) > 200]
    rows = [{"id": f"movie_reviews/{i}", "text": p} for i, p in enumerate(paragraphs * 4)]
    rows += [{"id": f"masc/{i}", "text": p} for i, p in enumerate(paragraphs)]
    rows += [{"id": "masc/mail", "text": "To: zzqq@example.org"}]
    rows += [{"id": "brown/1", "text": "zzqq zzqq zzqq"}]
    pretrain, sources = tmp_path / "pretrain", tmp_path / "sources"
    pretrain.mkdir()
    sources.mkdir()
    with pa.output_stream(str(pretrain / "text.jsonl.zst"), compression="zstd") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    manifest = []
    for name, licence in (("free", "MIT"), ("closed", "CC-BY-NC-4.0")):
        records = [{"instruction": f"{name} words", "output": f"{name} speech " * 500}]
        (sources / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
        manifest.append({"name": name, "licence": licence, "glob": f"{name}*.json.gz"})
    (sources / "MANIFEST.yaml").write_text(yaml.safe_dump({"sources": manifest}), "utf-8")
    return ["--pretrain", str(pretrain), "--sources", str(sources)]


def run(inputs, out, work, *more):
    small = ["--vocab-size=400", "--batch=2", "--context=16", "--steps", "3", "2", "--threads=1"]
    tiny_base.main([*inputs, "--out", str(out), "--work", str(work), *small, "--no-compile", *more])


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(inputs, tmp_path, monkeypatch):
    run(inputs, tmp_path / "whole", tmp_path / "work-1")

    real = tiny_base.save_checkpoint

    def killed(work, step, *state):
        real(work, step, *state)
        if step in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(tiny_base, "save_checkpoint", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(inputs, tmp_path / "cut", tmp_path / "work-2", "--checkpoint-s", "0")
    assert not (tmp_path / "cut").exists()
    run(inputs, tmp_path / "cut", tmp_path / "work-2")

    whole, cut = (read_manifest(tmp_path / name) for name in ("whole", "cut"))
    assert whole["files"] == cut["files"]
    assert whole["digest"] == cut["digest"]
    assert verify(tmp_path / "cut")["faults"] == []


def test_text_that_may_not_be_passed_on_is_left_out_and_listed(inputs, tmp_path, capsys):
    from transformers import AutoTokenizer

    run(inputs, tmp_path / "model", tmp_path / "work")
    result = read_manifest(tmp_path / "model")["result"]
    assert result["dropped_documents"] == {
        "brown: licence: non-commercial purposes": 1,
        "masc: e-mail and tweets: persons' addresses, spam": 1,
    }
    assert list(result["licences"]["vocabulary_sources"]) == ["free"]
    assert list(result["licences"]["excluded_sources"]) == ["closed"]
    words = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert len(words.tokenize(" speech")) < len(words.tokenize(" zzqq"))
    assert "CC-BY-4.0" in (tmp_path / "model/README.md").read_text("utf-8")

    capsys.readouterr()
    run(inputs, tmp_path / "model", tmp_path / "work")
    assert "up to date" in capsys.readouterr().err


def test_a_work_folder_of_another_recipe_is_refused(inputs, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "key").write_text("another", "utf-8")
    with pytest.raises(UsageError, match="another recipe or other inputs"):
        run(inputs, tmp_path / "model", work)


def test_a_text_too_small_for_the_vocabulary_is_an_error(inputs, tmp_path):
    with pytest.raises(DataError, match="lower --vocab-size or add text"):
        run(inputs, tmp_path / "model", tmp_path / "work", "--vocab-size", "16384")


def test_recipes_share_out_every_part_and_the_larger_one_reads_twenty_million_tokens():
    for recipe in tiny_base.RECIPES.values():
        assert set(recipe.shares) == set(tiny_base.PARTS)
        assert sum(recipe.shares.values()) == pytest.approx(1)
    assert tiny_base.RECIPES["tiny-base-20m"].tokens >= 20e6


def test_every_token_of_a_stream_is_a_target_once():
    blocks = tiny_base.to_blocks(np.arange(26, dtype=np.uint16), 8)
    assert blocks[:, 1:].ravel().tolist() == list(range(1, 25))
    assert (blocks[:, 1:-1] == blocks[:, 2:] - 1).all()


def test_each_phase_warms_up_and_falls_to_zero():
    recipe = tiny_base.Recipe(steps=(100, 50), warmup_steps=10, learning_rate=1.0)
    rates = [tiny_base.learning_rate(step, recipe) for step in range(150)]
    assert rates[9] == rates[10] == rates[109] == 1.0
    assert rates[0] == rates[100] == 0.1
    assert rates[99] < 0.01
    assert rates[149] < 0.01
    assert rates[10:100] == sorted(rates[10:100], reverse=True)
