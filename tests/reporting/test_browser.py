"""Pages in a real browser: nothing logged, nothing asked for, all that should be seen is seen."""

from __future__ import annotations

import shutil

import pytest

from tests.reporting.conftest import PAGE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
SORTS = ("subset", "comparison", "study", "corpus")
_UNSEEN = """() => [...document.querySelectorAll('svg')]
  .filter(s => !s.closest('[hidden]') && !s.closest('details:not([open])'))
  .filter(s => { const r = s.getBoundingClientRect(); return r.width < 20 || r.height < 5; })
  .length"""
_RATIO = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const read = 'main p, main td:not(.heat), main h2, main summary, svg.plot text';
  return [...document.querySelectorAll(read)]
    .map(one => getComputedStyle(one))
    .map(style => light(style.fill !== 'rgb(0, 0, 0)' ? style.fill : style.color))
    .reduce((least, l) => Math.min(least,
      (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05)), 99);
}"""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def watched(browser, page, width=1400, scheme="light"):
    """Open a page; return it with all it logged and all it asked for besides itself."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    tab, said, asked = context.new_page(), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda fault: said.append(str(fault)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    return tab, said, [url for url in asked if url != page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("sort", SORTS)
def test_a_page_is_whole(browser, pages, sort, width, scheme):
    tab, said, asked = watched(browser, pages / sort / PAGE, width, scheme)
    assert said == []
    assert asked == []
    assert tab.evaluate(_UNSEEN) == 0
    assert tab.evaluate("document.querySelectorAll('svg').length") > 3
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(_RATIO) >= 4.5  # WCAG AA
    assert tab.evaluate("window.hit") is None
    tab.context.close()


def test_a_heat_map_is_coloured_by_its_values(browser, pages):
    for scheme in ("light", "dark"):
        tab, _, _ = watched(browser, pages / "study" / PAGE, scheme=scheme)
        grounds = tab.evaluate(
            "Object.fromEntries(['h6', 'h0', 'none'].map(c => [c, document.querySelector"
            "('td.heat.' + c)]).filter(p => p[1]).map(p => [p[0], "
            "getComputedStyle(p[1]).backgroundColor]))"
        )
        assert grounds["h6"] not in (grounds.get("h0"), grounds.get("none"))
        tab.context.close()


def test_every_part_that_can_be_chosen_is_reached_by_keyboard(browser, pages):
    tab, said, _ = watched(browser, pages / "study" / PAGE)
    for at, select in enumerate(tab.query_selector_all(".choose select")):
        if not select.is_visible():
            continue
        before = select.evaluate("s => s.value")
        select.focus()
        tab.keyboard.press("ArrowDown")
        assert select.evaluate("s => s.value") != before, at
    assert tab.evaluate(_UNSEEN) == 0
    assert said == []
    tab.context.close()


def test_the_theme_is_chosen_by_keyboard(browser, pages):
    tab, _, _ = watched(browser, pages / "subset" / PAGE)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(ground)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab.keyboard.press("Tab")
    for name in ("light", "dark"):
        tab.keyboard.press("Enter")
        assert tab.inner_text("#theme") == f"Theme: {name}"
    assert tab.evaluate(ground) != light
    tab.context.close()


def test_another_subset_is_drawn_when_chosen(browser, pages):
    tab, _, _ = watched(browser, pages / "comparison" / PAGE)
    drawn = "document.querySelector('.points.s0').getAttribute('d')"
    first = tab.evaluate(drawn)
    tab.select_option(".map select >> nth=0", index=1)
    assert tab.evaluate(drawn) != first
    tab.select_option(".map select >> nth=0", index=0)
    assert tab.evaluate(drawn) == first
    tab.context.close()


def test_without_scripts_everything_is_shown(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((pages / "study" / PAGE).as_uri())
    assert all(one.is_visible() for one in tab.query_selector_all("[data-name]"))
    context.close()
