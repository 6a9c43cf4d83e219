"""What lies beside an export for the trainers that people use, and what the card says of it.

A file is written only for a trainer that reads the format whole; of the others the card says so.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sft_diversity.core import chat
from sft_diversity.exporting.cards import table
from sft_diversity.exporting.formats import SHAREGPT, Survey

LLAMA_FACTORY, AXOLOTL, TRL = "dataset_info.json", "axolotl.yaml", "trl_sft.sh"
TEMPLATE = "chat_template.jinja"

_AXOLOTL_HEAD = """\
# How axolotl reads this folder. Add base_model and your training settings, then in this folder:
#   axolotl preprocess axolotl.yaml
#   axolotl train axolotl.yaml
"""


@dataclass(frozen=True)
class TrainerFiles:
    """A trainer: the files written for it with their texts, if any; what the card says."""

    name: str
    files: dict[str, str]
    note: str

    @property
    def file(self) -> str | None:
        """The file that one names to the trainer."""
        return next(iter(self.files), None)


def clients(format: str, title: str, found: Survey) -> list[TrainerFiles]:
    """Return the trainers with what each needs to read an export of this format and content."""
    return [_trl(format), _llama_factory(format, title, found), _axolotl(format, found)]


def dataset_name(title: str) -> str:
    """Return the name of the dataset in LLaMA-Factory's list: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "subset"


def notes(written: list[TrainerFiles]) -> str:
    """Return the card's table of trainers."""
    rows = [(one.name, f"`{one.file}`" if one.file else "nothing", one.note) for one in written]
    return table(["trainer", "in this folder", "how"], rows)


def _trl(format: str) -> TrainerFiles:
    options = {"chat": "", "prompt-completion": "", "messages": " --assistant_only_loss True"}
    if format not in options:
        return _cannot("TRL", f"does not read {format} rows")
    note = f"`sh {TRL} MODEL OUT`"
    if format == "messages":
        note += "; the chat template must mark what the assistant says (`{% generation %}`)"
    note += f"; a model without a chat template gets `{TEMPLATE}`"
    script = (Path(__file__).with_name("templates") / TRL).read_text("utf-8")
    files = {TRL: script.replace("@OPTIONS@", options[format]), TEMPLATE: chat.TEMPLATE}
    return TrainerFiles("TRL", files, note)


def _llama_factory(format: str, title: str, found: Survey) -> TrainerFiles:
    entry: dict[str, Any] = {"file_name": "data"}
    if found.structured and format in ("chat", "messages"):
        return _cannot(
            "LLaMA-Factory", "reads calls and thoughts of ShareGPT rows alone", "sharegpt"
        )
    if format in ("chat", "messages"):
        entry |= {
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user",
                "assistant_tag": "assistant", "observation_tag": "tool",
                "function_tag": "function_call", "system_tag": "system",
            },
        }  # fmt: skip
    elif format == "sharegpt":
        entry |= {"formatting": "sharegpt", "columns": {"messages": "conversations"}}
    elif format == "alpaca":
        entry["columns"] = {
            "prompt": "instruction", "query": "input", "response": "output",
            "system": "system", "history": "history",
        }  # fmt: skip
    else:
        return _cannot("LLaMA-Factory", "does not read lists of turns as prompt and completion")
    if found.structured:
        entry["columns"]["tools"] = "tools"
    name = dataset_name(title)
    note = f"`llamafactory-cli train --stage sft --dataset_dir DIR --dataset {name} ...`"
    if found.broken_turns:
        note += (
            f"; it leaves out {found.broken_turns:,} rows whose speakers do not alternate "
            "or whose last turn is no answer"
        )
    text = json.dumps({name: entry}, indent=2) + "\n"
    return TrainerFiles("LLaMA-Factory", {LLAMA_FACTORY: text}, note)


def _axolotl(format: str, found: Survey) -> TrainerFiles:
    entry: dict[str, Any] = {"path": "data", "split": "train"}
    if found.structured:
        return TrainerFiles("axolotl", {}, "not tried with thoughts, calls and tools")
    if format in ("chat", "messages"):
        entry |= _chat_template("messages", "role", "content")
    elif format == "sharegpt":
        entry |= _chat_template("conversations", "from", "value")
        entry["roles"] = {role: [name] for role, name in SHAREGPT.items()}
    elif format == "alpaca" and not found.dialogues:
        entry["type"] = "alpaca_w_system" if found.with_system else "alpaca"
    elif format == "alpaca":
        return _cannot("axolotl", "reads no `history`: earlier turns would be lost")
    else:
        return _cannot("axolotl", "does not read lists of turns as prompt and completion")
    text = yaml.safe_dump({"datasets": [entry]}, sort_keys=False)
    note = f"`axolotl train {AXOLOTL}` in this folder, after `base_model` is added"
    return TrainerFiles("axolotl", {AXOLOTL: _AXOLOTL_HEAD + text}, note)


def _chat_template(column: str, role: str, content: str) -> dict[str, Any]:
    return {
        "type": "chat_template",
        "field_messages": column,
        "message_property_mappings": {"role": role, "content": content},
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }


def _cannot(name: str, why: str, format: str = "messages") -> TrainerFiles:
    return TrainerFiles(name, {}, f"{why}; export with `--format {format}`")
