"""Dialogues as token ids with loss labels: one rendering for training and for scoring.

The tokenizer's chat template is used; a base model without one gets ours. Loss falls on every
assistant turn and on nothing else: what follows the generation prompt, end-of-turn token included.
A score counts the text of the last answer alone. Control tokens that data brings
along (`<|endoftext|>` in a scraped answer) are text, not control.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sft_diversity.core import forms, templates
from sft_diversity.core import messages as messaging
from sft_diversity.core.errors import DataError, SftdivError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]
Span = tuple[int, int]  # characters of the rendered text, end excluded

# transformers writes them around a control token that is to be text
_MARK, _MARK_END = "\U000f0000", "\U000f0001"
_ANSWER = "\U000f0002"  # stands for an answer, to see what a template writes around any
IGNORED = -100  # the label of a position without loss, as torch's cross-entropy has it

# Turns are `<|role|>\n...\n`; the token that ends an assistant turn is the tokenizer's own eos, so
# generation stops without further settings. TRL's assistant_only_loss reads the generation tags.
# Thoughts, calls and tools are written as Hermes and Qwen write them, which servers can parse.
TEMPLATE = (
    "{%- if bos_token %}{{- bos_token }}{%- endif %}"
    "{%- if tools %}{{- '<|tools|>\n' }}"
    "{%- for tool in tools %}{{- tool | tojson }}{{- '\n' }}{%- endfor %}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|' + message['role'] + '|>\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}"
    "{%- if message['reasoning_content'] %}"
    "{{- '<think>\n' + message['reasoning_content'] + '\n</think>\n\n' }}{%- endif %}"
    "{{- message['content'] }}"
    "{%- for call in message['tool_calls'] or [] %}"
    "{%- if message['content'] or not loop.first %}{{- '\n' }}{%- endif %}"
    "{{- '<tool_call>\n' + call['function'] | tojson + '\n</tool_call>' }}{%- endfor %}"
    "{{- eos_token }}{%- endgeneration %}{{- '\n' }}"
    "{%- else %}{{- message['content'] + '\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"
)


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give `tokenizer` our chat template if it has none; return whether it was given.

    Raises
    ------
    DataError
        If there is no eos token: without it the end of a turn cannot be trained. If its template
        does not come to an end with a short dialogue: it is somebody's program.
    """
    if tokenizer.eos_token is None:
        raise DataError(
            "chat: the tokenizer has no eos token, so no turn could end; "
            "set `eos_token` in its tokenizer_config.json"
        )
    if tokenizer.chat_template is not None:
        templates.try_out(str(tokenizer.chat_template))
        return False
    tokenizer.chat_template = TEMPLATE
    return True


@dataclass(frozen=True)
class Rendering:
    """A dialogue as a model reads it.

    Attributes
    ----------
    input_ids, labels : list of int
        Of the same length; `labels[i]` is `input_ids[i]` where there is loss, else -100. They are
        not shifted: the model does that.
    thoughts : list of bool
        Which tokens begin within what the assistant thinks.
    tools : bool
        Whether the tools of the dialogue, if it has any, are in it.
    unthought : int
        Thoughts that the template leaves out: many write the last one alone.
    """

    input_ids: list[int]
    labels: list[int]
    thoughts: list[bool]
    tools: bool = True
    unthought: int = 0


def render(
    messages: Messages,
    tokenizer: PreTrainedTokenizerBase,
    tools: str | None = None,
    train_thinking: bool = True,
) -> tuple[list[int], list[int]]:
    """Return a dialogue's token ids and its labels; see `rendering`."""
    made = rendering(messages, tokenizer, tools, train_thinking)
    return made.input_ids, made.labels


