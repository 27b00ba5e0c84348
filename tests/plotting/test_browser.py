"""The page in a real browser: three widths, light and dark, paper, no message, no request."""

import gzip
import time

import browser
import pytest
from pages import SESSION, session_page

pytestmark = pytest.mark.skipif(
    browser.find() is None, reason=f"needs a browser: one of {', '.join(browser.NAMES)}"
)
# Widths of what stands out of the window, text that is cut off, and how small letters get.
_LAYOUT = """(() => {
  const out = [...document.querySelectorAll('body *')].filter(e =>
    !e.closest('.scroll') && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1);
  const sizes = [...document.querySelectorAll('svg text')].map(t =>
    parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getBoundingClientRect().width
    / t.ownerSVGElement.viewBox.baseVal.width);
  return {width: document.documentElement.scrollWidth, out: out.map(e => e.outerHTML.slice(0, 99)),
          smallest: Math.min(...sizes), pictures: document.querySelectorAll('svg').length,
          paper: getComputedStyle(document.body).backgroundColor};
})()"""
# Of text in each picture, what reaches beyond its frame.
_CUT_OFF = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(t => {
    const box = t.getBoundingClientRect();
    return box.left < frame.left - 2 || box.right > frame.right + 2
        || box.top < frame.top - 2 || box.bottom > frame.bottom + 2;
  }).map(t => svg.querySelector('title').textContent + ': ' + t.textContent);
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(session_page())
    return path


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as started:
        yield started


@pytest.mark.parametrize(
    ("width", "dark"), [(400, False), (900, False), (1600, False), (900, True)]
)  # colours move nothing
def test_it_fits_and_says_nothing(chromium, page, width, dark):
    chromium.messages.clear()
    chromium.requests.clear()
    chromium.open(page, width, dark=dark)
    layout = chromium.evaluate(_LAYOUT)
    assert layout["width"] <= width
    assert layout["out"] == []
    assert layout["smallest"] >= 7.5  # CSS pixels, of the least text on a phone
    assert layout["pictures"] > 8
    assert chromium.evaluate(_CUT_OFF) == []
    red = int(layout["paper"].removeprefix("rgb(").partition(",")[0])
    assert (red < 80) == dark
    assert chromium.messages == []
    assert chromium.requests == [page.resolve().as_uri()]


def test_what_is_shown_has_a_name(chromium, page):
    chromium.open(page, 900)
    pictures = chromium.accessible("image")
    assert len(pictures) == chromium.evaluate("document.querySelectorAll('svg').length")
    assert all(pictures)
    assert len(set(pictures)) == len(pictures)
    tables = chromium.accessible("table")
    assert tables
    assert all(tables)
    assert all(chromium.accessible("link"))
    assert chromium.evaluate("document.documentElement.lang") == "en"


def test_tables_show_what_their_values_say(chromium, page):
    """Times in ms: the visible text is the file's number, rounded."""
    chromium.open(page, 900)
    shown = chromium.evaluate(
        """[...document.querySelectorAll('table')[0].rows].slice(1).map(row =>
          [row.cells[2].textContent, row.cells[2].querySelector('data').value])"""
    )
    assert len(shown) == 3
    for text, value in shown:
        assert float(text) == pytest.approx(float(value) * 1e3, rel=1e-3)


def test_the_file_can_be_saved_from_it(chromium, page, tmp_path):
    chromium.open(page, 900)
    chromium.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    chromium.evaluate("document.querySelector('footer a').click()")
    saved = tmp_path / f"{SESSION.name}.gz"
    for _ in range(100):
        if saved.exists():
            break
        time.sleep(0.1)
    assert gzip.decompress(saved.read_bytes()).decode() == SESSION.read_text()


def test_it_prints(chromium, page):
    chromium.open(page, 900, dark=True)
    pdf = chromium.pdf()
    assert pdf.startswith(b"%PDF")
    assert 4 <= pdf.count(b"/Type /Page\n") <= 20 or pdf.count(b"/Type/Page") >= 4
