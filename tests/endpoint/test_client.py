"""The client against a real HTTP server that follows a script."""

from __future__ import annotations

import signal

import pytest

from sft_diversity.core import extras
from sft_diversity.core.errors import DataError, UsageError
from sft_diversity.endpoint.answers import Answer, Failure
from sft_diversity.endpoint.client import Client
from sft_diversity.endpoint.config import EndpointConfig, completions_url
from tests.endpoint.scripted import Reply, serving
from tests.processes import Child

KEY = "sk-" + "secret" * 6


def requests(*texts):
    return [(text, [{"role": "user", "content": text}]) for text in texts]


def config(server, **options):
    return EndpointConfig(url=server.url, model="m", **options)


def outcomes(client, *texts):
    return list(client.ask(requests(*texts)))


def asking(asked, folder, version="v1", schema=None):
    return Client(asked, folder, "test", version, schema)


def echo(call, _):
    return Reply(call.said.upper())


def test_outcomes_come_in_the_order_of_the_requests_whatever_the_order_of_the_answers(tmp_path):
    texts = [f"t{i}" for i in range(40)]

    def slower_first(call, _):
        return Reply(call.said.upper(), delay_s=0.05 if int(call.said[1:]) % 7 == 0 else 0.0)

    with serving(slower_first) as server, asking(config(server), tmp_path) as client:
        found = outcomes(client, *texts)
    assert [identity for identity, _ in found] == texts
    assert [outcome.text for _, outcome in found] == [text.upper() for text in texts]
    assert 1 < server.most_under_way <= 16


def test_never_more_calls_under_way_than_the_concurrency(tmp_path):
    def slow(call, _):
        return Reply("x", delay_s=0.02)

    with serving(slow) as server:
        asked = config(server, concurrency=3)
        with asking(asked, tmp_path) as client:
            outcomes(client, *(f"t{i}" for i in range(20)))
        assert server.most_under_way == 3


def test_the_request_is_a_chat_completion_with_the_parameters(tmp_path):
    with serving(echo) as server:
        asked = config(server, temperature=0.5, max_tokens=7, seed=3, extra={"n": 1})
        with asking(asked, tmp_path) as client:
            outcomes(client, "hello")
        call = server.calls[0]
    assert call.path == "/v1/chat/completions"
    assert call.body == {
        "model": "m", "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5, "max_tokens": 7, "seed": 3, "n": 1,
    }  # fmt: skip
    assert "authorization" not in call.headers


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=429, headers={"retry-after": "0.05"}),
        Reply(status=500),
        Reply(status=503),
        Reply(drop=True),
        Reply(cut=True),
        Reply(raw=b"<html>busy</html>"),
        Reply(raw=b'{"choices": []}'),
        Reply(delay_s=0.6),
    ],
    ids=["429", "500", "503", "dropped", "cut body", "no json", "no choice", "timeout"],
)
def test_faults_that_pass_are_tried_again(tmp_path, fault):
    def once(call, number):
        return fault if number < 1 else Reply("at last")

    with serving(once) as server:
        asked = config(server, timeout_s=0.3)
        with asking(asked, tmp_path) as client:
            [(_, outcome)] = outcomes(client, "a")
            tally = client.tally
    assert outcome.text == "at last"
    assert len(server.calls) == 2
    assert (tally.calls, tally.retries, tally.answers_new) == (2, 1, 1)


def test_retry_after_is_waited_for_and_takes_up_a_place(tmp_path):
    wait_s = 0.7

    def limited(call, number):
        if call.said == "a" and number == 0:
            return Reply(status=429, headers={"retry-after": str(wait_s)})
        return Reply("x", delay_s=0.05)

    with serving(limited) as server:
        asked = config(server, concurrency=1)
        with asking(asked, tmp_path) as client:
            outcomes(client, "a", "b")
    first, *others = (call.at for call in server.calls)
    assert all(at - first >= wait_s for at in others)


def test_a_wait_longer_than_allowed_is_a_failure(tmp_path):
    def limited(call, _):
        if call.said == "a":
            return Reply(status=429, headers={"retry-after": "9999"})
        return Reply("x")

    with serving(limited) as server, asking(config(server), tmp_path) as client:
        found = dict(outcomes(client, "a", "b"))
    assert found["a"].reason == "gave-up"
    assert "Retry-After 9999" in found["a"].detail
    assert len([call for call in server.calls if call.said == "a"]) == 1


def test_what_the_endpoint_refuses_is_a_failure_and_is_not_tried_again(tmp_path):
    def picky(call, _):
        return Reply("too long", status=400) if call.said == "b" else Reply("x")

    with serving(picky) as server, asking(config(server), tmp_path) as client:
        found = dict(outcomes(client, "a", "b", "c"))
    assert isinstance(found["a"], Answer)
    assert found["b"].reason == "refused"
    assert "too long" in found["b"].detail
    assert len(server.calls) == 3


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_an_answer_without_text_is_a_failure(tmp_path, text):
    with serving(lambda *_: Reply(text)) as server, asking(config(server), tmp_path) as client:
        [(_, outcome)] = outcomes(client, "a")
    assert outcome == Failure("empty", "finish_reason stop")


