import pytest
from pydantic import Field

from sft_diversity.core import config as configs
from sft_diversity.core.errors import UsageError


class Inner(configs.Config):
    path: str
    take: int | None = None


class Outer(configs.Config):
    size: int = Field(10, gt=0)
    sources: list[Inner] = []
    fill: str = "draws"


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
