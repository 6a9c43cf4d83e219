"""lm-evaluation-harness on own offline task files, against likelihoods summed by hand."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sft_diversity.core import folder, stopping
from sft_diversity.core.errors import DataError, Interrupted, UsageError
from sft_diversity.scoring.harness import running
from sft_diversity.scoring.harness.running import HarnessConfig
from tests import making, tiny
from tests.endpoint.scripted import Reply, serving

OWN = Path(__file__).parent / "tasks"
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # lm-eval's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def config(**options) -> HarnessConfig:
    defaults: dict[str, Any] = {
        "tasks": "capitals, capitals_said", "include_path": OWN, "batch_size": 4,
        "dtype": "float32",
    }  # fmt: skip
    return HarnessConfig(**(defaults | options))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def scored(model, tmp_path_factory):
    pytest.importorskip("lm_eval")
    out = tmp_path_factory.mktemp("scored") / "run"
    making.score(model, out, config())
    return out


def contents(out: Path) -> dict[str, bytes]:
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["run"]
    return found | {"manifest": json.dumps(manifest, sort_keys=True).encode()}


def test_every_task_has_a_result_file_and_its_documents(scored):
    manifest = folder.read_manifest(scored, "score")
    assert sorted(p.name for p in (scored / "tasks").iterdir()) == [
        "capitals.json", "capitals_said.json",
    ]  # fmt: skip
    found = manifest["result"]["tasks"]
    assert set(found["capitals"]["metrics"]) == {"acc", "acc_norm"}
    assert found["capitals"]["documents"] == 8
    assert found["capitals_said"]["higher_is_better"] == {"exact_match": True}
    assert manifest["rows"]["in"] == 16
    assert folder.verify(scored)["faults"] == []


def test_accuracy_is_that_of_likelihoods_summed_by_hand(scored, model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    llama = AutoModelForCausalLM.from_pretrained(model).eval()

    def likelihood(question, choice):
        start = tokenizer(f"{question}\nAnswer:")["input_ids"]
        ids = torch.tensor([tokenizer(f"{question}\nAnswer: {choice}")["input_ids"]])
        with torch.inference_mode():
            logs = llama(ids).logits.float().log_softmax(-1)[0]
        return math.fsum(float(logs[i - 1, ids[0, i]]) for i in range(len(start), ids.shape[1]))

    rows = [json.loads(line) for line in (OWN / "capitals.jsonl").read_text().splitlines()]
    hits = []
    for row in rows:
        said = [likelihood(row["question"], choice) for choice in row["choices"]]
        hits.append(said.index(max(said)) == row["answer"])
    figure = folder.read_manifest(scored)["result"]["tasks"]["capitals"]["metrics"]["acc"]
    assert figure["value"] == pytest.approx(sum(hits) / len(hits))
    kept = [json.loads(line) for line in (scored / "samples/capitals.jsonl").open()]
    assert [bool(row["acc"]) for row in kept] == hits


def test_a_stop_between_tasks_resumes_to_the_same_bytes_and_runs_the_rest_only(
    scored, model, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    first = tmp_path / ".run.partial/tasks/capitals.json"

    def stop_after_the_first(_stage):
        if first.exists():
            raise Interrupted("score: stopped")

    monkeypatch.setattr(stopping, "safe_point", stop_after_the_first)
    with pytest.raises(Interrupted):
        making.score(model, out, config())
    monkeypatch.undo()
    before = first.stat().st_mtime_ns
    making.score(model, out, config())
    assert (out / "tasks/capitals.json").stat().st_mtime_ns == before
    assert contents(out) == contents(scored)
    said: list[str] = []
    making.score(model, out, config(), say=said.append)
    assert "up to date" in said[-1]


def test_no_path_of_this_machine_is_in_the_output(scored, model):
    whole = b"".join(contents(scored).values()).decode()
    for path in (OWN, model, scored):
        assert str(path) not in whole


def test_an_endpoint_is_asked_with_its_own_key_and_no_other(tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you")
    capitals = {"France": "Paris", "Italy": "rome.", "Japan": "Kyoto"}

    def reply(call, _):
        place = call.said.split()[-1].rstrip("?")
        return Reply(capitals.get(place, "hm"))

    options = {"tasks": "capitals_said", "api": "chat", "chat_template": True, "model_name": "m"}
    with serving(reply) as server:
        manifest = making.score(server.url, tmp_path / "a", config(**options))
        assert all("authorization" not in call.headers for call in server.calls)
        assert server.calls[0].body["model"] == "m"
        monkeypatch.setenv("MY_KEY", "sk-mine")
        keyed = config(**options, model_key_env="MY_KEY", seed=1)
        making.score(server.url, tmp_path / "b", keyed)
        assert server.calls[-1].headers["authorization"] == "Bearer sk-mine"
    metric = manifest["result"]["tasks"]["capitals_said"]["metrics"]["exact_match"]
    assert metric["value"] == pytest.approx(2 / 8)
    assert b"sk-mine" not in b"".join(contents(tmp_path / "b").values())


@contextlib.contextmanager
def completing(model: Path):
    """Serve `/v1/completions` with the likelihoods of a model that runs here."""
    import torch
    from transformers import AutoModelForCausalLM

    llama = AutoModelForCausalLM.from_pretrained(model).eval()

    def choice(index: int, ids: list[int]) -> dict[str, Any]:
        with torch.inference_mode():
            logs = llama(torch.tensor([ids])).logits.float().log_softmax(-1)[0]
        best = [{str(int(row.argmax())): float(row.max())} for row in logs]
        said = [float(logs[i - 1, token]) for i, token in enumerate(ids) if i]
        return {
            "index": index,
            "text": "",
            "logprobs": {"token_logprobs": [None, *said, 0.0], "top_logprobs": [None, *best]},
        }

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/completions"
            raw = json.dumps({"choices": [choice(*pair) for pair in enumerate(body["prompt"])]})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw.encode())

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def test_likelihoods_from_an_endpoint_give_the_figures_of_the_model_itself(scored, model, tmp_path):
    options = {"tasks": "capitals", "model_name": "m", "tokenizer": str(model), "concurrency": 1}
    with completing(model) as url:
        found = making.score(url, tmp_path / "a", config(**options))
    here = folder.read_manifest(scored)["result"]["tasks"]["capitals"]
    assert found["result"]["tasks"]["capitals"]["metrics"] == here["metrics"]


def test_a_task_that_an_endpoint_cannot_run_is_one_line(tmp_path):
    pytest.importorskip("lm_eval")
    options = {"tasks": "capitals", "api": "chat", "chat_template": True, "model_name": "m"}
    with serving(lambda *_: Reply("x")) as server, pytest.raises(DataError, match="task capitals"):
        making.score(server.url, tmp_path / "a", config(**options))


def test_own_files_that_name_code_are_refused_unless_trusted(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "t.yaml").write_text("task: t\n# !function in a comment\n")
    assert running.own_files_key(own, False)
    (own / "t.yaml").write_text("task: t\nprocess_docs: !function utils.f\n")
    with pytest.raises(UsageError, match=r"t\.yaml names Python code .*--trust-remote-code"):
        running.own_files_key(own, False)
    assert running.own_files_key(own, True)


def test_a_changed_task_or_data_file_makes_another_key(tmp_path):
    (tmp_path / "t.yaml").write_text("task: t\n")
    (tmp_path / "d.jsonl").write_text("{}\n")
    before = running.own_files_key(tmp_path, False)
    (tmp_path / "d.jsonl").write_text("{} \n")
    assert running.own_files_key(tmp_path, False) != before


def test_what_cannot_be_is_one_line(model, tmp_path, monkeypatch):
    def fails(match, name: str | Path = model, **options):
        with pytest.raises(UsageError, match=match):
            making.score(name, tmp_path / "out", config(**options))

    fails("needs tasks; name them with --tasks", tasks=())
    fails("is no folder", include_path=tmp_path / "nowhere")
    fails("holds no task file", include_path=model)
    fails("no such folder", name="./nowhere")
    fails("name its model with --model-name", name="http://127.0.0.1:9/v1")
    fails("no URL", model_name="m")
    with pytest.raises(ValueError, match="name tasks, not files"):
        config(tasks="../x.yaml")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    fails(r"needs lm-eval, which is not installed; pip install 'sft-diversity\[harness\]'")


@pytest.mark.slow  # reads the thousands of task files that lm-eval brings
def test_a_name_that_stands_for_no_task_says_so_and_built_in_ones_are_known():
    pytest.importorskip("lm_eval")
    with pytest.raises(UsageError, match="lm-eval knows no task nowhere"):
        running.manager(OWN, ["nowhere"])
    assert running.manager(OWN, ["capitals", "gsm8k"])[1] == ["capitals", "gsm8k"]
