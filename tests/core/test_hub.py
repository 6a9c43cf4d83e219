from __future__ import annotations

import logging

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from sft_diversity.core import hub

TOKEN = "hf_" + "SecretSecretSecret" * 2


@pytest.mark.parametrize(
    "text",
    [
        f"401 for {TOKEN}",
        f"header Authorization: Bearer {TOKEN}",
        f"http://x/?token={TOKEN}&a=1",
        "authorization: bearer abc.def-ghi",
        "https://me:abc.def@example.org/x",
    ],
)
def test_scrubbing_takes_out_whatever_looks_like_a_token(text):
    clean = hub.scrub(text)
    assert "(token)" in clean
    assert "Secret" not in clean
    assert "abc.def" not in clean


def test_a_token_of_any_form_is_scrubbed_if_it_is_the_one_in_use(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "plain-word")
    assert hub.scrub("it is plain-word") == "it is (token)"


def test_log_records_of_any_library_are_scrubbed_meanwhile(caplog):
    logger = logging.getLogger("some.client")
    with caplog.at_level(logging.DEBUG), hub.talking():
        logger.debug("headers %r", [("Authorization", f"Bearer {TOKEN}")])
    assert "(token)" in caplog.text
    assert "Secret" not in caplog.text
    logger.debug("after: %s", 1)  # the factory is back


def refused(status: int, code: str = "") -> HfHubHTTPError:
    request = httpx2.Request("GET", "http://hub/api")
    headers = {"X-Error-Code": code} if code else {}
    response = httpx2.Response(status, headers=headers, request=request)
    return HfHubHTTPError(f"{status} with Bearer {TOKEN}", response=response)


@pytest.mark.parametrize(
    ("fault", "token", "said"),
    [
        (refused(401), TOKEN, "does not accept the token (401); log in"),
        (refused(401), "", "without a token (401); log in with `hf auth login` or set HF_TOKEN"),
        (refused(403), TOKEN, "no right to this (403); use one that may write there"),
        (refused(404, "RepoNotFound"), TOKEN, "no such repository, or not for this token (404)"),
        (refused(404, "RevisionNotFound"), TOKEN, "no such revision (404); name a branch"),
        (refused(412), TOKEN, "somebody else wrote to it meanwhile (412)"),
        (refused(503), TOKEN, "does not serve at the moment (503); run the command again later"),
        (httpx2.ConnectError("refused"), TOKEN, "cannot reach "),
        (OfflineModeIsEnabled("offline"), TOKEN, "offline mode is set; unset HF_HUB_OFFLINE"),
        (ValueError(f"a\n b {TOKEN}"), TOKEN, "a b (token); mend that"),
    ],
)
def test_every_fault_is_one_line_with_a_way_out(fault, token, said, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    line = str(hub.reason(fault))
    assert said in line
    assert "\n" not in line
    assert "Secret" not in line


def test_the_reason_is_found_under_what_the_client_wraps_it_in(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    wrapped = RuntimeError("Error while uploading 'x' to the Hub.")
    wrapped.__cause__ = refused(403)
    assert hub.reason(wrapped).status == 403
