"""Plots: places, colours and texts; what a page shows of a value; figures for papers."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from sft_diversity.core.errors import UsageError
from sft_diversity.reporting import figures, plots, views
from sft_diversity.reporting.page import number_text, page_html
from tests.reporting.conftest import DATA


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1234567, "1,234,567"), (-3, "−3"), (0.12345, "0.123"), (2.0, "2"),
     (12345.6, "12,346"), (float("nan"), "–"), (3.2e-7, "3.20e−7"), (True, "True")],
)  # fmt: skip
def test_numbers_read_as_people_write_them(value, text):
    assert number_text(value) == text


def drawn(points, name="draw", x="x", y="y", **options):
    with plots.drawing():
        figure, axes = plots.one_plot(x, y)
        plots.dots(axes, points, name, "s0", **options)
        axes.set_xlim(0, 100)
        axes.set_ylim(10, 20)
        return str(plots.svg(figure, "three <points>"))


def test_points_are_placed_by_their_values_and_tell_them():
    svg = drawn([(0, 10), (50, 15), (100, 20)])
    at = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert at[0][0] < at[2][0]
    assert at[0][1] > at[2][1]  # y goes down
    assert at[1] == pytest.approx(((at[0][0] + at[2][0]) / 2, (at[0][1] + at[2][1]) / 2), abs=0.1)
    assert re.findall("<title>(.*?)</title>", svg) == [
        "draw: 0, 10",
        "draw: 50, 15",
        "draw: 100, 20",
    ]


def test_colours_are_the_pages_variables_and_no_style_is_left():
    svg = drawn([(1, 11)]) + drawn([(1, 11)], filled=False)
    assert 'fill="var(--s0)" stroke="var(--bg)"' in svg
    assert 'fill="var(--bg)" stroke="var(--s0)"' in svg
    assert "style=" not in svg
    assert "#" not in svg
    assert "font-family" not in svg


def test_what_leaves_the_axes_is_cut_off_by_an_id_of_the_title():
    with plots.drawing():
        ids = []
        for title in ("one", "two"):
            figure, axes = plots.one_plot("x", "y")
            plots.band(axes, [(0, 0, 100), (1, 0, 100)], "s0")
            axes.set_ylim(10, 20)
            svg = str(plots.svg(figure, title))
            (clip,) = re.findall(r'<clipPath id="(.*?)">', svg)
            assert f'<g clip-path="url(#{clip})"><path fill="var(--s0)"' in svg
            ids.append(clip)
    assert ids[0] != ids[1]


def test_a_name_is_escaped_wherever_it_stands_and_no_mathematics():
    svg = drawn([(1, 11)], "<b> $\\frac", "<c>", "$d$ <d>")
    assert not re.search("<(b|c|d|points)>", svg)
    assert "&lt;b&gt; $\\frac: 1, 11" in svg
    assert "$d$" in svg


def test_an_interval_is_coloured_only_where_it_is_claimed_and_an_arrow_goes_beyond(pages):
    page = json.loads((pages / "study" / DATA).read_text())
    own = [row for row in page["fit"]["slopes"] if row["regime"] == "B"]
    marks = {}
    for claimed in (True, False):
        for row, slope in zip(own, (0.1, -0.1), strict=True):
            row |= {"slope": slope, "ci_low": slope - 0.05, "ci_high": 9.0, "claimed": claimed}
        marks[claimed] = re.findall(r'class="value (\w+)"', page_html(page))
    assert {"up", "down"} < set(marks[True])
    assert marks[False].count("open") >= 2
    assert views.on_line(1.0, 0.5, 3.0, 2.0)["beyond"] == [(114.0, -4)]
    assert views.on_line(1.0, -3.0, 1.5, 2.0)["beyond"] == [(6.0, 4)]
    assert views.on_line(1.0, None, None, 2.0) == {"value": 87.0, "beyond": []}


def test_heat_is_as_strong_as_the_value_on_either_side():
    assert [views.step(v) for v in (-1.0, -0.5, 0.0, 0.5, 7.0, None)] == [
        "h-6", "h-3", "h0", "h3", "h6", "none",
    ]  # fmt: skip


def test_one_value_and_no_value_make_a_plot():
    for points in ([], [(5.0, 15.0)]):
        assert drawn(points).count("<circle") == len(points)


FIGURES = {
    "subset": ["lengths", "map-one"],
    "comparison": ["lengths", "map-one", "map-two"],
    "study": ["scores-A-n40", "scores-B-n40", "slopes-A-n40", "slopes-B-n40", "metrics-A-n40",
              "metrics-B-n40", "training-macro-instruction-N-40", "map-micro-response-100-N-40"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "kinds"), [("subset", figures.FORMATS), ("comparison", ["svg"]), ("study", ["svg"])]
)
def test_the_plots_of_a_page_are_written_for_papers(pages, tmp_path, sort, kinds):
    page = json.loads((pages / sort / DATA).read_text())
    asked = kinds[0] if len(kinds) == 1 else "all"
    names = figures.write_figures(page, tmp_path / "a", asked)
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(names)
    assert {f"{name}.{kind}" for name in FIGURES[sort] for kind in kinds} <= set(names)
    for path in (tmp_path / "a").iterdir():
        raw = path.read_bytes()
        assert raw.startswith({"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[path.suffix[1:]])
    for path in (tmp_path / "a").glob("*.png"):
        with Image.open(path) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20  # it is not empty
    assert b"<text" in (tmp_path / "a" / f"{FIGURES[sort][0]}.svg").read_bytes()


def test_equal_data_give_equal_figures_and_one_format_is_written_alone(pages, tmp_path):
    page = json.loads((pages / "subset" / DATA).read_text())
    for kind in figures.FORMATS:
        written = []
        for place in (tmp_path / "a", tmp_path / "b"):
            names = figures.write_figures(page, place, kind)
            written.append([(place / name).read_bytes() for name in names])
        assert written[0] == written[1]
    assert names == ["lengths.png", "map-one.png"]


@pytest.mark.parametrize("epoch", ["foo", "1.5", "9" * 30, "-" + "9" * 30])
def test_a_wrong_time_of_the_environment_is_refused(tmp_path, monkeypatch, epoch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with plots.drawing():
        figure, _ = plots.one_plot("x", "y")
        with pytest.raises(UsageError, match="must be whole seconds"):
            plots.save_figure(figure, tmp_path / "x.pdf")
    assert list(tmp_path.iterdir()) == []


def test_names_that_differ_in_signs_alone_are_files_of_their_own(pages, tmp_path):
    page = json.loads((pages / "comparison" / DATA).read_text())
    for one, name in zip(page["map"]["subsets"], ("a b", "a/b"), strict=True):
        one["name"] = name
    names = figures.write_figures(page, tmp_path, "svg")
    assert len(set(names)) == 3
    assert names[1] == "map-a-b.svg"
