from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sft_diversity import schedule
from sft_diversity.core.errors import UsageError
from sft_diversity.training import show

NAMES = ["cosine", "linear", "WSD", "step", "constant"]


def test_a_schedule_stands_first_and_the_others_beside_it():
    result = schedule(phi=5, steps=200, warmup=0.05)
    assert [curve["name"] for curve in result["curves"]] == ["UBA, φ = 5", *NAMES]
    assert [c["name"] for c in schedule(schedule="step")["curves"]] == [
        "step", "cosine", "linear", "WSD", "constant",
    ]  # fmt: skip
    assert (result["shown"][0], result["shown"][-1], result["warmup_steps"]) == (0, 200, 10)
    assert all(len(c["rates"]) == len(result["shown"]) for c in result["curves"])
    assert json.loads(json.dumps(result)) == result


def test_the_mean_is_near_its_law():
    result = schedule(phi=0.5, steps=10_000, lr=2.0)
    assert result["curves"][0]["mean"] == pytest.approx(2.0 * result["mean_law"], rel=1e-3)


def test_equal_area_equalises_the_sums_of_all():
    curves = schedule(phi=5, steps=300, warmup=20, floor=0.1, equal_area=True, lr=1e-3)["curves"]
    assert [c["sum"] for c in curves] == pytest.approx([curves[1]["sum"]] * 6)
    assert curves[0]["peak"] > 1e-3 > curves[-1]["peak"]


def test_what_people_see():
    text = show.scheduled(schedule(phi=5, steps=1000))
    assert text.splitlines()[1].split()[:9] == [
        "UBA,", "φ", "=", "5", "1", "0.388", "0.7", "0.286", "0.0642",
    ]  # fmt: skip
    assert "1/(1 + √(φ/2)) = 0.387, half height after 35.9%" in text
    assert "█" in text


def test_the_picture_is_a_png_and_needs_no_display(tmp_path):
    out = tmp_path / "schedule.png"
    result = schedule(steps=100, phases="0.5, 0.5 peak=0.5", equal_area=True, png=out)
    assert result["out"] == str(out)
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="Not a directory; name another file"):
        schedule(png=tmp_path / "file" / "schedule.png")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"phi": 0}, "must be above 0"),
        ({"steps": 0}, "greater than 0"),
        ({"phases": "0.5, 0.6"}, "take 1,100 steps"),
        ({"warmup": 1000}, "warm-up takes 1000"),
    ],
)
def test_a_wrong_schedule_is_refused(options, reason):
    with pytest.raises(UsageError, match=reason):
        schedule(**options)


def test_a_picture_takes_the_place_of_its_own_alone(tmp_path):
    mine = tmp_path / "mine.png"
    schedule(steps=10, png=mine)
    raw = mine.read_bytes()
    schedule(steps=10, png=mine)
    assert mine.read_bytes() == raw
    foreign = {"notes.txt": b"precious", "other.png": raw.replace(b"sftdiv", b"others")}
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(mine)
    for name in (*foreign, "pipe.png", "link.png", ".", "p" * 300):
        with pytest.raises(UsageError, match=r"^schedule: .*; name another"):
            schedule(steps=10, png=tmp_path / name)
    with pytest.raises(UsageError, match="no picture that"):
        schedule(steps=10, png=Path("/dev/null"))
    assert {name: (tmp_path / name).read_bytes() for name in foreign} == foreign
