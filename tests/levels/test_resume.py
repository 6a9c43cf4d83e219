"""Killed at any moment, the same call resumes and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_diversity.core import folder
from sft_diversity.levels.meso import MesoOptions
from sft_diversity.levels.stage import IndexConfig, index
from sft_diversity.levels.tokens import TokensConfig, tokens
from tests.levels import making

RUN = """
import sys, time
from pathlib import Path
from sft_diversity.levels import passes, tokenizing, tokens as token_pass
from sft_diversity.levels.stage import IndexConfig, index
from sft_diversity.levels.meso import MesoOptions
from tests.levels import making
corpus, out, what, tokenizer = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
read, count = passes.read_stream, token_pass.count_tokens
passes.read_stream = lambda texts: (time.sleep(0.15), read(texts))[1]
token_pass.count_tokens = lambda made, texts: (time.sleep(0.15), count(made, texts))[1]
if what == "tokens":
    token_pass.tokens(corpus, out, token_pass.TokensConfig(tokenizer=tokenizer))
else:
    config = IndexConfig(strategy="meso-instruction", meso=MesoOptions(min_samples=2))
    index(corpus, out, config, encode=making.hashed_vectors, encoder="made")
"""


@pytest.mark.parametrize("what", ["tokens", "meso"])
def test_after_kill_9_the_same_call_ends_with_the_same_bytes(tmp_path, what):
    corpus = making.topical(tmp_path / "corpus")
    file = making.tokenizer_file(tmp_path / "tokenizer.json")
    out = tmp_path / "out"
    command = [sys.executable, "-c", RUN, str(corpus), str(out), what, str(file)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    parts = tmp_path / ".out.partial" / ".parts"
    deadline = time.monotonic() + 300
    while len(list(parts.glob("*.parquet")) if parts.exists() else []) < 3:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()

    def run(into):
        said = []
        if what == "tokens":
            tokens(corpus, into, TokensConfig(tokenizer=str(file)), said.append)
        else:
            config = IndexConfig(strategy="meso-instruction", meso=MesoOptions(min_samples=2))
            index(
                corpus, into, config, encode=making.hashed_vectors, encoder="made", say=said.append
            )
        manifest = folder.read_manifest(into)
        del manifest["run"]
        return said[0], manifest, {f.name: f.read_bytes() for f in into.iterdir()}

    resumed, manifest, files = run(out)
    fresh, same, others = run(tmp_path / "undisturbed")
    assert "resumed" in resumed
    assert "new" in fresh
    assert manifest == same
    assert files.keys() == others.keys()
    for name in files.keys() - {folder.MANIFEST}:
        assert files[name] == others[name], name
    assert not (out / ".parts").exists()
    assert not folder.verify(out)["faults"]
