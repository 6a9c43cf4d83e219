from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
import yaml

from sft_diversity.core import config as configs
from sft_diversity.core import resources
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.scoring.sets import EvalSet, read_set
from sft_diversity.scoring.stage import ScoreConfig
from tests.scoring import fixtures

PLAIN = EvalSet(
    name="plain", file="plain.jsonl", kind="transfer", reference="short", prompt="q", response="a"
)

ROOT = Path(__file__).resolve().parents[2]


def write_text(folder: Path, text: str) -> Path:
    (folder / "plain.jsonl").write_text(text, "utf-8")
    return folder


def test_input_follows_the_prompt_after_a_blank_line(tmp_path):
    records = read_set(fixtures.ALPACA, fixtures.write(tmp_path), 0)
    assert records[1].messages == [
        {"role": "user", "content": "Name number 1\n\na list"},
        {"role": "assistant", "content": "one, two "},
    ]
    assert records[2].messages[0]["content"] == "Name number 2"


def test_a_row_without_reference_is_kept_for_the_count(tmp_path):
    records = read_set(fixtures.ALPACA, fixtures.write(tmp_path), 0)
    assert len(records) == 6
    assert records[0].messages[-1]["content"] == ""


def test_a_dialogue_gives_one_record_a_turn_with_what_came_before(tmp_path):
    records = read_set(fixtures.DIALOGUE, fixtures.write(tmp_path), 0)
    assert [r.record for r in records] == ["0.0", "0.1", "1.0", "1.1"]
    assert [m["content"] for m in records[1].messages] == [
        "Where is 8?", "Here.", "And why?", "Because.",
    ]  # fmt: skip
    assert records[0].prompt_key != records[1].prompt_key


def test_sources_map_to_domains_and_others_keep_their_name(tmp_path):
    records = read_set(fixtures.MIX, fixtures.write(tmp_path), 0)
    assert {r.domain for r in records} == {"general", "c"}


def test_equal_prompts_of_two_sets_share_a_key(tmp_path):
    write_text(tmp_path, '{"q": "Why?", "a": "So."}\n')
    other = PLAIN.model_copy(update={"name": "other"})
    assert read_set(PLAIN, tmp_path, 0)[0].prompt_key == read_set(other, tmp_path, 0)[0].prompt_key


def test_a_limit_takes_the_same_sample_for_the_same_seed(tmp_path):
    folder = write_text(tmp_path, "".join(f'{{"q": "{i}", "a": "x"}}\n' for i in range(50)))
    few = PLAIN.model_copy(update={"limit": 10})
    taken = [r.record for r in read_set(few, folder, 1)]
    assert taken == [r.record for r in read_set(few, folder, 1)]
    assert taken == sorted(taken, key=int)
    assert len(set(taken)) == 10
    assert taken != [r.record for r in read_set(few, folder, 2)]


def test_lines_end_at_line_feed_only_and_a_mark_in_front_is_no_text(tmp_path):
    write_text(
        tmp_path, "\ufeff" + json.dumps({"q": "a\u2028b", "a": "c\u0085d"}, ensure_ascii=False)
    )
    messages = read_set(PLAIN, tmp_path, 0)[0].messages
    assert [m["content"] for m in messages] == ["a\u2028b", "c\u0085d"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"q": "a", "a": ', "not a JSON list or JSON lines"),
        ("[1, 2]", "each a JSON object"),
        ("", "at least one row"),
        ('{"question": "a", "a": "b"}', "no prompt at `q`"),
        ('{"q": {"text": "a"}, "a": "b"}', "a text or a list of texts is due"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as fault:
        read_set(PLAIN, write_text(tmp_path, text), 0)
    assert "plain.jsonl" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_missing_file_names_the_option(tmp_path):
    with pytest.raises(UsageError, match="--eval-dir"):
        read_set(PLAIN, tmp_path, 0)


def test_a_join_without_partner_is_an_error(tmp_path):
    fixtures.write(tmp_path)
    (tmp_path / "questions.jsonl").write_text('{"question_id": 7, "turns": ["x"]}\n')
    with pytest.raises(DataError, match=r"question_id` 8 is not in questions\.jsonl"):
        read_set(fixtures.DIALOGUE, tmp_path, 0)


@pytest.mark.parametrize("name", ["heldout", "sample"])
def test_the_shipped_configs_load(name):
    path = resources.shipped("configs") / "score" / f"{name}.yaml"
    assert f"--config configs/score/{name}.yaml" in path.read_text("utf-8").splitlines()[0]
    sets = configs.load(path, ScoreConfig).sets
    assert sets
    assert {"transfer", "in-mix"} <= {one.kind for one in sets}


def test_the_sample_config_reads_the_checked_in_sample():
    root = Path(__file__).resolve().parents[2]
    config = configs.load(root / "configs/score/sample.yaml", ScoreConfig)
    records = [r for one in config.sets or () for r in read_set(one, root / "data/sample/eval", 0)]
    assert len(records) == 200
    assert all(r.messages[-1]["content"] for r in records)


def test_the_sets_of_the_default_configs_are_here_as_their_manifest_says():
    listed = yaml.safe_load((ROOT / "data/eval/MANIFEST.yaml").read_text("utf-8"))["sets"]
    for one in listed:
        raw = gzip.decompress((ROOT / "data/eval" / one["file"]).read_bytes())
        assert hashlib.sha256(raw).hexdigest() == one["sha256_uncompressed"]
        assert one["licence"]
        assert one["repository"]
    named: set[str] = set()
    for name in ("heldout", "miniature", "generate", "pairwise", "alpaca-eval-1"):
        config = yaml.safe_load((ROOT / f"configs/score/{name}.yaml").read_text("utf-8"))
        for one in config["sets"]:
            named |= {one["file"], *([one["join"]["file"]] if "join" in one else [])}
    assert named == {one["file"] for one in listed}
