"""The MCP server as a real process, driven by the official client over stdio; what it may read."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sft_diversity as sd
from sft_diversity.core.errors import UsageError
from sft_diversity.verbs.serving import Places
from tests import command

ROOT = Path(__file__).resolve().parents[1]
SIZE = 30


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder that may be read, beside one that may not, with links of both kinds."""
    root = tmp_path_factory.mktemp("mcp")
    (root / "data/linked").mkdir(parents=True)
    (root / "secret").mkdir()
    with gzip.open(ROOT / "data/sample/dolly_3k/dolly_3k.json.gz") as file:
        rows = json.load(file)[:150]
    (root / "data/pool.json").write_text(json.dumps(rows), "utf-8")
    shutil.copy(root / "data/pool.json", root / "secret/pool.json")
    odd = "\n".join(json.dumps({"q": f"Name {i} birds", "a": "wren " * i}) for i in range(1, 20))
    (root / "data/odd.jsonl").write_text(odd, "utf-8")
    (root / "data/out.json").symlink_to(root / "secret/pool.json")
    (root / "data/linked/deep.json").symlink_to(root / "secret/pool.json")
    (root / "data/inside.json").symlink_to(root / "data/pool.json")
    return root


def words(desk: Path, *more: str) -> list[str]:
    return ["-m", "sft_diversity", "mcp", "--root", str(desk / "data"), *more]


def environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


async def conversation(desk: Path) -> dict[str, object]:
    """Talk to a server; return its tools, and the answer to each call by name."""
    from mcp import Client, StdioServerParameters, stdio_client

    given = words(desk, "--work", str(desk / "work"))
    server = StdioServerParameters(command=sys.executable, args=given, env=environment())
    said: dict[str, object] = {}
    async with Client(stdio_client(server)) as client:
        said["tools"] = (await client.list_tools()).tools

        async def ask(name: str, tool: str, **arguments: object) -> dict[str, Any]:
            answer = await client.call_tool(tool, arguments)
            said[name] = answer
            return answer.structured_content or {}

        await ask("folders", "describe")
        await ask("pool", "describe", path="pool.json")
        mapping = {"instruction": "{q}", "response": "{a}"}
        await ask("odd", "describe", path="odd.jsonl", mapping=mapping)
        first = await ask("first", "select", data="pool.json", size=SIZE, diversity=67, show=2)
        second = await ask("second", "select", data="inside.json", size=SIZE, strategy="random")
        kept = [sample["id"] for sample in second["samples"]]
        await ask("kept", "select", data=["pool.json"], size=SIZE, must_include=kept, show=20)
        await ask("beside", "select", data="pool.json", size=SIZE, match_length=first["out"])
        picked = first["samples"][0]["id"]
        await ask("why", "explain", subset=first["out"], id=picked)
        await ask("apart", "diff", first=first["out"], second=second["out"])
        await ask("measured", "measure", data=[first["out"], second["out"]])
        outside = str(desk / "secret/pool.json")
        for number, path in enumerate((outside, "../secret/pool.json", "out.json", "linked", "no")):
            await ask(f"refused {number}", "select", data=path, size=SIZE)
            await ask(f"refused {number} of ids", "select", data="pool.json", size=2, exclude=path)
        await ask("refused hub", "describe", path="hub:org/name")
        await ask("refused work", "explain", subset=first["out"], id=picked, work=outside)
        await ask("wrong type", "select", data="pool.json", size="many")
        await ask("wrong strategy", "select", data="pool.json", size=3, strategy="micro")
        await ask("wrong size", "select", data="pool.json", size=9_999)
        await ask("wrong key", "describe", path="odd.jsonl", mapping={"instructin": "{q}"})
        await ask("unknown", "delete", path="pool.json")
    return said


@pytest.fixture(scope="module")
def said(desk):
    return asyncio.run(asyncio.wait_for(conversation(desk), 300))


def figures(answer) -> dict[str, Any]:
    assert not answer.is_error, answer.content
    assert json.loads(answer.content[0].text) == answer.structured_content
    return answer.structured_content


def test_the_tools_are_those_that_are_promised_and_say_what_they_take(said):
    tools = {tool.name: tool for tool in said["tools"]}
    assert [*tools] == ["describe", "select", "explain", "diff", "measure"]
    assert all(tool.description for tool in tools.values())
    assert {"data", "size"} == set(tools["select"].input_schema["required"])


def test_describe_says_what_is_there(said, desk):
    folders = figures(said["folders"])["folders"]
    assert [*folders] == [str(desk / "data")]
    assert "pool.json" in folders[str(desk / "data")]
    assert "linked/" in folders[str(desk / "data")]
    pool = figures(said["pool"])
    assert pool["output_of"] == "ingest"
    assert [source["rows"]["in"] for source in pool["sources"]] == [150]
    assert len(pool["samples"]) == 3
    odd = figures(said["odd"])["samples"]
    assert {sample["instruction"].split()[0] for sample in odd} == {"Name"}


