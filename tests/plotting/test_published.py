"""The pages and pictures that the repository shows say what the published files say."""

import re

import pytest
from test_page import Document

from inference_benchmark.plotting import published
from inference_benchmark.plotting.embedding import unpack
from inference_benchmark.plotting.page import MOST_BYTES, Page
from inference_benchmark.plotting.picture import Number

AGAIN = "run: python -m inference_benchmark.plotting.published"


@pytest.fixture(scope="module", params=published.FOLDERS)
def drawn(request) -> tuple[str, Page]:
    return request.param, published.draw(request.param)


def test_numbers_of_the_page_are_those_of_the_files(drawn):
    name, page = drawn
    shown = Document((published.PAGES / f"{name}.html").read_text())
    values = {
        entry.value
        for _, picture in page.pictures()
        for table in picture.tables
        for row in table.rows
        for entry in row
        if isinstance(entry, Number) and entry.value is not None
    }
    assert values <= set(shown.values), AGAIN
    for _, picture in page.pictures():
        assert picture.sentence in shown.words, AGAIN


def test_the_page_is_small_and_holds_the_files(drawn):
    name, page = drawn
    text = (published.PAGES / f"{name}.html").read_text()
    assert len(text.encode()) < MOST_BYTES
    inside = [unpack(data) for data in re.findall(r"base64,([^\"]*)", text)]
    assert len(inside) == len(page.sets[0].sources), AGAIN


def test_the_readme_shows_what_is_there(drawn):
    name, page = drawn
    readme = published.README.read_text()
    for of, picture_name in published.SHOWN:
        if of == name:
            picture = published.picture_of(page, picture_name)
            path = published.picture_path(name, picture)
            assert published.section([(name, picture)]) in readme, AGAIN
            assert picture.title in path.read_text()
