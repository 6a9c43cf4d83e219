"""Models, templates, endpoints and data that mean harm: nothing is run, leaked or steered."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sft_diversity.core import children
from tests.faults.case import Case, Group, Place, decent, refused, require, sound
from tests.faults.processes import Ended
from tests.faults.world import World, rows

#: What is done to the folder of a model.
Harm = Callable[[Path], object]
CODES = (0, 1, 2, 3)
LIMIT_S = 45.0
_MEMORY = 12 << 30  # bytes of addresses; torch alone takes some
_PWNED = "pwned"
_CODE = f"import pathlib; pathlib.Path({_PWNED!r}).touch()\n"
KEY = "sk-very-secret-0123456789"

SCORE = "score MODEL --config given/score.yaml --out out --work work"
TUNE = "finetune given/subset --config c.yaml --out out"
COUNT = "index given/corpus --strategy micro-response --tokenizer MODEL --out out --work work"
EMBED = "embed given/corpus --encoder MODEL --out out --work work"


def groups(world: World) -> dict[str, Group]:
    """Return the cases by what means harm."""
    return {
        "models": partial(_models, world),
        "tokenizers": partial(_tokenizers, world),
        "templates": partial(_templates, world),
        "encoders": partial(_encoders, world),
        "endpoints": partial(_endpoints, world),
        "data": partial(_data, world),
    }


def _small() -> None:
    """Bound the memory of this process: what would take all of it is to fail here."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _unharmed(place: Place, ended: Ended) -> Ended:
    require(not list(place.home.rglob(_PWNED)), "code of others was run", ended)
    return decent(ended, CODES)


# ---- models -----------------------------------------------------------------------------------


