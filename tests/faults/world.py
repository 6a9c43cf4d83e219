"""What cases read, made once: data, models, an endpoint, and the commands of every stage."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sft_diversity.core import children
from tests.faults import processes
from tests.faults.case import Place, nothing_left, sound, tree, well
from tests.faults.processes import Ended

SELECT = "--tokenizer given/tokenizer.json --work work"
TASKS = Path(__file__).parents[1] / "scoring/harness/tasks"
TAGS = {"extractor": "llm", "merge": "none", "min_samples": 1}
#: Command lines by name; URL stands for the scripted endpoint. What they make lies in `out*`.
COMMANDS = {
    "ingest": "ingest given/raw --out out",
    "clean": "clean given/corpus --config given/clean.yaml --out out --work work",
    "clean-report": "clean given/corpus --report-only --out out --work work",
    "tokens": "index given/corpus --strategy micro-response --tokenizer given/tokenizer.json "
    "--out out --work work",
    "words": "index given/corpus --strategy meso-instruction --config given/words.yaml --out out "
    "--work work",
    "tags": "index given/corpus --strategy meso-response --config given/tags.yaml --out out "
    "--work work",
    "embed": "embed given/corpus --encoder given/encoder --out out --work work",
    "embed-part": "embed given/corpus --encoder given/encoder --part 1/1 --work work",
    "macro": "index given/corpus --strategy macro-instruction --config given/macro.yaml --out out "
    "--work work",
    "quality": "select given/corpus --strategy random --quality perplexity --size 9 "
    f"--config given/judge.yaml --out out {SELECT}",
    "select": f"select given/corpus --strategy micro-response --size 12 --out out {SELECT}",
    "raw": f"select given/raw --strategy micro-response --size 12 --out out {SELECT}",
    "grid": "select given/corpus --config given/words-in-select.yaml --grid "
    f"strategy=micro-response,meso-instruction,diversity=0,100,size=9 --out out {SELECT}",
    "measure": "measure given/subset --config given/measure.yaml --out out --work work",
    "score": "score given/model --config given/score.yaml --out out --work work",
    "harness": "score given/model --config given/harness.yaml --out out --work work",
    "pairwise": "score URL --config given/pairwise.yaml --judge-url URL --out out --work work",
    "generate": "score given/model --config given/generate.yaml --out out --work work",
    "fit": "fit given/results.csv --draws 200 --out out",
    "advise": "advise given/sizes.csv --at 2000 --out out",
    "map": "map given/subset --corpus given/corpus --layout pca --out out.parquet --work work",
    "report": "report given/subset --corpus given/corpus --layout pca --no-measure "
    "--out out.html --work work",
    "pages": "report given/subset given/other --corpus given/corpus --layout pca --no-measure "
    "--out out --work work",
    "export": "export given/subset --to out",
    "export-model": "export given/tuned --to out",
    "rewrite": "rewrite given/corpus --endpoint URL --model big --out out --work work",
    "schedule": "schedule --phi 0.5 --png out.png",
    "finetune": "finetune given/subset --config given/finetune.yaml --out out",
    "study": "study given/study.yaml --out out --jobs 1",
}
#: The command by which each stage is tried.
STAGES = {
    "advise": "advise", "answers": "generate", "map": "map", "score generate": "generate",
    "clean": "clean", "clean-report": "clean-report", "embed": "embed", "export": "export",
    "fit": "fit", "ingest": "ingest", "index": "macro", "measure": "measure",
    "quality": "quality", "report": "pages", "rewrite": "rewrite", "select": "select",
    "score harness": "harness", "score heldout": "score", "score pairwise": "pairwise",
    "tokens": "tokens", "words": "words",
}  # fmt: skip
#: What comes after a command: parts are for the whole.
THEN = {"embed-part": "embed given/corpus --encoder given/encoder --work work"}


@dataclass(frozen=True)
class Reference:
    """What an undisturbed command makes, how long it takes, and its steps in the file system."""

    files: Mapping[str, bytes]
    seconds: float
    steps: tuple[str, ...]


@dataclass
class World:
    """All that cases share; `root/given` is read alone."""

    root: Path
    url: str = ""
    references: dict[str, Reference] = field(default_factory=dict)
    homes: dict[str, Path] = field(default_factory=dict)
    _server: int = 0

    @property
    def given(self) -> Path:
        """What commands read."""
        return self.root / "given"

    def argv(self, name: str) -> list[str]:
        """Return the arguments of a command of the table."""
        words = [self.url if word == "URL" else word for word in COMMANDS[name].split()]
        return [_axes(word) for word in words]

    def kept(self, name: str) -> Path:
        """Return the folder in which a command ran undisturbed."""
        self.reference(name)
        return self.homes[name]

    def finish(self, name: str, place: Place) -> list[Ended]:
        """Run a command, and what comes after it, to their ends."""
        ended = [well(place.run(*self.argv(name)))]
        if name in THEN:
            ended.append(well(place.run(*THEN[name].split())))
        return ended

    def place(self, name: str, seed: int) -> Place:
        """Return an empty folder for a case, in which `given` is a link."""
        key = hashlib.sha256(name.encode()).hexdigest()[:12]
        home = self.root / "cases" / key
        home.mkdir(parents=True)
        (home / "given").symlink_to(self.given)
        (home / "micro").symlink_to(self.given / "micro")  # `map` looks for it beside `work`
        return Place(home, self.root / "cases" / f"{key}-said", random.Random(f"{seed}/{name}"))

    def copied(self, place: Place, *names: str) -> None:
        """Give a case things of its own in the place of some that all share, to be harmed."""
        (place.home / "given").unlink()
        (place.home / "given").mkdir()
        for path in self.given.iterdir():
            target = place.home / "given" / path.name
            if path.name not in names:
                target.symlink_to(path)
            elif path.is_dir():
                shutil.copytree(path, target)
            else:
                shutil.copyfile(path, target)

    def reference(self, name: str) -> Reference:
        """Run a command undisturbed, once; require that it does what it should."""
        if name not in self.references:
            from tests.faults.kills import counting

            place = self.place(f"reference of {name} for {os.getpid()}", 0)
            log = place.said.with_suffix(".steps")
            ended = well(place.run(*self.argv(name), before=lambda: counting(log, place.home)))
            if name in THEN:
                well(place.run(*THEN[name].split()))
            sound(place.home)
            nothing_left(place.home)
            steps = tuple(log.read_text("utf-8").splitlines())
            self.references[name] = Reference(made(place.home), ended.seconds, steps)
            self.homes[name] = place.home
        return self.references[name]

    def make(self, heavy: bool) -> None:
        """Make what commands read; `heavy`: models too."""
        self.given.mkdir(parents=True)
        _write_raw(self.given / "raw")
        (self.given / "results.csv").write_text(_results(), "utf-8")
        (self.given / "sizes.csv").write_text(_sizes(), "utf-8")
        processes.apart(lambda: _tokenizer(self.given / "tokenizer.json"))
        if heavy:
            processes.apart(lambda: _models(self.given))
        self._serve()
        for name, options in _configs(self.given, self.url).items():
            (self.given / f"{name}.yaml").write_text(yaml.safe_dump(options), "utf-8")
        home = Place(self.root, self.root / "making", random.Random(0))
        well(home.run("ingest", "given/raw", "--out", "given/corpus"))
        tokens = ["--tokenizer", "given/tokenizer.json", "--work", "warm"]
        for out, size in (("subset", 12), ("other", 15)):
            chosen = ["--strategy", "micro-response", "--size", str(size), "--diversity", "60"]
            well(home.run("select", "given/corpus", *chosen, *tokens, "--out", f"given/{out}"))
        indexed = ["--strategy", "micro-response", "--out", "given/micro"]
        well(home.run("index", "given/corpus", *indexed, *tokens))
        well(home.run("export", "given/subset", "--to", "given/exported"))
        if heavy:
            tune = ["finetune", "given/subset", "--config", "given/finetune.yaml"]
            well(home.run(*tune, "--out", "given/tuned"))

    def _serve(self) -> None:
        """Start the endpoint in a process that ends with this one."""
        port = self.root / "port"
        parent = os.getpid()
        self._server = os.fork()
        if not self._server:
            try:
                children.end_with(parent)
                _answer(port)
            finally:
                os._exit(0)
        while not (port.exists() and port.read_text()):
            time.sleep(0.005)
        self.url = port.read_text()

    def close(self) -> None:
        """End the endpoint."""
        if self._server:
            os.kill(self._server, signal.SIGKILL)
            os.waitpid(self._server, 0)


def made(home: Path) -> dict[str, bytes]:
    """Return what commands have made in a case's folder."""
    return tree(*(path for path in sorted(home.iterdir()) if path.name[:3] in ("out", "wor")))