@pytest.mark.parametrize(
    ("status", "said"), [(401, "api_key_env"), (403, "key"), (404, "model"), (307, "elsewhere")]
)
def test_a_wrong_setup_stops_at_once_with_one_line(tmp_path, status, said):
    with serving(lambda *_: Reply("no", status=status, headers={"location": "/x"})) as server:
        asked = config(server, concurrency=2)
        with (
            pytest.raises(UsageError, match=said) as caught,
            asking(asked, tmp_path) as client,
        ):
            outcomes(client, *(f"t{i}" for i in range(50)))
    assert "\n" not in str(caught.value)
    assert len(server.calls) <= 20


def test_a_quota_that_is_used_up_stops_at_once(tmp_path):
    spent = Reply("insufficient_quota", status=429)
    with serving(lambda *_: spent) as server, asking(config(server), tmp_path) as client:
        with pytest.raises(DataError, match="quota is used up"):
            outcomes(client, "a")
        assert len(server.calls) == 1


def test_an_endpoint_that_is_down_stops_the_work_and_not_each_sample(tmp_path):
    with serving(echo) as server:
        pass
    asked = config(server, tries=2, concurrency=2)
    for texts, said in (
        ([f"t{i}" for i in range(50)], "5 requests in a row"),
        (["only one"], "no answer to any request"),
    ):
        with pytest.raises(DataError, match=said), asking(asked, tmp_path) as client:
            outcomes(client, *texts)


def test_the_servers_own_error_is_not_tried_as_often_as_a_busy_one(tmp_path):
    def script(call, _):
        return Reply(status={"own": 500, "busy": 503}.get(call.said, 200))

    with serving(script) as server:
        with asking(config(server, tries=6), tmp_path) as client:
            found = dict(outcomes(client, "own", "busy", "fine"))
        assert (server.said().count("own"), server.said().count("busy")) == (4, 6)
    assert found["own"].reason == found["busy"].reason == "gave-up"
    assert found["fine"].text == "ok"


def test_kept_answers_cost_no_call_and_another_model_prompt_or_parameter_does(tmp_path):
    with serving(echo) as server:
        for asked, version, calls in (
            (config(server), "v1", 2),
            (config(server), "v1", 2),
            (config(server, concurrency=1, timeout_s=9), "v1", 2),
            (config(server), "v2", 4),
            (config(server, temperature=1.0), "v1", 6),
            (config(server).model_copy(update={"model": "other"}), "v1", 8),
        ):
            with asking(asked, tmp_path, version) as client:
                found = outcomes(client, "a", "b")
            assert [outcome.text for _, outcome in found] == ["A", "B"]
            assert len(server.calls) == calls


def test_equal_requests_are_asked_once(tmp_path):
    def slow(*_):
        return Reply("x", delay_s=0.02)

    with serving(slow) as server, asking(config(server), tmp_path) as client:
        found = outcomes(client, "a", "a", "b", "a")
        assert client.tally.answers_kept_from_before == 0
    assert [identity for identity, _ in found] == ["a", "a", "b", "a"]
    assert sorted(server.said()) == ["a", "b"]


