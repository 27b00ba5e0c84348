"""One page of a published session, drawn once for all tests that look at it."""

from functools import cache

from conftest import ROOT

from inference_benchmark.plotting.page import Page
from inference_benchmark.plotting.sources import read_set

(SESSION,) = (ROOT / "results" / "published" / "session").glob("*.json")


@cache
def session_page() -> str:
    page = Page([read_set("results", [str(SESSION)])])
    page.draw()
    return page.html()