def rendering(
    messages: Messages,
    tokenizer: PreTrainedTokenizerBase,
    tools: str | None = None,
    train_thinking: bool = True,
) -> Rendering:
    """Render a dialogue; loss falls on all that the assistant says and the tokens that end it.

    Parameters
    ----------
    messages : sequence of {role, content}, with the fields of `core.messages`
        What follows the last assistant turn has no loss and is left out.
    tokenizer : PreTrainedTokenizerBase
        With a chat template, see `ensure_template`.
    tools : str, optional
        What may be called, a list as JSON.
    train_thinking : bool
        Whether thoughts have loss; without it they are read alone.

    Raises
    ------
    DataError
        If no turn is the assistant's, or the tokenizer's template cannot render the dialogue.
    """
    template = _marked_template(tokenizer)
    turns, given, form = _fitted(messages, tools, tokenizer, template)
    if template is None:
        text, spans = _spans_by_prefixes(turns, tokenizer, given)
    else:
        text, spans = _spans_by_tags(turns, tokenizer, template, given)
    text, spans, thoughts = forms.thoughts_of(text, spans)
    ids, labels, thinks = _tokens(text, spans, tokenizer, thoughts)
    if not train_thinking:
        labels = [IGNORED if t else label for label, t in zip(labels, thinks, strict=True)]
    count = sum(1 for turn in turns if forms.THOUGHT in json.dumps(turn, ensure_ascii=False))
    ids, labels = _ended(ids, labels, tokenizer)
    thinks = [*thinks, False][: len(ids)]
    known = form is None or form.tools
    return Rendering(ids, labels, thinks, known, count - len(thoughts) if count else 0)