def test_the_key_is_sent_and_is_in_no_file_message_or_answer(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MY_KEY", KEY)

    def leaky(call, number):
        said = call.headers["authorization"]
        if call.said == "a":
            return Reply(f"your header is {said}")
        return Reply(said, status=400 if call.said == "b" else 500)

    with serving(leaky) as server:
        asked = config(server, api_key_env="MY_KEY", tries=2)
        with asking(asked, tmp_path) as client:
            found = dict(outcomes(client, "a", "b", "c"))
        assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert found["a"].text == "your header is Bearer [key]"
    assert KEY not in repr(found) + repr(asked.model_dump()) + "".join(capfd.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_what_the_environment_holds_for_the_sdk_does_not_leave(tmp_path, monkeypatch):
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}\nx-own: {KEY}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MY_KEY", "mine")
    for name, sent in (("MY_KEY", "Bearer mine"), (None, None)):
        with serving(echo) as server:
            asked = config(server, api_key_env=name)
            with asking(asked, tmp_path, f"v-{name}") as client:
                outcomes(client, "a")
        assert server.calls[0].headers.get("authorization") == sent
        assert KEY not in repr(server.calls)


def test_no_proxy_stands_before_this_machine(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(echo) as server, asking(config(server, tries=1), tmp_path) as client:
        [(_, outcome)] = outcomes(client, "a")
    assert outcome.text == "A"


SCHEMA = {"name": "tags", "schema": {"type": "object"}}


def test_answers_are_held_to_a_schema(tmp_path):
    with serving(echo) as server, asking(config(server), tmp_path, schema=SCHEMA) as client:
        outcomes(client, "a")
    [call] = server.calls
    assert call.body["response_format"] == {"type": "json_schema", "json_schema": SCHEMA}


@pytest.mark.parametrize("status", [400, 422, 500])
def test_an_endpoint_that_takes_no_schema_is_asked_without(tmp_path, status, capsys):
    def old(call, _):
        return Reply("?", status=status) if "response_format" in call.body else echo(call, 0)

    with (
        serving(old) as server,
        asking(config(server, concurrency=1), tmp_path, schema=SCHEMA) as client,
    ):
        found = outcomes(client, "a", "b", "c")
    assert [outcome.text for _, outcome in found] == ["A", "B", "C"]
    held = [call for call in server.calls if "response_format" in call.body]
    assert len(held) == (4 if status == 500 else 1)
    assert capsys.readouterr().err.count("takes no JSON schema") == 1


def test_a_refusal_that_is_not_the_schemas_leaves_the_schema(tmp_path):
    def picky(call, _):
        return Reply("too long", status=400) if call.said == "b" else echo(call, 0)

    with serving(picky) as server:
        for texts in (("a", "b", "c"), ("b", "d")):
            with asking(config(server, concurrency=1), tmp_path, schema=SCHEMA) as client:
                found = dict(outcomes(client, *texts))
            assert found["b"].reason == "refused"
        plain = [call.said for call in server.calls if "response_format" not in call.body]
    assert plain == ["b"], "asked without once, where no answer had shown that it is taken"


def test_without_the_sdk_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "has", lambda module: module != "openai")
    with pytest.raises(UsageError, match=r"test: .* needs openai.*sft-diversity\[llm\]"):
        asking(EndpointConfig(url="http://127.0.0.1:9/v1", model="m"), tmp_path)


def test_a_key_in_the_wrong_place_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.delenv("UNSET_KEY", raising=False)
    monkeypatch.setenv("QUOTED_KEY", f"\u201c{KEY}\u201d")
    for options, said in (
        ({"api_key_env": "QUOTED_KEY"}, "what QUOTED_KEY holds is no key"),
        ({"api_key_env": KEY}, "must name an environment variable"),
        ({"api_key_env": "UNSET_KEY"}, "UNSET_KEY"),
        ({"url": f"http://me:{KEY}@127.0.0.1/v1"}, "credentials"),
    ):
        asked = EndpointConfig(**{"url": "http://127.0.0.1:9/v1", "model": "m"} | options)
        with pytest.raises(UsageError, match=said) as caught:
            asking(asked, tmp_path)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h:1/v1", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
        ("http://h:1", "http://h:1/v1/chat/completions"),
        ("https://h/api/v3/chat/completions", "https://h/api/v3/chat/completions"),
        ("https://h/openai/v1?api-version=1", "https://h/openai/v1/chat/completions?api-version=1"),
    ],
)
def test_the_address_of_chat_completions(url, address):
    assert completions_url(url, "test") == address


def test_a_query_in_the_url_is_sent(tmp_path):
    with serving(echo) as server:
        asked = EndpointConfig(url=f"{server.url}/chat/completions?api-version=1", model="m")
        with asking(asked, tmp_path) as client:
            outcomes(client, "a")
    assert server.calls[0].path == "/v1/chat/completions?api-version=1"


@pytest.mark.parametrize("url", ["h:80/v1", "ftp://h/v1", "127.0.0.1", "http:///v1"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError, match="is no URL"):
        completions_url(url, "test")


ASK = """
import sys
from pathlib import Path
from sft_diversity.endpoint.answers import Answer, Failure
from sft_diversity.endpoint.client import Client
from sft_diversity.endpoint.config import EndpointConfig
config = EndpointConfig(url=sys.argv[1], model="m", concurrency=2)
with Client(config, Path(sys.argv[2]), "test", "v1") as client:
    texts = [f"t{i}" for i in range(60)]
    requests = [(t, [{"role": "user", "content": t}]) for t in texts]
    for identity, outcome in client.ask(requests):
        print(identity, outcome.text, flush=True)
"""


def test_after_kill_9_no_kept_answer_is_asked_for_again(tmp_path):
    with serving(lambda call, _: Reply(call.said.upper(), delay_s=0.02)) as server:
        process = Child(ASK, server.url, tmp_path)
        process.until(lambda: process.stdout.count("\n") >= 10)
        assert process.kill() == -signal.SIGKILL
        assert process.stdout.splitlines()[9] == "t9 T9"
        before = set(server.said())
        with asking(config(server), tmp_path) as client:
            found = outcomes(client, *(f"t{i}" for i in range(60)))
            kept = client.tally.answers_kept_from_before
    assert [outcome.text for _, outcome in found] == [f"T{i}" for i in range(60)]
    assert 10 <= kept < 60
    asked_twice = {text for text in server.said() if server.said().count(text) > 1}
    assert len(server.calls) == 60 + len(asked_twice)
    assert len(asked_twice) <= 4  # those under way when the process died
    assert asked_twice <= before
