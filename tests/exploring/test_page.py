"""The page in a browser, as a person uses it, over a server of the checked-in sample."""

from __future__ import annotations

import http.server
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import sft_diversity as sd
from sft_diversity.core import corpus as corpora
from sft_diversity.core.errors import SftdivError
from sft_diversity.exploring.keeping import PAGE
from tests.exploring import called
from tests.exploring.pages import NO_WEBGL, ROOT, WEBGL, opened, sample, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
_DRIVE = """async list => {
  const pictures = [];
  for (const settings of list) {
    const {store, selecting} = explored;
    store.become({...store.settings, ...settings});
    while (selecting.running) await new Promise(over => setTimeout(over, 2));
    pictures.push(explored.shownFor === store.settings
      ? [explored.told.digest, [...explored.picks]] : null);
  }
  return pictures;
}"""
_CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = one => {
    const found = getComputedStyle(one).backgroundColor;
    return one === document.documentElement || !/, 0\\)|transparent/.test(found)
      ? found : ground(one.parentElement);
  };
  return [...document.querySelectorAll('main *, header *')]
    .filter(one => one.checkVisibility() && !one.closest(':disabled, label:has(:disabled)'))
    .filter(one => [...one.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .map(one => {
      const style = getComputedStyle(one);
      const [a, b] = [light(one.closest('svg') ? style.fill : style.color), light(ground(one))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.textContent.slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""
_UNNAMED = """() => [...document.querySelectorAll(
    "button, input, select, [role]:not([role=status])")]
  .filter(one => one.checkVisibility())
  .filter(one => !one.ariaLabel && !one.textContent.trim() && !one.labels?.length
    && !one.title && !one.ariaLabelledByElements?.length)
  .map(one => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def player():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(player):
    """Chromium that draws as where no graphics processor is: frames cost least."""
    opened = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *NO_WEBGL])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus, in which the page may write."""
    at = tmp_path_factory.mktemp("page")
    sample(at)
    return at


@pytest.fixture(scope="module")
def address(place):
    start = {"strategy": "micro-response", "size": 60}
    with served(place / "corpus", place / "work", place, **start) as found:
        yield found


@pytest.fixture
def tab(browser, address):
    with opened(browser, address) as found:
        yield found
        assert found.said == []


def settings(rng: np.random.Generator) -> dict[str, object]:
    """Draw settings as the page can make them."""
    strategy = str(rng.choice(["micro-response", "micro-instruction", "random"], p=[0.5, 0.3, 0.2]))
    drawn: dict[str, object] = {
        "strategy": strategy,
        "size": int(rng.choice([30, 60, 101])),
        "seed": int(rng.integers(4)),
        "diversity": 100.0,
        "objective": "kinds",
        "fill": "draws",
        "match_length": None,
        "quota": None,
    }
    if strategy != "random":
        drawn["diversity"] = float(rng.integers(101))
        drawn["fill"] = str(rng.choice(["draws", "balance", "uniform"]))
        if rng.random() < 0.2:
            drawn["objective"] = "entropy"
    if drawn["objective"] == "kinds":
        drawn["match_length"] = (
            str(rng.choice(["corpus", "eligible"])) if rng.random() < 0.2 else None
        )
        drawn["quota"] = "source=corpus" if rng.random() < 0.2 else None
    return drawn


@pytest.mark.parametrize("many", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_settings_pick_in_the_page_what_they_pick_in_python(browser, address, place, many):
    rng = np.random.default_rng(3)
    with opened(browser, address) as tab:
        list_of = [settings(rng) for _ in range(many)]
        pictures = tab.page.evaluate(_DRIVE, list_of)
    ids = corpora.ids(place / "corpus").to_pylist()
    refused = 0
    for one, picture in zip(list_of, pictures, strict=True):
        if picture is None:
            refused += 1
            with pytest.raises(SftdivError):
                sd.select(place / "corpus", work=place / "work", **one)
            continue
        picked = sd.select(place / "corpus", work=place / "work", **one)
        assert [ids[row] for row in picture[1]] == list(picked.ids), one
        assert picture[0] == picked.figures["ids_key"]
    assert refused < many / 5


def test_the_dial_is_turned_by_keys_and_by_pointer(tab):
    tab.page.keyboard.press("d")
    for key in ("ArrowLeft", "PageDown", "ArrowLeft"):
        tab.page.keyboard.press(key)
    tab.settled()
    turned = tab.page.evaluate("explored.store.settings.diversity")
    assert turned < 99
    assert tab.page.input_value("#percent") == str(turned)
    assert len(tab.rows()) == 60
    entered, left = tab.rows("entered"), tab.rows("left")
    assert len(entered) == len(left) > 0
    assert set(entered) <= set(tab.rows())
    assert not set(left) & set(tab.rows())
    shown = tab.page.inner_text("#result")
    tab.page.keyboard.press("{")
    tab.settled()
    tab.until(f"document.querySelector('#result').textContent !== {json.dumps(shown)}")
    assert "kinds" in tab.page.inner_text("#result")
    tab.until("explored.line !== null && !explored.stale")
    x, y, _ = tab.within("#curve")
    tab.page.mouse.click(x, y)
    tab.settled()
    assert abs(tab.page.evaluate("explored.store.settings.diversity") - 50) <= 1


def test_undo_and_redo_bring_the_same_pictures(tab):
    first = tab.rows()
    tab.set(diversity=30)
    second = tab.rows()
    tab.set(seed=3)
    assert tab.rows() != second
    for key, rows in (("u", second), ("u", first), ("U", second)):
        tab.page.keyboard.press(key)
        tab.settled()
        assert tab.rows() == rows
    assert not tab.page.is_disabled("#redo")


def test_settings_of_the_form_are_those_of_the_selection(tab):
    tab.page.fill("#set-size", "45")
    tab.until("explored.store.settings.size === 45")
    tab.page.select_option("#set-fill", "balance")
    tab.page.click("#controls summary")
    tab.page.select_option("#set-match_length", "corpus")
    tab.settled()
    assert len(tab.rows()) == 45
    command = tab.page.inner_text("#call")
    for words in ("--size=45", "--fill=balance", "--match-length=corpus"):
        assert words in command


def test_what_cannot_be_is_said_beside_its_field(browser, address):
    with opened(browser, address) as tab:
        rows = tab.rows()
        tab.page.click("#controls summary")
        tab.page.fill("#set-quota", "source=nowhere:1")
        tab.until("!document.querySelector('#fault').hidden")
        assert "nowhere" in tab.page.inner_text("#fault")
        assert tab.rows() == rows
        tab.page.fill("#set-quota", "")
        tab.until("document.querySelector('#fault').hidden")
        assert all("422" in line or "409" in line for line in tab.said)


def test_two_settings_are_compared(tab):
    tab.set(diversity=20)
    a = set(tab.rows())
    tab.page.keyboard.press("a")
    tab.set(diversity=90)
    b = set(tab.rows())
    assert set(tab.rows("entered")) == b - a
    assert set(tab.rows("left")) == a - b
    tab.page.get_by_role("button", name="Switch").click()
    tab.settled()
    assert set(tab.rows()) == a
    assert set(tab.rows("left")) == b - a
    tab.page.get_by_role("button", name="Forget").click()
    assert tab.page.is_hidden("#kept")


def test_a_search_is_read_by_keyboard(tab, place):
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("pirate")
    tab.until("explored.lists.tab === 'search'")
    samples = corpora.read(place / "corpus", ["instruction", "response"]).to_pylist()
    held = [r for r, one in enumerate(samples) if "pirate" in f"{one}".lower()]
    assert tab.page.evaluate("[...explored.lists.rows.search]") == held
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Enter")
    tab.until("document.querySelector('#sample .text') !== null")
    text = samples[held[1]]
    assert [one.text_content() for one in tab.page.locator("#sample .text").all()] == [
        text["instruction"], text["response"],
    ]  # fmt: skip
    tab.until("document.querySelectorAll('#sample .why p').length > 0")
    assert tab.page.inner_text("#sample .why h3").startswith("Why it is")
    tab.page.keyboard.press("Escape")
    assert tab.page.is_hidden("#sample")
    assert tab.page.evaluate("document.activeElement.id") == "rows"


def test_the_kinds_of_a_sample_are_marked_where_they_stand(tab):
    row = tab.rows()[0]
    tab.page.evaluate(f"explored.open({row})")
    tab.until("document.querySelectorAll('#sample mark').length > 0")
    marked = tab.page.locator("#sample mark").all()
    names = [(one.get_attribute("title"), one.text_content()) for one in marked]
    plain = [(name, text) for name, text in names if name.isascii()]  # others are bytes
    assert plain
    assert all(name.strip() == text.strip() for name, text in plain), plain


def lasso(tab, share=0.6):
    """Draw around the middle of the map."""
    x, y, half = tab.within("#stage")
    far = half * share
    corners = [(-far, -far), (far, -far), (far, far), (-far, far)]
    tab.page.click("#lasso")
    tab.page.mouse.move(x + corners[0][0], y + corners[0][1])
    tab.page.mouse.down()
    for across, down in corners[1:]:
        tab.page.mouse.move(x + across, y + down, steps=5)
    tab.page.mouse.up()
    tab.until("explored.lists.tab === 'lasso'")
    return tab.page.evaluate("[...explored.lists.rows.lasso]")


def test_a_lasso_holds_what_lies_in_it_and_excludes_it(tab):
    rows = lasso(tab)
    box = tab.page.evaluate("""() => {
      const xs = explored.map.polygon.map(p => p[0]), ys = explored.map.polygon.map(p => p[1]);
      return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    }""")
    places = np.array(tab.page.evaluate("[...explored.map.places.pairs]")).reshape(-1, 2)
    x, y = places.T
    margin = 100  # the polygon is filled in a thousand steps
    for wide in (-margin, margin):
        inside = (
            (x > box[0] - wide) & (x < box[1] + wide) & (y > box[2] - wide) & (y < box[3] + wide)
        )
        held = set(np.flatnonzero(inside).tolist())
        assert held <= set(rows) if wide < 0 else set(rows) <= held
    assert 10 < len(rows) < len(places)
    tab.page.click("#acts >> text=Exclude")
    tab.settled()
    assert not set(rows) & set(tab.rows())
    assert len(tab.rows()) == 60
    tab.page.keyboard.press("u")
    tab.settled()
    assert set(rows) & set(tab.rows())


def test_a_sample_that_must_be_in_is_and_the_command_shown_says_so(tab, place):
    tab.set(diversity=0)
    out = next(row for row in range(600) if row not in tab.rows())
    tab.page.evaluate(f"explored.open({out})")
    tab.page.click("#sample >> text=Must include")
    tab.until("explored.store.settings.must_include?.length === 1")
    tab.settled()
    assert out in tab.rows()
    assert tab.page.inner_text("#sample .standing").startswith("entered")
    digest = tab.page.evaluate("explored.told.digest")
    line = tab.page.inner_text("#call")
    run = f'sftdiv() {{ "{sys.executable}" -m sft_diversity "$@"; }}\n{line} --json --quiet'
    done = subprocess.run(
        ["bash", "-c", run], cwd=place, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["ids_key"] == digest
    tab.page.click("role=tab[name='Python']")
    assert called(tab.page.inner_text("#call")).figures["ids_key"] == digest


def test_what_is_nearest_is_listed(tab):
    row = tab.rows()[0]
    tab.page.evaluate(f"explored.open({row})")
    tab.page.click("#sample >> text=Nearest")
    tab.until("explored.lists.tab === 'nearest'")
    near = tab.page.evaluate("[...explored.lists.rows.nearest]")
    assert len(near) == 50
    assert row not in near


def test_the_map_is_moved_and_a_sample_opened_by_keyboard(tab):
    tab.page.focus("#stage")
    whole = tab.page.evaluate("explored.map.camera")
    for key in ("+", "+", "+", "ArrowRight", "ArrowDown"):
        tab.page.keyboard.press(key)
    assert tab.page.evaluate("explored.map.camera.scale") > 2 * whole["scale"]
    row = tab.rows()[0]
    tab.page.evaluate(f"""() => {{
      const {{map}} = explored;
      const [x, y] = map.places.pairs.slice({2 * row}, {2 * row + 2});
      map.camera = {{...map.camera, x, y}};
    }}""")
    tab.page.keyboard.press("Enter")
    tab.until("explored.panel.open")
    assert tab.page.evaluate("explored.now[explored.panel.row]") == 1
    tab.page.keyboard.press("Escape")
    tab.page.focus("#stage")
    tab.page.keyboard.press("0")
    assert tab.page.evaluate("explored.map.camera") == whole


def test_a_point_under_the_pointer_shows_how_its_sample_begins(tab, place):
    row = tab.rows()[3]
    x, y = tab.page.evaluate(f"explored.map.screen({row})")
    box = tab.page.locator("#stage").bounding_box()
    tab.page.mouse.move(box["x"] + x, box["y"] + y)
    tab.until("!document.querySelector('#hover').hidden")
    under = tab.page.evaluate("explored.map.hovered")
    begin = corpora.read(place / "corpus", ["instruction"])["instruction"][under].as_py()[:220]
    assert tab.page.locator("#hover .said").text_content() == begin
    tab.page.mouse.wheel(0, -400)
    tab.until("explored.map.camera.scale > 2 * explored.map.fitting()")


def test_the_page_is_whole(browser, address):
    with opened(browser, address) as tab:
        tab.set(diversity=40)
        tab.page.click("#controls summary")
        tab.page.select_option("#colour-by", "source")
        tab.page.click("#keep")
        tab.until("explored.line !== null")
        for width, scheme in itertools.product((1400, 820, 400), ("light", "dark")):
            tab.page.set_viewport_size({"width": width, "height": 900})
            tab.page.emulate_media(color_scheme=scheme)
            tab.until("document.getAnimations().length === 0")
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, scheme
            assert tab.page.evaluate(_CONTRAST) == [], (width, scheme)
            assert tab.page.evaluate(_UNNAMED) == [], (width, scheme)
        assert tab.said == []


def drawn(tab):
    """Return the share of the map's pixels that are drawn on, by what is picked and what is not."""
    return tab.page.evaluate("""() => {
      explored.map.draw();
      const {points} = explored.map;
      const copy = new OffscreenCanvas(points.width, points.height).getContext('2d');
      copy.drawImage(points, 0, 0);
      const seen = copy.getImageData(0, 0, points.width, points.height).data;
      const near = (at, [r, g, b]) =>
        Math.abs(seen[at] - r) + Math.abs(seen[at + 1] - g) + Math.abs(seen[at + 2] - b) < 24;
      const counts = {any: 0, picked: 0};
      const [r, g, b] = getComputedStyle(document.querySelector('.sign.picked'))
        .backgroundColor.match(/\\d+/g).map(Number);
      for (let at = 0; at < seen.length; at += 4) {
        if (!seen[at + 3]) continue;
        counts.any += 1;
        counts.picked += near(at, [r, g, b]);
      }
      return counts;
    }""")


def test_webgl_and_the_canvas_that_stands_in_for_it_draw_alike(player, browser, address):
    played = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *WEBGL])
    found = {}
    for way, chromium in (("webgl", played), ("canvas", browser)):
        with opened(chromium, f"{address}#webgl") as tab:
            assert tab.page.get_attribute("#stage", "data-drawn").lower() == way
            found[way] = drawn(tab)
            assert len(lasso(tab)) > 10
            assert way == "webgl" or tab.said == []
    played.close()
    assert found["canvas"]["picked"] > 60 * 8
    for name, many in found["canvas"].items():
        assert found["webgl"][name] == pytest.approx(many, rel=0.5), found


def written(tab, name, button, words):
    """Write a file from the page, and wait for what it says of it."""
    tab.page.fill("#to", name)
    tab.page.click(f"text={button}")
    tab.until(f"document.querySelector('#written').textContent.includes({json.dumps(words)})")


def test_files_are_written_once_and_below_the_root_alone(browser, address, place):
    with opened(browser, address) as tab:
        tab.set(diversity=55)
        written(tab, "kept", "Write subset", "Written")
        ids = pq.read_table(place / "kept" / "samples", columns=["id"])["id"].to_pylist()
        every = corpora.ids(place / "corpus").to_pylist()
        assert sorted(ids) == sorted(every[row] for row in tab.rows())
        written(tab, "kept", "Save settings", "kept.yaml")
        options = yaml.safe_load((place / "kept.yaml").read_text("utf-8"))
        again = sd.select(place / "corpus", work=place / "work", **options)
        assert again.figures["ids_key"] == tab.page.evaluate("explored.told.digest")
        written(tab, "kept", "Write subset", "there already")
        written(tab, "../kept", "Write subset", "leads out of")
        assert not (place.parent / "kept").exists()


HOSTILE = [
    "<script>globalThis.hit = 1</script>",
    "<img src=x onerror='globalThis.hit = 2'><b>bold</b>&lt;&amp;",
    "nul \x00 bell \x07 escape \x1b[31m delete \x7f turned \u202e around",
    "</div></article><style>* { display: none }</style>",
    "astral 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩‍👩‍👧 combining e\u0301 and اللغة",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A server of samples that would be markup, and of one with ten megabytes of text."""
    at = tmp_path_factory.mktemp("hostile")
    texts = [
        *HOSTILE,
        "incomprehensibilities " * 477_273,  # ten megabytes, in few words
        *(f"plain text {i} of many" for i in range(30)),
    ]
    rows = [{"instruction": f"{one[:80]} ?", "output": one, "source": one[:40]} for one in texts]
    with (at / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    corpus = sd.ingest(at / "rows.jsonl", out=at / "corpus", work=at / "work").folder
    with served(corpus, at / "work", at, strategy="micro-response", size=5) as found:
        yield found, corpus


def test_texts_that_would_be_markup_are_shown_as_text(browser, hostile):
    address, corpus = hostile
    samples = corpora.read(corpus, ["response"])["response"].to_pylist()
    with opened(browser, address) as tab:
        odd = [r for r, text in enumerate(samples) if not text.startswith(("plain", "incomp"))]
        assert len(odd) == len(HOSTILE)
        for row in odd:
            tab.page.evaluate(f"explored.open({row})")
            tab.until(f"explored.panel.sample?.row === {row}")
            shown = tab.page.locator("#sample .text").nth(1).text_content()
            text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda c: chr(0x2400 + ord(c[0])), samples[row])
            assert shown == text.replace("\x7f", "\u2421").replace("\u202e", "\ufffd")
        tab.page.keyboard.press("Escape")
        tab.page.select_option("#colour-by", "source")
        tab.page.fill("#search", "onerror")
        tab.until("explored.lists.tab === 'search'")
        tab.until("/onerror/.test(document.querySelector('#rows').textContent)")
        assert tab.page.evaluate("globalThis.hit") is None
        assert tab.page.locator("#rows b, #rows img, #sample img, #legend b").count() == 0
        assert tab.said == []


def test_ten_megabytes_of_text_are_cut_and_said_so(browser, hostile):
    address, corpus = hostile
    sizes = [len(text) for text in corpora.read(corpus, ["response"])["response"].to_pylist()]
    row = int(np.argmax(sizes))
    with opened(browser, address) as tab:
        tab.page.evaluate(f"explored.open({row})")
        tab.until(f"explored.panel.sample?.row === {row}")
        assert "of 10,500,0" in tab.page.inner_text("#sample >> text=characters are shown")
        assert tab.said == []


_FOREIGN = """async address => {
  const tried = {};
  const attempt = async (name, work) => {
    try { tried[name] = await work(); } catch (fault) { tried[name] = `refused: ${fault.name}`; }
  };
  const body = JSON.stringify({settings: {}, what: 'subset', to: 'stolen'});
  await attempt('read', async () => (await fetch(address + 'api/corpus')).text());
  await attempt('page', async () => (await fetch(address)).text());
  await attempt('post', async () => (await fetch(address + 'api/keep', {method: 'POST', body,
    headers: {'Content-Type': 'application/json'}})).text());
  await attempt('blind', async () => (await fetch(address + 'api/keep', {method: 'POST', body,
    mode: 'no-cors', headers: {'Content-Type': 'text/plain'}})).type);
  await attempt('script', () => new Promise((over, fail) => {
    const made = document.createElement('script');
    Object.assign(made, {src: address + 'store.js', onload: () => over('loaded'), onerror: fail});
    document.body.append(made);
  }));
  await attempt('frame', () => new Promise(over => {
    const made = document.createElement('iframe');
    made.src = address;
    made.onload = () => over(String(made.contentDocument));
    document.body.append(made);
  }));
  return tried;
}"""


def test_a_page_of_another_origin_can_neither_read_nor_steer(browser, address, place, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>elsewhere</title><body>", "utf-8")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    elsewhere = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(quiet, directory=str(tmp_path))
    )
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{elsewhere.server_address[1]}/")
    tried = page.evaluate(_FOREIGN, address)
    context.close()
    elsewhere.shutdown()
    elsewhere.server_close()
    for name in ("read", "page", "post", "script"):
        assert tried[name].startswith("refused"), tried
    assert tried["frame"] == "null"
    assert not (place / "stolen").exists()


def test_the_shared_file_turns_its_dial_from_disk(browser, tab, place):
    tab.set(diversity=35)
    there = tab.rows()
    written(tab, "shared", "Share as HTML", "Written")
    file: Path = place / "shared.html"
    assert file.stat().st_size < 15 << 20
    asked: list[str] = []
    with opened(browser, file.as_uri(), offline=True) as still:
        still.page.on("request", lambda request: asked.append(request.url))
        assert sorted(still.rows()) == sorted(there)
        for key in ("d", "ArrowRight", "ArrowRight"):
            still.page.keyboard.press(key)
        still.settled()
        assert still.page.evaluate("explored.store.settings.diversity") == 45
        tab.set(diversity=45)
        assert sorted(still.rows()) == sorted(tab.rows())
        assert still.page.inner_text("#call") == tab.page.inner_text("#call")
        still.page.fill("#search", "the")
        still.until("explored.lists.rows.search.length > 0")
        still.page.keyboard.press("Enter")
        still.page.keyboard.press("Enter")
        still.until("document.querySelector('#sample .text') !== null")
        assert len(lasso(still)) > 10
        for control in ("#writing", "#set-size", "#tab-nearest"):
            assert not still.page.is_visible(control)
        assert still.said == []
    assert asked == []


def names(path: Path) -> list[str]:
    """Return the top-level names of a module."""
    found = re.findall(
        r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", path.read_text("utf-8"), re.M
    )
    assert found, path
    return found


def test_modules_can_be_joined_into_one_script():
    modules = sorted(PAGE.glob("*.js"))
    every = [name for path in modules for name in names(path)]
    assert len(every) == len(set(every)), sorted(n for n in every if every.count(n) > 1)
    for path in modules:
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("import"):
                assert re.fullmatch(r'import \{ [\w, ]+ \} from "\./\w+\.js";', line), (path, line)
                assert " as " not in line
            assert not line.startswith("export default"), path


def test_text_never_becomes_markup():
    for path in PAGE.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|Function\(",
            path.read_text("utf-8"),
        ), path.name