class _Touch:
    """Unpickled, it runs code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, (_CODE,))


def _weights(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def _pickled(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(_Touch()))


def _remote(model: Path, name: str = "config.json", **kinds: str) -> None:
    """Name classes of code that lies beside."""
    (model / "evil.py").write_text(_CODE)
    _set(model / name, auto_map=kinds, model_type="evil", trust_remote_code=True)


def _set(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(found | values), "utf-8")


def _safetensors(raw: bytes) -> Harm:
    return lambda model: (model / "model.safetensors").write_bytes(raw)


def _config(raw: bytes | None = None, **values: Any) -> Harm:
    def harm(model: Path) -> None:
        path = model / "config.json"
        path.write_bytes(raw) if raw is not None else _set(path, **values)

    return harm


def _index(model: Path) -> None:
    """Let the index of weights name a file elsewhere."""
    (model / "model.safetensors").unlink()
    names = {"weight_map": {"lm_head.weight": "../../secret.safetensors"}, "metadata": {}}
    (model / "model.safetensors.index.json").write_text(json.dumps(names))


def _adapter(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "evil/base", "auto_mapping": {"parent": "os"}})
    )


def _half(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _some(model: Path) -> None:
    """Take weights away; transformers would draw them at random."""
    from safetensors.numpy import load_file, save_file

    path = model / "model.safetensors"
    weights = load_file(path)
    save_file({name: weights[name] for name in sorted(weights)[::2]}, path)


_F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
MODELS: Mapping[str, Harm] = {
    "pickle": _pickled,
    "pickle-as-safetensors": _safetensors(pickle.dumps(_Touch())),
    "remote-config": partial(_remote, AutoConfig="evil.Config", AutoModelForCausalLM="evil.M"),
    "remote-elsewhere": partial(_remote, AutoConfig="evil/repository--evil.Config"),
    "empty-weights": _safetensors(b""),
    "half": _half,
    "header-huge": _safetensors(struct.pack("<Q", 2**63) + b"{}"),
    "header-long": _safetensors(struct.pack("<Q", 10**8) + b"{}"),
    "header-no-json": _safetensors(_weights(b"not json")),
    "header-list": _safetensors(_weights([])),
    "header-other": _safetensors(_weights({"other": _F32}, bytes(8))),
    "offsets-past": _safetensors(_weights({"a": _F32 | {"data_offsets": [0, 1 << 40]}}, bytes(8))),
    "offsets-negative": _safetensors(_weights({"a": _F32 | {"data_offsets": [-8, 0]}}, bytes(8))),
    "shape-wrong": _safetensors(_weights({"lm_head.weight": _F32}, bytes(8))),
    "shape-huge": _safetensors(_weights({"a": _F32 | {"shape": [1 << 62]}}, bytes(8))),
    "dtype-none": _safetensors(_weights({"a": _F32 | {"dtype": "X9"}}, bytes(8))),
    "index-elsewhere": _index,
    "adapter": _adapter,
    "config-no-json": _config(b"{"),
    "config-list": _config(b"[]"),
    "config-text": _config(b'"x"'),
    "config-not-utf-8": _config(b"\xff\xfe{}"),
    "config-deep": _config(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    "config-empty": _config(b"{}"),
    "type-unknown": _config(model_type="nope"),
    "type-other": _config(model_type="t5"),
    "type-list": _config(model_type=["llama"]),
    "size-huge": _config(hidden_size=1 << 40),
    "size-text": _config(hidden_size="x"),
    "size-negative": _config(hidden_size=-8),
    "half-of-the-weights": _some,
    "heads-zero": _config(num_attention_heads=0),
    "layers-many": _config(num_hidden_layers=1 << 30),
    "vocabulary-zero": _config(vocab_size=0),
    "positions-text": _config(max_position_embeddings="x"),
    "positions-none": _config(max_position_embeddings=None),
    "dtype-odd": _config(dtype="nope", torch_dtype=7),
    "act-odd": _config(hidden_act="os.system"),
    "quantized": _config(quantization_config={"quant_method": "nope"}),
    "text-config": _config(text_config=7),
    "tokens-odd": _config(bos_token_id="x", eos_token_id=[1, "y"], pad_token_id=1 << 40),
}
#: What is said where a model loads, and what it then says of the data is no use.
_LOADED = re.compile(
    r"no token type is held|the tokenizer has no eos|at hidden size -8|has an id of|writes none of"
)


def _models(world: World, dice: random.Random) -> Iterator[Case]:
    for name, harm in MODELS.items():
        for command in (SCORE, TUNE):
            label = f"{name}-{command.split()[0]}"
            expects = "refused by one line, or used; no code of the model's runs"
            yield Case(label, expects, partial(_model, world, harm, command))


def _copy(world: World, name: str, place: Place) -> Path:
    shutil.copytree(world.given / name, place.home / "evil")
    return place.home / "evil"


def _model(world: World, harm: Harm, command: str, place: Place, of: str = "model") -> None:
    harm(_copy(world, of, place))
    options = json.loads(json.dumps({"steps": 1, "batch_size": 4, "max_length": 128}))
    (place.home / "c.yaml").write_text(json.dumps(options | {"model": "evil"}))
    argv = command.replace("MODEL", "evil").split()
    ended = _unharmed(place, place.run(*argv, limit_s=LIMIT_S, before=_small))
    if ended.code:
        named = "evil" in ended.errors[0] or _LOADED.search(ended.errors[0])
        require(bool(named), "the model is not named", ended)
        require(not (place.home / "out").exists(), "refused, but there is an output", ended)
    else:
        sound(place.home)


# ---- tokenizers -------------------------------------------------------------------------------


def _file(name: str, raw: bytes) -> Harm:
    return lambda model: (model / name).write_bytes(raw)


def _values(name: str, **values: Any) -> Harm:
    return lambda model: _set(model / name, **values)


def _only(*names: str) -> Harm:
    """Leave a tokenizer these files, all of them nonsense."""

    def harm(model: Path) -> None:
        for path in model.glob("*token*"):
            path.unlink()
        for name in names:
            (model / name).write_bytes(b"nonsense \xff\n" * 3)

    return harm


_JSON, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
TOKENIZERS: Mapping[str, Harm] = {
    "no-json": _file(_JSON, b"{"),
    "empty": _file(_JSON, b""),
    "list": _file(_JSON, b"[]"),
    "empty-object": _file(_JSON, b"{}"),
    "not-utf-8": _file(_JSON, b"\xff\xfe{}"),
    "deep": _file(_JSON, b"[" * 100_000),
    "model-null": _values(_JSON, model=None),
    "model-unknown": _values(_JSON, model={"type": "Nope"}),
    "vocabulary-text": _values(_JSON, model={"type": "BPE", "vocab": "x", "merges": []}),
    "vocabulary-empty": _values(_JSON, model={"type": "BPE", "vocab": {}, "merges": []}),
    "vocabulary-gaps": _values(_JSON, model={"type": "BPE", "vocab": {"a": 4_000_000_000},
                                             "merges": []}),
    "merges-none": _values(_JSON, model={"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}),
    "added-odd": _values(_JSON, added_tokens=[{"id": -1, "content": None}]),
    "added-much": _values(_JSON, added_tokens=[{
        "id": 400, "content": "a", "special": True, "single_word": False, "lstrip": True,
        "rstrip": True, "normalized": True}]),
    "pattern": _values(_JSON, pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"},
                                             "behavior": "Isolated", "invert": False}),
    "pattern-broken": _values(_JSON, pre_tokenizer={"type": "Split", "pattern": {"Regex": "("},
                                                    "behavior": "Isolated", "invert": False}),
    "settings-no-json": _file(_SETTINGS, b"{"),
    "settings-list": _file(_SETTINGS, b"[]"),
    "class-unknown": _values(_SETTINGS, tokenizer_class="Nope"),
    "class-odd": _values(_SETTINGS, tokenizer_class=7),
    "remote": partial(_remote, name=_SETTINGS, AutoTokenizer="evil.T"),
    "eos-none": _values(_SETTINGS, eos_token=None),
    "eos-odd": _values(_SETTINGS, eos_token={"content": 7}),
    "eos-new": _values(_SETTINGS, eos_token="<|never seen|>"),
    "length-odd": _values(_SETTINGS, model_max_length="x"),
    "template-list": _values(_SETTINGS, chat_template=[{"name": "a"}]),
    "template-number": _values(_SETTINGS, chat_template=7),
    "old-files": _only("vocab.json", "merges.txt"),
    "sentencepiece": _only("tokenizer.model"),
    "tekken": _only("tekken.json"),
    "words": _only("vocab.txt"),
    "none": _only(),
}  # fmt: skip


def _tokenizers(world: World, dice: random.Random) -> Iterator[Case]:
    for name, harm in TOKENIZERS.items():
        for command in (COUNT, dice.choice([SCORE, TUNE])):
            expects = "refused by one line, or used; no code of the tokenizer's runs"
            label = f"{name}-{command.split()[0]}"
            yield Case(label, expects, partial(_model, world, harm, command))


TEMPLATES: Mapping[str, str] = {
    "endless": "{% for i in range(10**15) %}{{ i }}{% endfor %}",
    "endless-silent": "{% for i in range(10**15) %}{% endfor %}",
    "nested": "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "huge": "{{ 'x' * 10**10 }}",
    "huge-slowly": "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
    "doubling": "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}"
    "{% endfor %}{{ n.t }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "syntax": "{% for %}",
    "unclosed": "{{ messages",
    "undefined": "{{ nothing.of.this }}",
    "division": "{{ 1 / 0 }}",
    "index": "{{ messages[99].role }}",
    "type": "{{ messages + 1 }}",
    "raised": "{{ raise_exception('\x1b[31mno\nline two') }}",
    "attribute": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}",
    "lipsum": "{{ lipsum.__globals__['os'].system('touch pwned') }}",
    "attr": "{{ ''|attr('__class__') }}",
    "format-attribute": "{{ '{0.__class__.__init__}'.format(messages) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "mutate": "{% set _ = messages.append(1) %}{{ messages }}",
    "clear": "{{ messages.clear() }}",
    "empty": "",
    "blank": "  ",
    "constant": "always the same",
    "no-answer": "{% for m in messages %}{{ m.role }}{% endfor %}",
    "answer-twice": "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    "control": "{% for m in messages %}\x00\x1b[2J{{ m.content }}{% endfor %}",
    "deep": "{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}",
    "long": "x" * 3_000_000,
    "tags": "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}",
    "tags-nested": "{% generation %}{% generation %}x{% endgeneration %}{% endgeneration %}",
    "random": "{{ range(10**9)|random }}{% for m in messages %}{{ m.content }}{% endfor %}",
}


def _templates(world: World, dice: random.Random) -> Iterator[Case]:
    for name, text in TEMPLATES.items():
        for command in (SCORE, TUNE):
            expects = "one line within seconds, or used; no code of the template's runs"
            harm = _file("chat_template.jinja", text.encode())
            label = f"{name}-{command.split()[0]}"
            yield Case(label, expects, partial(_template, world, harm, command))


def _template(world: World, harm: Harm, command: str, place: Place) -> None:
    harm(_copy(world, "model", place))
    options = {"steps": 1, "batch_size": 4, "max_length": 128, "model": "evil"}
    (place.home / "c.yaml").write_text(json.dumps(options))
    argv = command.replace("MODEL", "evil").split()
    _unharmed(place, place.run(*argv, limit_s=LIMIT_S, before=_small))


# ---- encoders ---------------------------------------------------------------------------------


def _modules(entries: Any) -> Harm:
    def harm(model: Path) -> None:
        (model / "evil.py").write_text(_CODE)
        (model / "modules.json").write_text(json.dumps(entries))

    return harm


_FIRST = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
ENCODERS: Mapping[str, Harm] = {
    "modules-empty": _modules([]),
    "modules-object": _modules({}),
    "modules-odd": _modules([7]),
    "type-evil": _modules([_FIRST | {"type": "evil.Module"}]),
    "type-os": _modules([_FIRST | {"type": "os.system", "path": "touch pwned"}]),
    "type-none": _modules([_FIRST | {"type": None}]),
    "path-elsewhere": _modules([_FIRST | {"path": "../../given/encoder"}]),
    "path-number": _modules([_FIRST | {"path": 7}]),
    "modules-no-json": _file("modules.json", b"["),
    "pickle": _pickled,
    "weights-empty": _safetensors(b""),
    "weights-header": _safetensors(struct.pack("<Q", 2**62) + b"{"),
    "config-list": _config(b"[]"),
    "config-remote": partial(_remote, AutoModel="evil.M"),
    "size-huge": _config(hidden_size=1 << 40),
    "layers-none": _config(num_hidden_layers=None),
    "tokenizer-none": lambda model: (model / _JSON).unlink(),
    "tokenizer-broken": _file(_JSON, b"{"),
    "pooling-odd": _file("1_Pooling/config.json", b'{"embedding_dimension": "x"}'),
    "prompts-odd": _file("config_sentence_transformers.json", b'{"prompts": [7]}'),
    "length-odd": _file("sentence_bert_config.json", b'{"max_seq_length": "x"}'),
}


def _encoders(world: World, dice: random.Random) -> Iterator[Case]:
    for name, harm in ENCODERS.items():
        expects = "refused by one line, or used; no code of the encoder's runs"
        yield Case(name, expects, partial(_model, world, harm, EMBED, of="encoder"))


# ---- endpoints --------------------------------------------------------------------------------


def _http(body: bytes, head: str = "", status: str = "200 OK") -> bytes:
    first = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{head}"
    if "length" not in head and "chunked" not in head:
        first += f"content-length: {len(body)}\r\n"
    return first.encode("latin-1", "replace") + b"\r\n" + body


def _completion(text: Any, **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    whole = {"id": "c", "object": "chat.completion", "model": "m",
             "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
    return json.dumps(whole | more).encode()


_DEEP = b'{"choices":' + b"[" * 90_000 + b"]" * 90_000 + b"}"
_BOMB = gzip.compress(b'{"choices": "' + b"x" * (300 << 20) + b'"}', 1)
#: What is answered to a call, at once.
ANSWERS: Mapping[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "garbage": lambda: os.urandom(400),
    "tls": lambda: b"\x15\x03\x01\x00\x02\x02\x28",
    "no-head": lambda: b"hello\n",
    "empty": lambda: _http(b""),
    "html": lambda: _http(b"<html>502</html>", status="502 Bad Gateway"),
    "no-json": lambda: _http(b"{"),
    "list": lambda: _http(b"[]"),
    "null": lambda: _http(b"null"),
    "no-choices": lambda: _http(b'{"choices": []}'),
    "choice-null": lambda: _http(b'{"choices": [null]}'),
    "content-null": lambda: _http(_completion(None)),
    "content-number": lambda: _http(_completion(7)),
    "content-list": lambda: _http(_completion([{"type": "text", "text": "x"}])),
    "content-object": lambda: _http(_completion({"a": 1})),
    "content-blank": lambda: _http(_completion(" \n")),
    "content-control": lambda: _http(_completion("\x1b[31mred\x00\u202e")),
    "content-surrogate": lambda: _http(_completion("x\ud800")),
    "content-key": lambda: _http(_completion(f"the key is {KEY}")),
    "content-huge": lambda: _http(_completion("x" * (60 << 20))),
    "usage-odd": lambda: _http(_completion("x", usage={"prompt_tokens": "many"})),
    "usage-negative": lambda: _http(_completion("x", usage={"prompt_tokens": -(10**30)})),
    "usage-list": lambda: _http(_completion("x", usage=[])),
    "deep": lambda: _http(_DEEP),
    "length-short": lambda: _http(_completion("x"), "content-length: 5\r\n"),
    "length-long": lambda: _http(_completion("x"), "content-length: 99999\r\n"),
    "length-huge": lambda: _http(_completion("x"), f"content-length: {10**15}\r\n"),
    "length-odd": lambda: _http(_completion("x"), "content-length: x\r\n"),
    "length-twice": lambda: _http(b"{}", "content-length: 2\r\ncontent-length: 9\r\n"),
    "chunks-odd": lambda: _http(b"zz\r\nx\r\n", "transfer-encoding: chunked\r\n"),
    "head-huge": lambda: _http(_completion("x"), "x-a: " + "y" * (4 << 20) + "\r\n"),
    "heads-many": lambda: _http(_completion("x"), "".join(f"x-{i}: y\r\n" for i in range(20_000))),
    "head-key": lambda: _http(b"no", f"x-key: {KEY}\r\n", "401 Unauthorized"),
    "status-999": lambda: _http(b"{}", status="999 Odd"),
    "status-000": lambda: _http(b"{}", status="000 "),
    "status-text": lambda: _http(b"{}", status="abc"),
    "redirect": lambda: _http(b"", "location: http://192.0.2.1/v1\r\n", "307 Elsewhere"),
    "redirect-file": lambda: _http(b"", "location: file:///etc/passwd\r\n", "302 Found"),
    "redirect-loop": lambda: _http(b"", "location: /redirect-loop/v1\r\n", "308 Here"),
    "refused": lambda: _http(f"your key {KEY} is bad\n\x1b[31m".encode(), status="400 Bad"),
    "unauthorized": lambda: _http(f"key {KEY}".encode(), status="401 Unauthorized"),
    "error": lambda: _http(b'{"error": {"message": "\\u001b[31m"}}', status="500 Error"),
    "later": lambda: _http(b"{}", "retry-after: 999999999\r\n", "429 Later"),
    "later-negative": lambda: _http(b"{}", "retry-after: -5\r\n", "429 Later"),
    "later-odd": lambda: _http(b"{}", "retry-after: \x1b[31m\r\n", "503 Later"),
    "gzip-bomb": lambda: _http(_BOMB, "content-encoding: gzip\r\n"),
    "gzip-broken": lambda: _http(b"\x1f\x8bnope", "content-encoding: gzip\r\n"),
    "encoding-odd": lambda: _http(_completion("x"), "content-encoding: nope\r\n"),
    "charset-odd": lambda: _http(b"\xff\xfe", "content-type: text/html; charset=nope\r\n"),
}
#: What goes on and on.
STREAMS = ("silent", "drip-head", "drip-body", "endless-head", "endless-body", "endless-chunks")


def _endpoints(world: World, dice: random.Random) -> Iterator[Case]:
    for name in (*ANSWERS, *STREAMS):
        expects = "ends within seconds, by one line or with failures in the account; no key is seen"
        yield Case(name, expects, partial(_endpoint, world, name))
    for url in ("http://192.0.2.1:9/v1", "http://example.com/v1", "http://0x7f000001.example/v1"):
        expects = "a key is not sent without encryption to another machine"
        yield Case(f"plain-{url.split('/')[2]}", expects, partial(_plain, url))


def _endpoint(world: World, name: str, place: Place) -> None:
    (place.home / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(6)))
    place.run("ingest", "raw.jsonl", "--out", "corpus")
    with _serving(name) as url:
        words = (
            "--model big --timeout-s 1 --answer-s 4 --tries 2 --concurrency 3 --max-bad-fraction 1"
        )
        argv = ["rewrite", "corpus", "--endpoint", url, *words.split(), "--api-key-env", "KEY"]
        ended = place.run(
            *argv, "--out", "out", "--work", "work", environment={"KEY": KEY}, limit_s=LIMIT_S
        )
    decent(ended, CODES)
    require(ended.peak_mb < 2_000, f"it takes {ended.peak_mb:.0f} MB", ended)
    require(KEY not in ended.out + ended.err, "the key is printed", ended)
    for path in place.home.rglob("*"):
        if path.is_file() and "given" not in path.parts:
            require(KEY.encode() not in path.read_bytes(), f"the key is in {path}", ended)
    if not ended.code:
        sound(place.home)


def _plain(url: str, place: Place) -> None:
    argv = ["rewrite", "given/corpus", "--endpoint", url, "--model", "big", "--tries", "1"]
    ended = place.run(
        *argv, "--api-key-env", "KEY", "--out", "out", environment={"KEY": KEY}, limit_s=30
    )
    refused(ended, "http:", codes=[2])


@contextlib.contextmanager
def _serving(name: str) -> Iterator[str]:
    """Answer on this machine, in a process that ends with the case."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    port, parent = listening.getsockname()[1], os.getpid()
    pid = os.fork()
    if not pid:
        try:
            children.end_with(parent)
            _answer(listening, name)
        finally:
            os._exit(0)
    listening.close()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answer(listening: socket.socket, name: str) -> None:
    raw = ANSWERS[name]() if name in ANSWERS else b""
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_talk, args=(connection, name, raw), daemon=True).start()