def _axes(word: str) -> str:
    """Return the axes of a grid as the command line takes them, in one word."""
    if not word.startswith("strategy="):
        return word
    return word.replace(",diversity=", " diversity=").replace(",size=", " size=")


# ---- data -----------------------------------------------------------------------------------


def rows(count: int = 48) -> list[dict[str, Any]]:
    """Return instructions and responses over topics that recur; some twice, one empty."""
    from tests.levels.making import FRAMES, TOPICS

    found = []
    for i in range(count):
        topic, frame = TOPICS[i % len(TOPICS)], FRAMES[i // len(TOPICS) % len(FRAMES)]
        said = f"The {topic} is a topic of its own, as the {TOPICS[(3 * i + 1) % 8]} is. " * (
            1 + i % 3
        )
        found.append({"instruction": frame.replace("{}", topic), "input": "", "output": said})
    return found


def _write_raw(place: Path) -> None:
    place.mkdir()
    every = rows()
    lines = [json.dumps(row) for row in [*every[:30], every[3]]]
    (place / "a.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    turns = [
        {"conversations": [{"from": "human", "value": row["instruction"]},
                           {"from": "gpt", "value": row["output"]}]}
        for row in every[30:]
    ]  # fmt: skip
    (place / "b.json").write_text(json.dumps(turns, indent=1), "utf-8")


def _results() -> str:
    dice = random.Random(0)
    lines = ["strategy,size,diversity,seed,score"]
    for strategy in ("micro-response", "meso-instruction"):
        for level in (0, 50, 100):
            for seed in range(3):
                score = 0.2 + 0.001 * level + dice.random() / 20
                lines.append(f"{strategy},500,{level},{seed},{score:.4f}")
    lines += [f"random,500,,{seed},{0.25 + seed / 100}" for seed in range(3)]
    return "\n".join(lines) + "\n"


def _sizes() -> str:
    lines = ["size,score,seed"]
    lines += [
        f"{size},{20 + size**0.3 + seed},{seed}" for size in (250, 500, 1000) for seed in range(2)
    ]
    return "\n".join(lines) + "\n"


def _tokenizer(path: Path) -> None:
    from tests import tiny

    tiny.bare(400).save(str(path))


def _models(given: Path) -> None:
    import torch
    from transformers.utils import logging

    from tests import tiny
    from tests.embedding import make
    from tests.scoring import fixtures

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    make.encoder(given / "encoder")
    tiny.save(given / "model")
    fixtures.write(given / "eval")


def _configs(given: Path, url: str) -> dict[str, dict[str, Any]]:
    from tests.scoring import fixtures

    encoder, model = str(given / "encoder"), str(given / "model")
    short = [one.model_dump(mode="json") for one in (fixtures.ALPACA, fixtures.MIX)]
    score = {"eval_dir": str(given / "eval"), "max_length": 128, "draws": 100, "sets": short}
    training = {
        "model": model, "steps": 4, "batch_size": 4, "max_length": 128, "dtype": "float32",
        "checkpoint_steps": 2,
    }  # fmt: skip
    prompts = [{"name": "short", "file": "short.json.gz", "prompt": "instruction",
                "input": "input", "response": "output"}]  # fmt: skip
    words = {"min_samples": 2, "merge": "none"}
    return {
        "clean": {"cosine": 0.995, "component": "instruction", "encoder": encoder},
        "words": {"meso": words},
        "words-in-select": {"index": {"meso": words}},
        "tags": {"meso": TAGS | {"endpoint": {"url": url, "model": "tagger"}}},
        "macro": {"macro": {"k": 4}, "encoder": encoder},
        "judge": {"judge": {"model": model, "max_length": 64}},
        "measure": {"tokenizer": str(given / "tokenizer.json"), "encoder": encoder},
        "score": score,
        "harness": {
            "suite": "harness", "tasks": "capitals", "include_path": str(TASKS),
            "batch_size": 4, "dtype": "float32",
        },
        "pairwise": {
            "suite": "pairwise", "judge_model": "judge", "model_name": "big", "draws": 100,
            "eval_dir": str(given / "eval"), "sets": prompts,
        },
        "generate": {
            "suite": "generate", "max_new_tokens": 8, "batch_size": 4, "dtype": "float32",
            "draws": 100, "eval_dir": str(given / "eval"),
            "sets": [{**prompts[0], "check": "none"}],
        },
        "finetune": training,
        "study": {
            "ingest": {"sources": [{"name": "raw", "path": "raw"}], "root": str(given)},
            "grid": {"strategy": ["micro-response"], "size": [12], "diversity": [100]},
            "regimes": ["A"],
            "baselines": {"base": True, "random": 0, "random_common": 0, "longest": False},
            "select": {"tokenizer": str(given / "tokenizer.json")},
            "finetune": training, "score": score, "metrics": False,
        },
    }  # fmt: skip


# ---- the endpoint ---------------------------------------------------------------------------


def _answer(port: Path) -> None:
    """Answer as the model that a call names, the same to the same call, until killed."""
    from tests.endpoint.scripted import Reply, serving

    def script(call: Any, number: int) -> Reply:
        luck = int(hashlib.sha256(call.said.encode()).hexdigest()[:6], 16)
        if call.body["model"] == "judge":
            return Reply(f"So: [[{'AB'[luck % 2]}]]")
        if call.body["model"] == "tagger":
            tags = [f"topic {luck % 5}", f"form {luck % 3}"]
            return Reply(json.dumps([{"tag": tag, "explanation": "it fits"} for tag in tags]))
        return Reply(f"Said anew: {call.said.upper()}")

    with serving(script) as server:
        scratch = port.with_suffix(".writing")
        scratch.write_text(server.url)
        scratch.rename(port)
        signal.pause()