def _fitted(
    messages: Messages,
    tools: str | None,
    tokenizer: PreTrainedTokenizerBase,
    template: str | None,
) -> tuple[list[dict[str, Any]], list[Any] | None, forms.Form | None]:
    """Return the turns up to the last answer and the tools, in the form of a template.

    The form is None of texts alone.
    """
    ends = [i + 1 for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not ends:
        roles = ", ".join(dict.fromkeys(message["role"] for message in messages))
        raise DataError(f"chat: no assistant turn to train on or score; the roles are: {roles}")
    turns = [messaging.without_nulls(turn) for turn in messages[: ends[-1]]]
    if forms.texts_alone(turns, tools):
        return _disarmed(turns, tokenizer), None, None
    form = _form(tokenizer, template)
    given = json.loads(tools) if tools and form.tools else None
    control = _control(tokenizer).pattern
    if given is not None and _holds(given, control):
        given = _spelt_in(given, control, tokenizer)
    return forms.shaped(_disarmed(turns, tokenizer), form), given, form


def _form(tokenizer: PreTrainedTokenizerBase, template: str | None) -> forms.Form:
    key = template or str(tokenizer.get_chat_template()), str(tokenizer.eos_token)
    if key not in _FORMS:
        _FORMS[key] = forms.form_of(
            lambda turns, tools: _text(turns, tokenizer, tools=tools, template=template)
        )
    return _FORMS[key]


_FORMS: dict[tuple[str, str], forms.Form] = {}


@dataclass(frozen=True)
class Reference:
    """A rendered dialogue and where its last answer stands: what a score counts.

    Attributes
    ----------
    ids : list of int
        The whole dialogue, cut after the end-of-turn token.
    start, stop : int
        `ids[start:stop]` are the tokens that hold text of the answer, and no others.
    end : int
        Where the end-of-turn token stands: at `stop`, or behind what the template writes between.
    text : str
        The answer as the template writes it: many trim white space at its ends.

    Notes
    -----
    A token that joins the answer with what the template writes beside it counts as the answer's.
    """

    ids: list[int]
    start: int
    stop: int
    end: int
    text: str


def reference(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, tools: str | None = None
) -> Reference:
    """Return a dialogue's token ids, as `render` gives them, and its last answer among them.

    What a template writes before and behind the answer (an empty `<think>` block, a line break) is
    found by rendering another answer in its place, and is not part of it. A template that treats
    an answer specially (one that holds `</think>`) is read from the generation prompt on; so is an
    answer with a thought or calls of its own, which the model is to write too.

    Raises
    ------
    DataError
        As `render`; and if the template does not write the last answer once.
    """
    turns, given, form = _fitted(messages, tools, tokenizer, None)
    text = forms.thoughts_of(_text(turns, tokenizer, tools=given), [])[0]
    asked = _before(turns, tokenizer, given) if len(turns) > 1 else ""
    asked = forms.thoughts_of(asked, [])[0]
    if form is not None and any(field in turns[-1] for field in _MORE):
        before, behind = asked, _ending(text, len(asked), tokenizer)
    else:
        around = _text(
            [*turns[:-1], turns[-1] | {"content": _ANSWER}], tokenizer, tools=given
        ).split(_ANSWER)
        if len(around) != 2:
            raise DataError(
                f"chat: the tokenizer's chat template writes an answer {len(around) - 1} times, so "
                "its tokens cannot be counted; use a template that writes it once"
            )
        before, behind = (forms.thoughts_of(part, [])[0] for part in around)
    asked = asked or before
    if not text.startswith(asked):  # it begins a thought that the template leaves out afterwards
        asked = _shared(before, text)
    start = max(len(before) if text.startswith(before) else 0, len(asked))
    stop = max(len(text) - len(behind) if text.endswith(behind) else len(text), start)
    last = _without_tail(text, start, tokenizer)
    ids, labels, _ = _tokens(text, [(len(asked), last)], tokenizer)
    ids, labels = _ended(ids, labels, tokenizer)
    first = labels.count(IGNORED)
    said, control = ids[first:], {*_control(tokenizer).added, tokenizer.eos_token_id}
    tail, end_of_turn = text[stop:last], str(tokenizer.convert_ids_to_tokens(said[-1]))
    if not tail.endswith(end_of_turn):
        tail += end_of_turn  # `_ended` put it behind what the template writes
    head = _held(text[len(asked) : start], said, tokenizer)
    kept = max(len(said) - _held(tail, said, tokenizer, from_end=True), head)
    end = first + next(i for i in range(kept, len(said)) if said[i] in control)
    return Reference(
        ids=ids[: end + 1],
        start=first + head,
        stop=first + kept,
        end=end,
        text=text[start:stop].replace(_MARK, "").replace(_MARK_END, ""),
    )


_MORE = ("thinking", "tool_calls")


def _ending(text: str, start: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what a template writes behind a turn: the token that ends it, and white space."""
    said = text[start:].rstrip()
    ends = (token for token in _control(tokenizer).special if said.endswith(token))
    return text[start + len(said) - len(next(ends, "")) :]


def _held(
    piece: str, ids: list[int], tokenizer: PreTrainedTokenizerBase, from_end: bool = False
) -> int:
    """Return how many tokens at the beginning (the end) of `ids` hold text of `piece` alone."""
    fits, count = piece.endswith if from_end else piece.startswith, 0
    for n in range(1, len(ids) + 1 if piece else 0):
        part = ids[-n:] if from_end else ids[:n]
        text = str(tokenizer.decode(part, clean_up_tokenization_spaces=False))
        if len(text) > len(piece) + 3:  # a character cut in two shows as up to three signs
            break
        if fits(text):
            count = n
    return count


def prompt(messages: Messages, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids after which the model's answer to `messages` begins."""
    text = _text(_disarmed(messages, tokenizer), tokenizer, add_generation_prompt=True)
    return _encode(text, tokenizer)


def _encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if _MARK in text:
        return _encode_marked(text, tokenizer)
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _encode_marked(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of a text with marked control tokens; ValueError if one cannot be text."""
    from transformers.utils import chat_template_utils as utils

    encode: Any = utils.encode_marked_chat
    if "markers_re" not in inspect.signature(encode).parameters:
        return list(encode(tokenizer, text))
    patterns: Any = utils._get_control_token_patterns  # before transformers 5.23
    _, marks = patterns(tuple(tokenizer.added_tokens_encoder))
    return list(encode(tokenizer, text, markers_re=marks))


def _disarmed(messages: Messages, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Mark the control tokens within what turns hold, so that they are encoded as text."""
    turns = [dict(message) for message in messages]
    control = _control(tokenizer).pattern
    if not any(_holds(value, control) for turn in turns for value in turn.values()):
        return turns
    return [
        {name: _spelt_in(one, control, tokenizer) for name, one in turn.items()} for turn in turns
    ]


@dataclass(frozen=True)
class _Control:
    """The control tokens of a tokenizer.

    `added` are the ids of all added tokens, `special` the texts of those that are special, a token
    before those that it contains; `pattern` finds one.
    """

    added: frozenset[int]
    special: tuple[str, ...]
    pattern: re.Pattern[str]


#: Read once, and again where special tokens are named anew: of Gemma's 6,249 a look takes 8 ms,
#: and a dialogue has several. Nobody adds tokens between dialogues.
_CONTROLS: WeakKeyDictionary[Any, tuple[list[str], _Control]] = WeakKeyDictionary()


def _control(tokenizer: PreTrainedTokenizerBase) -> _Control:
    named, known = _CONTROLS.get(tokenizer, ([], None))
    if known is None or named != tokenizer.all_special_tokens:
        added = tokenizer.added_tokens_decoder
        special = sorted((t.content for t in added.values() if t.special), key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, special)) or "(?!)")
        known = _Control(frozenset(added), tuple(special), pattern)
        _CONTROLS[tokenizer] = [*tokenizer.all_special_tokens], known
    return known


def _holds(value: Any, control: re.Pattern[str]) -> bool:
    """Whether a text, or one within a list or an object, holds a control token."""
    if isinstance(value, dict):
        return any(_holds(one, control) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return any(_holds(one, control) for one in value)
    return isinstance(value, str) and control.search(value) is not None


def _spelt_in(value: Any, control: re.Pattern[str], tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return a value with the control tokens of its texts marked."""
    if isinstance(value, str):
        bare = value.replace(_MARK, "").replace(_MARK_END, "")
        return control.sub(lambda match: _spelt(match[0], tokenizer), bare)
    if isinstance(value, list):
        return [_spelt_in(one, control, tokenizer) for one in value]
    if isinstance(value, dict):
        names = {name: _spelt_in(name, control, tokenizer) for name in value}
        return {names[n]: _spelt_in(one, control, tokenizer) for n, one in value.items()}
    return value


def _spelt(token: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a control token marked as text; broken by a mark where its text makes the token.

    A Unigram vocabulary holds control tokens among its pieces.
    """
    marked = f"{_MARK}{token}{_MARK_END}"
    try:
        _encode_marked(marked, tokenizer)
    except ValueError:
        return f"{token[0]}{_MARK}{token[1:]}"
    return marked


def _marked_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a template that marks what the assistant says, or None where none is known.

    That is the tokenizer's own, or the one that TRL keeps for a well-known template: it writes
    earlier turns as it writes the last, where the original leaves out their thoughts.
    """
    template = str(tokenizer.get_chat_template())
    if _GENERATION.search(template):
        return template
    if template not in _KNOWN:
        _KNOWN[template] = _of_trl(tokenizer) if importlib.util.find_spec("trl") else None
    return _KNOWN[template]


_GENERATION = re.compile(r"{%-?\s*generation\s*-?%}")
_KNOWN: dict[str, str | None] = {}


def _of_trl(tokenizer: PreTrainedTokenizerBase) -> str | None:
    from trl.chat_template_utils import get_training_chat_template

    templates.bound()
    try:  # it first renders some dialogue of its own
        return get_training_chat_template(tokenizer)  # type: ignore[no-any-return]
    except templates.TooDear:
        raise
    except Exception:  # as in `_text`; ours says it then
        return None


def _text(
    turns: Messages,
    tokenizer: PreTrainedTokenizerBase,
    add_generation_prompt: bool = False,
    tools: list[Any] | None = None,
    template: str | None = None,
) -> str:
    templates.bound()
    try:
        return str(
            tokenizer.apply_chat_template(
                list(turns),  # type: ignore[arg-type]
                tools=tools,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        )
    except Exception as fault:  # of jinja2, or of what the template's expressions do
        raise _refused(fault) from None


def _refused(fault: Exception) -> SftdivError:
    if isinstance(fault, templates.TooDear):
        return fault
    why = " ".join(str(fault).split())[:300] or type(fault).__name__
    return DataError(
        f"chat: the tokenizer's chat template refuses the dialogue: {why}; drop such rows, "
        "or use a tokenizer without a template (it gets ours, which takes any order of roles)"
    )


def _spans_by_tags(
    turns: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    tools: list[Any] | None,
) -> tuple[str, list[Span]]:
    """Render a template that marks what the assistant says with `{% generation %}`.

    What it marks behind the token that ends a turn (a line break, a second such token) is left
    out: nobody generates on.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    templates.bound()
    options: dict[str, Any] = dict(tokenizer.special_tokens_map)
    render: Any = render_jinja_template  # annotated as returning a text, it returns two lists
    try:
        texts, spans = render(
            conversations=[turns],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **options,
        )
    except Exception as fault:  # as in `_text`
        raise _refused(fault) from None
    text, control = str(texts[0]), _control(tokenizer).special
    kept: list[Span] = []
    for start, end in spans[0]:
        before = text[: kept[-1][1]] if kept else ""
        second = before.endswith(control) and not text[len(before) : start].strip()
        if not (second and text[start:end].rstrip() in ("", *control)):
            kept.append((start, _without_tail(text[:end], start, tokenizer)))
    return text, kept


def _spans_by_prefixes(
    turns: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, tools: list[Any] | None
) -> tuple[str, list[Span]]:
    """Find what each assistant turn adds to the rendering of the turns before it.

    Thoughts that the whole leaves out, as many templates do with earlier ones, are in no part.
    """
    text = _text(turns, tokenizer, tools=tools)
    turns = [forms.without_thought(turn) if _left_out(turn, text) else turn for turn in turns]
    spans = []
    for i, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before = _before(turns[: i + 1], tokenizer, tools)
        until = _text(turns[: i + 1], tokenizer, tools=tools)
        if not (until.startswith(before) and text.startswith(until)):
            raise DataError(
                "chat: the tokenizer's chat template rewrites earlier turns, so what the assistant "
                "said cannot be told apart; mark it with {% generation %} in the template, "
                "or keep only the first exchange of each dialogue"
            )
        spans.append((len(before), _without_tail(until, len(before), tokenizer)))
    return text, spans


def _left_out(turn: Mapping[str, Any], text: str) -> bool:
    return turn.get("thinking") is not None and turn["thinking"] not in text


def _before(
    turns: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, tools: list[Any] | None = None
) -> str:
    """Return what is rendered before the content of the last turn, the assistant's."""
    if len(turns) > 1:
        return _text(turns[:-1], tokenizer, add_generation_prompt=True, tools=tools)
    # Many templates cannot render "no turns yet": take what two different answers share.
    answers = ([{"role": "assistant", "content": c}] for c in ("a", "b"))
    one, two = (_text(answer, tokenizer, tools=tools) for answer in answers)
    return _shared(one, two)


def _shared(one: str, two: str) -> str:
    """Return the beginning that two texts share."""
    equal = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False))
    return "".join(character for character, _ in equal)


def _without_tail(text: str, start: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return where the turn ends: white space after its end-of-turn token is the template's."""
    bare = text[start:].rstrip()
    if bare.endswith(_control(tokenizer).special):
        return start + len(bare)
    return len(text)


def _tokens(
    text: str,
    spans: list[Span],
    tokenizer: PreTrainedTokenizerBase,
    thoughts: Sequence[Span] = (),
) -> tuple[list[int], list[int], list[bool]]:
    """Tokenise `text` whole; piece by piece where one token would cross the edge of a span.

    Returns ids, labels, and which tokens begin within a thought.
    """
    if tokenizer.is_fast and _MARK not in text:
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets = encoded["offset_mapping"]
        marks = _marks(offsets, spans)
        if marks is not None:
            whole = list(encoded["input_ids"])
            labels = [t if m else IGNORED for t, m in zip(whole, marks, strict=True)]
            return whole, labels, _within(offsets, thoughts)
    edges = sorted({0, len(text), *itertools.chain(*spans, *thoughts)})
    ids: list[int] = []
    pieces: list[Span] = []  # where each token's piece lies
    for start, end in itertools.pairwise(edges):
        piece = _encode(text[start:end], tokenizer)
        ids += piece
        pieces += [(start, end)] * len(piece)
    marks = _within(pieces, spans)
    labels = [t if m else IGNORED for t, m in zip(ids, marks, strict=True)]
    return ids, labels, _within(pieces, thoughts)


def _within(offsets: Sequence[Any], spans: Sequence[Span]) -> list[bool]:
    """Say per token whether it begins in a span."""
    found, at = [], 0
    for start, end in offsets if spans else ():
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        found.append(at < len(spans) and spans[at][0] <= start < end)
    return found or [False] * len(offsets)


def _marks(offsets: Sequence[Any], spans: list[Span]) -> list[bool] | None:
    """Say per token whether it lies in a span; None if one lies in it only partly."""
    marks, at = [], 0
    for start, end in offsets:
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        if at == len(spans) or end <= spans[at][0]:
            marks.append(False)
        elif spans[at][0] <= start and end <= spans[at][1]:
            marks.append(True)
        else:
            return None
    return marks


def _ended(
    input_ids: list[int], labels: list[int], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """Cut what follows the last label; add eos where a template ends turns with no token."""
    last = max((i for i, label in enumerate(labels) if label != IGNORED), default=-1)
    input_ids, labels = input_ids[: last + 1], labels[: last + 1]
    if last < 0 or input_ids[-1] not in _control(tokenizer).added:
        eos = tokenizer.eos_token_id
        return [*input_ids, eos], [*labels, eos]
    return input_ids, labels
