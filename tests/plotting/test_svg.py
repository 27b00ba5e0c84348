"""SVG that a page can hold: named, small, without ids that could clash, dark where the page is."""

from xml.etree import ElementTree

import pytest

from inference_benchmark.plotting.style import DARK, PAPER, SERIES, house_style, new_figure
from inference_benchmark.plotting.svg import StyleSheet, inline, standalone, variables


@pytest.fixture(scope="module")
def figure():
    with house_style():
        made, ((axes,),) = new_figure(200)
        axes.plot([1, 2], [1, 2], marker="o", color=SERIES[0], label="a < b & c")
        axes.barh([1], [2], color=SERIES[1], hatch="////")
        axes.legend()
    return made


def drawn(figure, name: str, sheet: StyleSheet) -> str:
    with house_style():
        return inline(figure, name, "A <title>", "What & why", sheet)


def test_it_has_a_name_and_a_description(figure):
    root = ElementTree.fromstring(drawn(figure, "x", StyleSheet()))
    assert root.get("role") == "img"
    assert root.find("title").text == "A <title>"
    assert root.find("desc").text == "What & why"
    assert (root.find("title").get("id"), root.get("aria-labelledby")) == ("x-title",) * 2


def test_text_is_text(figure):
    root = ElementTree.fromstring(drawn(figure, "x", StyleSheet()))
    assert "a < b & c" in [element.text for element in root.iter("text")]


def test_pictures_of_a_page_share_styles_and_no_ids(figure):
    sheet = StyleSheet()
    first, second = drawn(figure, "x", sheet), drawn(figure, "y", sheet)
    ids = [
        element.get("id")
        for text in (first, second)
        for element in ElementTree.fromstring(text).iter()
        if element.get("id")
    ]
    assert len(ids) == len(set(ids))
    assert 'style="' not in first


def test_colours_are_variables_in_light_and_dark(figure):
    sheet = StyleSheet()
    drawn(figure, "x", sheet)
    used = sheet.css()
    for color in (SERIES[0], SERIES[1], PAPER):
        assert f"var(--c{list(DARK).index(color)},{color})" in used
        assert DARK[color] in variables().split("prefers-color-scheme:dark")[1]


def test_a_file_of_its_own_is_whole(figure):
    with house_style():
        text = standalone(figure, "x", "title", "description")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme" in text
    assert len(text) < 12_000


def test_the_same_figure_is_the_same_text(figure):
    assert drawn(figure, "x", StyleSheet()) == drawn(figure, "x", StyleSheet())


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(color: str, other: str) -> float:
    high, low = sorted((luminance(color), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [{color: color for color in DARK}, DARK], ids=["light", "dark"])
def test_what_is_drawn_can_be_seen(scheme):
    """WCAG: 4.5 for text, 3 for marks; of text that is every role but grids and bands."""
    from inference_benchmark.plotting.style import INK, LIMIT, MUTED

    for text in (INK, MUTED):
        assert contrast(scheme[text], scheme[PAPER]) >= 4.5
    for mark in (*SERIES, LIMIT):
        assert contrast(scheme[mark], scheme[PAPER]) >= 3