def test_select_picks_what_python_picks(said, desk):
    first = figures(said["first"])
    python = sd.select(str(desk / "data/pool.json"), size=SIZE, diversity=67)
    assert first["rows"] == SIZE
    assert first["ids_key"] == python.figures["ids_key"]
    assert [sample["id"] for sample in first["samples"]] == list(python.ids[:2])
    ids = set(sd.Subset(figures(said["kept"])["out"]).to_arrow()["id"].to_pylist())
    assert {sample["id"] for sample in figures(said["second"])["samples"]} <= ids
    assert figures(said["beside"])["rows"] == SIZE


def test_explain_diff_and_measure_read_what_select_made(said):
    why = figures(said["why"])
    assert why["picked"] is True
    assert why["pick"] == 0
    apart = figures(said["apart"])["rows"]
    assert apart["both"] + apart["only_first"] == SIZE
    assert [one["rows"] for one in figures(said["measured"])["datasets"]] == [SIZE, SIZE]


def test_nothing_is_read_outside_of_the_folders(said, desk):
    refused = {name: one for name, one in said.items() if name.startswith("refused")}
    assert len(refused) == 12
    for name, answer in refused.items():
        text = answer.content[0].text
        assert answer.is_error, name
        assert re.search(r"mcp: .* is (nothing below|a link out of)", text), (name, text)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong type", "`size` is 'many': Input should be a valid integer"),
        ("wrong strategy", "`strategy` is 'micro': Input should be 'macro-instruction'"),
        ("wrong size", "size is 9,999 but the corpus has 150 samples"),
        ("wrong key", "unknown key `mapping.instructin`; did you mean `instruction`?"),
        ("unknown", "Unknown tool: delete"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(said, name, reason):
    answer = said[name]
    assert answer.is_error
    assert reason in answer.content[0].text
    assert "\n" not in answer.content[0].text


def test_nothing_is_written_but_in_the_work_folder(said, desk):
    assert sorted(path.name for path in desk.iterdir()) == ["data", "secret", "work"]
    assert sorted(path.name for path in (desk / "data").iterdir()) == [
        "inside.json", "linked", "odd.jsonl", "out.json", "pool.json",
    ]  # fmt: skip


def test_stdout_is_the_protocol_alone_and_a_temporary_folder_goes_with_the_server(desk, tmp_path):
    """Spoken to without the client: every line of stdout is a message."""
    asked = [
        {"method": "initialize", "id": 1, "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}}},
        {"method": "notifications/initialized"},
        {"method": "tools/call", "id": 2, "params": {
            "name": "select", "arguments": {"data": "pool.json", "size": SIZE}}},
    ]  # fmt: skip
    lines = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in asked)
    env = {**os.environ, **environment(), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, *words(desk)], env=env, text=True, cwd=desk,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        server.stdin.write(lines)
        server.stdin.flush()
        answers = [json.loads(server.stdout.readline()) for _ in range(2)]
        assert list(tmp_path.glob("sftdiv-mcp-*/.sftdiv"))
        server.stdin.close()
        assert server.stdout.read() == ""
    assert server.returncode == 0
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["structuredContent"]["rows"] == SIZE
    assert list(tmp_path.glob("sftdiv-mcp-*")) == []


def test_a_signal_ends_a_waiting_server_and_leaves_no_temporary_folder(desk, tmp_path):
    env = {**os.environ, **environment(), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, *words(desk)], env=env, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as server:  # fmt: skip
        message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        server.stdin.write(json.dumps(message).encode() + b"\n")
        server.stdin.flush()
        assert server.stdout.readline()  # it listens
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 75
    assert list(tmp_path.glob("sftdiv-mcp-*")) == []


def test_a_folder_that_is_none_and_a_package_that_is_missing_are_one_line(desk, monkeypatch):
    done = command.sftdiv("mcp", "--root", desk / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no folder; name one with --root" in done.stderr
    monkeypatch.setattr("sft_diversity.core.extras.has", lambda module: False)
    done = command.sftdiv("mcp", "--root", desk / "data")
    assert done.returncode == 2
    assert "pip install 'sft-diversity[mcp]'" in done.stderr


def test_links_among_the_folders_are_followed_and_circles_end(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for place in (one / "a", two):
        place.mkdir(parents=True)
    (two / "rows.json").write_text("[]")
    (one / "a/two").symlink_to(two)
    (one / "a/again").symlink_to(one / "a")
    places = Places([one, two], tmp_path / "work")
    assert places.readable("a") == one / "a"
    assert places.readable("a/two/rows.json") == two / "rows.json"
    assert places.readable(str(two)) == two
    (two / "out").symlink_to("/")  # seen through a link from the first folder too
    for path in ("a", "a/two", str(two)):
        with pytest.raises(UsageError, match="a link out of the folders"):
            places.readable(path)
    (one / "round").symlink_to(one / "round")
    for path in ("round", "..", "a/../..", "\0", "x" * 5000, ""):
        if path:
            with pytest.raises(UsageError, match="is nothing below"):
                places.readable(path)