def _talk(connection: socket.socket, name: str, raw: bytes) -> None:
    with contextlib.suppress(OSError), connection:
        _hear(connection)
        if name in ANSWERS:
            connection.sendall(raw)
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        if name == "silent":
            time.sleep(600)
        elif name == "drip-head":
            _drip(connection, head + b"x-a: y\r\n" * 1_000)
        elif name == "drip-body":
            connection.sendall(head + b"content-length: 100000\r\n\r\n")
            _drip(connection, b" " * 100_000)
        elif name == "endless-head":
            connection.sendall(head)
            _flood(connection, b"x-a: " + b"y" * 4_000 + b"\r\n")
        elif name == "endless-body":
            connection.sendall(head + b"\r\n")
            _flood(connection, b" " * 65_536)
        else:
            connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
            _flood(connection, b"10000\r\n" + b" " * 65_536 + b"\r\n")


def _hear(connection: socket.socket) -> None:
    """Read a request with its body."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += connection.recv(65_536) or b"\r\n\r\n"
    head, _, body = heard.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                   if line.startswith(b"content-length")), 0)  # fmt: skip
    while len(body) < length:
        body += connection.recv(65_536) or b" " * length


def _drip(connection: socket.socket, raw: bytes) -> None:
    for byte in raw:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def _flood(connection: socket.socket, raw: bytes) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        connection.sendall(raw)


# ---- data that is shown -----------------------------------------------------------------------

_STEER = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202etext\u2066 \x00\x08 [bold]rich[/bold] [link=x]"
_MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>&amp;{{7*7}}{% x %}"
_FORMULA = '=HYPERLINK("http://x")'
TEXTS: Mapping[str, str] = {
    "steering": _STEER, "markup": _MARKUP, "formula": _FORMULA, "plus": "+1+1", "at": "@SUM(1)",
    "minus": "-1+cmd|' /C calc'!A0", "fence": "```\n---\n# title\n| a | b |\n", "tab": "\t=1",
    "template": "{{ config }}{% raw %}", "percent": "%s %d %n {} {0.__class__}",
}  # fmt: skip


def _data(world: World, dice: random.Random) -> Iterator[Case]:
    for name, text in TEXTS.items():
        for shown in ("subset", "quarantine", "results", "columns", "manifest", "job"):
            expects = "shown as text: no control character, no tag, no formula"
            yield Case(f"{name}-{shown}", expects, partial(_DATA[shown], world, text))


def _hostile_rows(text: str) -> list[dict[str, Any]]:
    found = []
    for i, row in enumerate(rows(24)):
        found.append({
            "instruction": f"{text} {row['instruction']}", "output": f"{text} {row['output']} {i}",
            "kind": text, text[:40] or "k": text,
        })  # fmt: skip
    return found


def _subset(world: World, text: str, place: Place) -> None:
    """Ingest, select, explain, tell apart, report and export data of such texts."""
    lines = "".join(json.dumps(row) + "\n" for row in _hostile_rows(text))
    (place.home / "raw.jsonl").write_text(lines)
    common = ["--strategy", "micro-response", "--tokenizer", "given/tokenizer.json"]
    decent(place.run("ingest", "raw.jsonl", "--out", "corpus"), [0])
    for size in (5, 7):
        decent(
            place.run("select", "corpus", *common, "--size", str(size), "--out", f"s{size}"), [0]
        )
    decent(place.run("select", "corpus", *common, "--size", "5", "--quota",
                     f"meta.kind={text[:20]}:1", "--out", "q"), CODES)  # fmt: skip
    decent(place.run("diff", "s5", "s7"), [0])
    first = json.loads(decent(place.run("diff", "s7", "s5", "--json"), [0]).out)
    require(isinstance(first, dict), "no JSON")
    for one in ("nosuch\x1b[31m", _first_id(place.home / "s5")):
        decent(place.run("explain", "s5", one), CODES)
    decent(place.run("report", "s5", "--layout", "pca", "--no-measure", "--out", "page.html"), [0])
    page = (place.home / "page.html").read_text("utf-8")
    require("<script>alert(1)" not in page and "<img src=x" not in page, "data is markup in a page")
    decent(place.run("export", "s5", "--to", "exported"), [0])
    card = (place.home / "exported/README.md").read_text("utf-8")
    require("\x1b" not in card, "control characters are in the card")


def _first_id(subset: Path) -> str:
    import pyarrow.parquet as pq

    return str(pq.read_table(subset / "samples/00000.parquet")["id"][0].as_py())


def _quarantine(world: World, text: str, place: Place) -> None:
    rows = [{"instruction": "a", "output": text}, {"instruction": text, text or "k": text}] * 4
    (place.home / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(place.run("ingest", "raw.jsonl", "--out", "out"), codes=[1, 3])


def _columns(world: World, text: str, place: Place) -> None:
    for name in ("raw.jsonl", "raw.csv"):
        cell = json.dumps(text)
        raw = f"{{{cell}: 1}}\n" if name.endswith("l") else f"{text.splitlines()[0]},b\n1,2\n"
        (place.home / name).write_text(raw, "utf-8")
        refused(place.run("ingest", name, "--out", "out"), codes=[1, 2, 3])


def _results(world: World, text: str, place: Place) -> None:
    """Fit a table whose strategies have such names."""
    name = text.replace('"', '""')
    lines = ["strategy,size,diversity,seed,score"]
    for level in (0, 50, 100):
        for seed in range(3):
            lines.append(f'"{name}",500,{level},{seed},{0.2 + level / 1000 + seed / 70:.4f}')
    (place.home / "r.csv").write_text("\n".join(lines) + "\n", "utf-8")
    ended = decent(place.run("fit", "r.csv", "--draws", "200", "--out", "out"), CODES)
    if ended.code:
        return
    table = (place.home / "out/slopes.csv").read_text("utf-8")
    for line in csv.reader(io.StringIO(table, newline="")):
        for cell in line:
            plain = cell.strip()
            formula = plain[:1] in ("=", "+", "-", "@") and not _is_number(plain)
            require(not formula, f"a formula is in slopes.csv: {cell!r}", ended)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _manifest(world: World, text: str, place: Place) -> None:
    """Show what a manifest of others says."""
    folder = place.home / "out"
    folder.mkdir()
    said = {"stage": text, "files": [{"path": text, "bytes": 1}], "key": text, "digest": text}
    (folder / "manifest.json").write_text(json.dumps(said | {"run": {}}))
    refused(place.run("verify", "out"))
    for argv in (["export", "out", "--to", "x"], ["report", "out"], ["explain", "out", "x"]):
        refused(place.run(*argv))


def _job(world: World, text: str, place: Place) -> None:
    """Show a job whose command, and whose log, has such texts."""
    argv = ["submit", "--executor", "local", "--work", "work", "--", "verify", f"no{text}"]
    argv = [word.replace("\0", "") for word in argv]
    decent(place.run(*argv), CODES)
    decent(place.run("status", "--work", "work"), [0])
    decent(place.run("status", "--work", "work", "--json"), [0])


_DATA: Mapping[str, Callable[[World, str, Place], None]] = {
    "subset": _subset, "quarantine": _quarantine, "columns": _columns, "results": _results,
    "manifest": _manifest, "job": _job,
}  # fmt: skip
