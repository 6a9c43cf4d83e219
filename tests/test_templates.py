"""Chat templates that mean harm, and that bounds change nothing of those that do not."""

from __future__ import annotations

import pytest
from transformers.utils import chat_template_utils

from sft_diversity.core import chat, templates
from sft_diversity.core.errors import DataError, SftdivError
from sft_diversity.core.templates import TooDear
from tests import tiny
from tests.templates import TEMPLATES

TALK = [
    {"role": "user", "content": "What is rain?"},
    {"role": "assistant", "content": "Rain taps <think>the</think> roof 100 % of 1_000_000 times."},
]
FAILS = {
    "zero": "{{ 1 / 0 }}",
    "undefined": "{{ nobody.home.at }}",
    "type": "{{ messages + 1 }}",
    "syntax": "{% if %}",
    "filter": "{{ 1|nope }}",
    "inner": "{{ messages.__class__.__mro__ }}",
    "include": "{% include '/etc/passwd' %}",
    "refuses": "{{ raise_exception('no system turn') }}",
    "ascii": "{{ 'é'.encode('ascii') }}",
    "recursion": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "missing": "{{ {}['x']['y'] }}",
    "digits": "{{ ('9' * 5000)|int + '' }}",
    "time": "{{ strftime_now(5) }}",
    "nothing": "{{ raise_exception('') }}",
}
FILLS = {
    "text": "{{ 'x' * 3000000000 }}",
    "list": "{{ [1] * 1000000000 }}",
    "turned": "{{ 3000000000 * 'x' }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "padded": "{{ '%999999999d' % 1 }}",
    "padded-by-data": "{{ '%*d' % (999999999, 1) }}",
    "format": "{{ '{:9999999999}'.format(1) }}",
    "format-filter": "{{ '%999999999d'|format(1) }}",
    "centre": "{{ 'x'|center(4000000000) }}",
    "method": "{{ 'x'.ljust(4000000000) }}",
    "doubled": "{% set n = namespace(s='x') %}{% for i in range(60) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubled-by-calls": "{% macro d(s) %}{{ d(s ~ s) }}{% endmacro %}{{ d('x') }}",
    "added": "{% set n = namespace(s='x') %}{% for i in range(60) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}",
    "written": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{{ 'xxxxxxxx' }}{% endfor %}{% endfor %}",
}
LASTS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "calls": "{% macro f(n) %}{% if n %}{% set _ = f(n - 1) %}{% set _ = f(n - 1) %}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
}


def rendered(template):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    return chat.render(TALK, tokenizer)


@pytest.mark.parametrize("template", FAILS.values(), ids=FAILS)
def test_what_goes_wrong_in_a_template_is_one_line_of_that_dialogue(template):
    with pytest.raises(DataError, match=r"template refuses the dialogue: .+; drop") as caught:
        rendered(template)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", FILLS.values(), ids=FILLS)
def test_no_template_fills_the_memory(monkeypatch, template):
    monkeypatch.setattr(templates, "LIMIT_CHARACTERS", 1 << 16)
    with pytest.raises(TooDear, match="makes over 65,536 characters of one dialogue; use another"):
        rendered(template)


@pytest.mark.parametrize("template", LASTS.values(), ids=LASTS)
def test_no_template_goes_on_for_ever(monkeypatch, template):
    monkeypatch.setattr(templates, "LIMIT_S", 0.02)
    with pytest.raises(TooDear, match=r"takes over 0\.02 s for one dialogue; use another"):
        rendered(template)


def test_what_is_too_dear_is_no_fault_of_a_row():
    assert not issubclass(TooDear, DataError)
    assert issubclass(TooDear, SftdivError)


@pytest.mark.parametrize("template", [*TEMPLATES.values(), chat.TEMPLATE], ids=[*TEMPLATES, "ours"])
def test_bounds_change_nothing_of_what_is_rendered(template):
    given = {"bos_token": "<s>", "eos_token": "</s>", "messages": TALK}
    plain = chat_template_utils._cached_compile_jinja_template(template)
    assert not hasattr(type(plain.environment), "bounded")
    templates.bound()
    bounded = chat_template_utils._compile_jinja_template(template)
    assert bounded is chat_template_utils._compile_jinja_template(template)
    assert plain.environment is not bounded.environment
    for prompt in (False, True):
        wanted = plain.render(**given, add_generation_prompt=prompt)
        assert bounded.render(**given, add_generation_prompt=prompt) == wanted


def test_arithmetic_and_formats_of_templates_are_as_they_were():
    templates.bound()
    text = (
        "{{ 2 ** 10 }} {{ 'ab' * 3 }} {{ [1] * 2 }} {{ '%03d' % 7 }} {{ '{:>5}'.format('x') }} "
        "{{ 7 % 4 }} {{ 1.5 * 2 }} {{ 'x'|center(5) }} {{ -2 ** 3 }} {{ [3, 1]|sort|join(',') }} "
        "{{ messages[0]['content'][:4] }} {{ messages|map(attribute='role')|list }} "
        "{{ {'b': 1}|tojson }} {{ range(3)|sum }} {{ messages[0].content.split(' ')|length }}"
    )
    wanted = chat_template_utils._cached_compile_jinja_template(text).render(messages=TALK)
    assert wanted.startswith("1024 ababab [1, 1] 007     x 3 3.0   x   ")
    assert chat_template_utils._compile_jinja_template(text).render(messages=TALK) == wanted
    with pytest.raises(OverflowError):  # as the sandbox has it
        chat_template_utils._compile_jinja_template("{{ range(10**7) }}").render()
