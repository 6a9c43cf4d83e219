import os
import re
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from sft_diversity.core import config as configs
from sft_diversity.core.errors import UsageError


class Inner(configs.Config):
    path: str
    take: Literal["all"] | Annotated[int, Field(gt=0)] | None = None
    pair: dict[str, int] = {}

    @model_validator(mode="after")
    def _good(self):
        if self.path == "bad":
            raise ValueError("no bad paths")
        return self


class Outer(configs.Config):
    size: int = Field(10, gt=0)
    share: float = 0.5
    sources: list[Inner] = []
    fill: str = "draws"

    @model_validator(mode="after")
    def _good(self):
        if self.fill == "bad":
            raise ValueError("no bad fills")
        return self


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_file_then_options_then_defaults(tmp_path):
    path = write(tmp_path, "size: 3\nfill: uniform\n")
    loaded = configs.load(path, Outer, {"size": 5, "fill": None})
    assert (loaded.size, loaded.fill, loaded.sources) == (5, "uniform", [])


def test_unknown_key_is_refused_with_the_nearest_known_one(tmp_path):
    with pytest.raises(UsageError, match=r"unknown key `siez`; did you mean `size`\?"):
        configs.load(write(tmp_path, "siez: 3\n"), Outer)


def test_unknown_nested_key_names_its_place_and_the_nearest(tmp_path):
    path = write(tmp_path, "sources:\n- path: a\n  takes: 4\n")
    with pytest.raises(UsageError, match=r"`sources\.0\.takes`; did you mean `take`\?"):
        configs.load(path, Outer)


def test_wrong_value_names_file_key_value_and_what_is_allowed(tmp_path):
    path = write(tmp_path, "size: -3\n")
    with pytest.raises(UsageError, match=r"c\.yaml: `size` is -3: .*greater than 0"):
        configs.load(path, Outer)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("size: 1\nsize: 2\n", "given twice"),
        ("- 1\n", "must be a mapping"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_bad_files_are_one_line_errors(tmp_path, text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        configs.load(write(tmp_path, text), Outer)
    assert "\n" not in str(caught.value)


def test_missing_file_says_so(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        configs.load(tmp_path / "none.yaml", Outer)


def test_empty_file_means_defaults(tmp_path):
    assert configs.load(write(tmp_path, "# nothing\n"), Outer).size == 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("size: 2020-13-45", "a date, number or tagged value that is none"),
        ("size: !!int foo", "a date, number or tagged value that is none"),
        ("size: !!timestamp foo", "a date, number or tagged value that is none"),
        ("size: !!bool foo", "a date, number or tagged value that is none"),
        ("size: " + "9" * 5_000, "a date, number or tagged value that is none"),
        ("size: -0x" + "9" * 5_000, "`size` is a number of very many digits: .*greater than 0"),
        ("size: true", "`size` is true, which it cannot be"),
        ("share: .inf", "`share` is inf: Input should be a finite number"),
        ("size: " + "9" * 5_000, "whole number of more than 4,300 digits"),
        ("fill: ''", "`fill` is empty; give a value, or leave it out"),
        ("sources: [{path: ''}]", "`sources.0`: `path` is empty"),
        ("size: [1]", r"`size` is \[1\]: Input should be a valid integer"),
    ],
)
def test_a_value_that_is_none_is_one_line(tmp_path, text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        configs.load(write(tmp_path, text), Outer)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: [{path: a, take: x}]", "`sources.0.take` is 'x': Input should be 'all' or a "),
        ("sources: [{path: a, take: 0}]", "`sources.0.take` is 0: Input should be 'all' or "),
        ("sources: [3]", "`sources.0` is 3: Input should be a mapping of keys to values"),
        ("sources: [{path: a, pair: {a: b}}]", "`sources.0.pair.a` is 'b': Input should be a"),
        ("sources: [{path: bad}]", ": `sources.0`: no bad paths"),
        ("fill: bad", ": no bad fills"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_keys_of_the_file_alone(tmp_path, text, said):
    with pytest.raises(UsageError) as caught:
        configs.load(write(tmp_path, text), Outer)
    assert said in str(caught.value)
    assert not re.search(r"whole|Inner|literal|constrained|function", str(caught.value))


def test_of_many_faults_the_first_are_told_and_what_is_known_once(tmp_path):
    with pytest.raises(UsageError) as caught:
        configs.load(write(tmp_path, "".join(f"key{i}: 1\n" for i in range(5_000))), Outer)
    assert str(caught.value).count("known:") == 1
    assert str(caught.value).endswith("; and 4,992 more")


def bomb(levels, form="sources: {}"):
    """Each level holds the one before nine times, by aliases: 9 to the power of the levels."""
    lists = ["&a0 [x, x, x, x, x, x, x, x, x]"]
    lists += [f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return form.format(f"[{', '.join(lists)}]")


@pytest.mark.parametrize(
    "text", [bomb(9), bomb(500), "size: &a [*a]", "fill: {<<: &a {b: *c}}\n",
             bomb(9, "sources: 1\nfill: {}")],
)  # fmt: skip
def test_aliases_that_swell_are_refused_before_anything_walks_over_them(tmp_path, text):
    with pytest.raises(UsageError, match="not valid YAML: "):
        configs.load(write(tmp_path, text), Outer)


def test_merged_mappings_do_not_swell_either(tmp_path):
    maps = ["m0: &m0 {" + ", ".join(f"k{i}: 1" for i in range(9)) + "}"]
    maps += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 9)]
    with pytest.raises(UsageError, match="aliases repeat it to more than 100,000 values"):
        configs.read_yaml(write(tmp_path, "\n".join(maps)))


def test_aliases_and_many_values_are_taken(tmp_path):
    text = "fill: &f uniform\nsources:\n" + "".join(
        f"- &s{i} {{path: *f, pair: {{a: {i}}}}}\n- *s{i}\n" for i in range(50)
    )
    loaded = configs.load(write(tmp_path, text), Outer)
    assert [one.pair["a"] for one in loaded.sources] == [i // 2 for i in range(100)]
    assert {one.path for one in loaded.sources} == {"uniform"}


@pytest.mark.parametrize("name", ["pipe", "folder", "zero"])
def test_a_config_is_a_regular_file(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="no regular file"):
        configs.load(tmp_path / name, Outer)
