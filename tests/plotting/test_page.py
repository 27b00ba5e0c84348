"""The page: numbers of the files, nothing from elsewhere, and text that stays text."""

import json
import re
from html.parser import HTMLParser

import pytest
from conftest import ROOT
from fake_results import (
    fake_cell,
    fake_forward_cell,
    fake_result,
    fake_speedup,
    save,
    with_wrong_output,
)
from pages import SESSION, session_page

from inference_benchmark.plotting.embedding import LEFT_OUT, WHOLE, WITHOUT_STEPS, embed, unpack
from inference_benchmark.plotting.page import MOST_BYTES, Page
from inference_benchmark.plotting.sources import SourceSet, of_result, read_set
from inference_benchmark.reporting.reading import read_result, to_version_2

EVIL = '<script>alert("x")</script>&amp;\'" $\\frac{$'


class Document(HTMLParser):
    """What a page consists of: tags with attributes, ids, values of numbers, text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.values: list[float] = []
        self.open: list[str] = []
        self.unclosed: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "data":
            self.values.append(float(dict(attributes)["value"]))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data):
        self.words += data


def page_of(*results: dict, **arguments) -> str:
    sources = [of_result(f"{number}.json", result) for number, result in enumerate(results)]
    page = Page([SourceSet("results", tuple(sources))], **arguments)
    page.draw()
    return page.html()


@pytest.fixture(scope="module")
def published() -> str:
    return session_page()


def numbers_in(part) -> set[float]:
    if isinstance(part, dict):
        return set().union(*map(numbers_in, part.values()))
    if isinstance(part, list):
        return set().union(*map(numbers_in, part))
    return {float(part)} if isinstance(part, (int, float)) and not isinstance(part, bool) else set()


def test_it_is_well_formed_and_ids_are_unique(published):
    document = Document(published)
    assert not document.unclosed
    assert not document.open
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in document.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_it_asks_for_nothing(published):
    document = Document(published)
    assert not {"script", "iframe", "img", "object", "embed"} & {tag for tag, _ in document.tags}
    addresses = [a[name] for _, a in document.tags for name in ("href", "src") if name in a]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    style = published.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert set(re.findall(r"url\(([^)]{1})", published)) <= {"#"}
    assert "http" not in re.sub(r'href="data:[^"]*"', "", published).replace("http-equiv", "")


def test_numbers_of_the_overview_are_those_of_the_file(published):
    values = set(Document(published).values)
    for cell in read_result(SESSION)["cells"]:
        for metric in ("ttft_s", "tbot_s"):
            summary = cell["summary"]["metrics"][metric]
            assert {summary["median"], *summary["median_ci95"]} <= values
        if cell["speedup"]:
            assert cell["speedup"]["metrics"]["tbot_s"]["ratio"] in values


def test_most_numbers_are_the_files_own_to_the_last_digit(published):
    """Others are made of them: shares, limits of rates, FLOP/s."""
    known = numbers_in(read_result(SESSION))
    values = Document(published).values
    assert len(values) > 100
    assert sum(value in known for value in values) > 0.6 * len(values)


def test_the_file_is_in_it_as_it_was(published):
    (link,) = re.findall(r'href="data:application/gzip;base64,([^"]*)"', published)
    assert unpack(link) == SESSION.read_text()


def test_text_of_a_file_stays_text():
    cell = fake_cell() | {"label": EVIL, "error": None}
    cell["name"] = cell["name"] | {"variant": EVIL}
    cell["speedup"] = fake_speedup(EVIL, tbot_s=1.1)
    result = fake_result([fake_cell("eager"), cell], scenario=EVIL, model_name=EVIL)
    result["command"] = [EVIL]
    result["workload"] = {
        "name": EVIL,
        "metrics": [metric | {"title": EVIL} for metric in result["workload"]["metrics"]],
        "rates": [rate | {"title": EVIL} for rate in result["workload"]["rates"]],
    }
    kinds = {"kernel_s": 0.001, "kernels": 1, "by_kind": {EVIL: 0.001}, "costliest": []}
    cell["profile"] = {EVIL: kinds}
    text = page_of(result, title=EVIL)
    document = Document(text)
    assert "script" not in {tag for tag, _ in document.tags}
    assert document.words.count(EVIL) > 5
    assert not document.unclosed


def test_a_page_of_20_cells_is_less_than_a_mail_takes():
    cells = []
    for number in range(20):
        cell = fake_cell(f"mode{number // 10}", batch_size=2 ** (number % 10), runs=10, seed=number)
        steps = cell["samples"]["steps"]["step_s"]
        cell["samples"]["steps"]["step_s"] = [
            [step * (1 + 1e-4 * (place * 7919 % 997)) for place in range(999)] for step, *_ in steps
        ]
        cells.append(cell)
    result = fake_result(cells, input_length=1000, output_length=1000)
    text = page_of(result)
    assert len(text.encode()) < MOST_BYTES
    assert WITHOUT_STEPS in text
    (link,) = re.findall(r'href="data:application/gzip;base64,([^"]*)"', text)
    kept = json.loads(unpack(link))
    assert kept["cells"][0]["samples"]["metrics"] == cells[0]["samples"]["metrics"]
    assert kept["cells"][0]["samples"]["steps"] == {"step_s": []}
    assert to_version_2(kept)


@pytest.mark.parametrize(
    ("budget", "note"), [(10**6, WHOLE), (5_000, WITHOUT_STEPS), (10, LEFT_OUT)]
)
def test_what_is_embedded_follows_what_there_is_room_for(budget, note):
    cell = fake_cell(runs=3)
    cell["samples"]["steps"]["step_s"] = [[0.001 * n + 0.1 for n in range(3000)]] * 3
    (embedded,) = embed([of_result("x.json", fake_result([cell]))], budget)
    assert embedded.note == note
    assert (embedded.data is None) == (note == LEFT_OUT)


def test_what_was_measured_differently_has_sections_of_its_own():
    forward = fake_result([fake_forward_cell()], workload="forward", output_length=None)
    text = page_of(fake_result([fake_cell()]), forward)
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", text)
    assert headings == [
        "llama3.1-8b, 8 → 5 tokens, NVIDIA H200",
        "llama3.1-8b, forward 8 tokens, NVIDIA H200",
        "Sessions",
        "Files",
    ]


def test_a_cell_without_speed_is_named_with_the_reason():
    failed = fake_cell() | {
        "status": "oom",
        "error": "out of GPU memory",
        "samples": None,
        "summary": None,
    }
    text = page_of(fake_result([fake_cell("eager"), failed]))
    assert "thunder b1: oom: out of GPU memory" in text
    assert "OOM" in text


def test_a_wrong_output_shows_no_speed():
    wrong = with_wrong_output(fake_cell(tbot_s=0.0012345, noise=0.0))
    text = page_of(fake_result([fake_cell("eager"), wrong]))
    assert "WRONG OUTPUT" in text
    assert "thunder b1: wrong output: decode error 0.5 over 0.03" in text
    assert not any(abs(value / 0.0012345 - 1) < 1e-3 for value in Document(text).values if value)


def test_a_file_of_version_1_is_drawn():
    page = Page([read_set("results", [ROOT / "tests" / "reporting" / "version_1.json"])])
    page.draw()
    assert {name for name, _ in page.pictures()} >= {"runs-tbot", "steps", "startup"}


def test_nothing_measured_is_a_page_still():
    nothing = fake_cell() | {"samples": None, "summary": None, "memory": None, "cold_start": None}
    assert "no runs" in page_of(fake_result([nothing]))


def test_two_sets_stand_side_by_side(tmp_path):
    from inference_benchmark.plotting.comparison_page import compare_sets

    before = save(tmp_path / "before.json", fake_cell(tbot_s=0.006, seed=1))
    after = save(tmp_path / "after.json", fake_cell(tbot_s=0.009, seed=2))
    page = compare_sets([before, after])
    text = page.html()
    titles = re.findall(r"<h3>([^<]*)</h3>", text)
    assert titles[0] == "Speed-up over before"
    place = titles.index("before: Throughput against speed for each user")
    assert titles[place + 1] == "after: Throughput against speed for each user"
    (comparison,) = page.first
    (table,) = comparison.tables
    verdicts = [row[-1] for row in table.rows]
    assert verdicts[0] == "slower"
    assert verdicts == sorted(verdicts, key=["slower", "inconclusive", "same", "faster"].index)
    assert {name for name, _ in page.pictures()} > {"comparison", "before-pareto", "after-pareto"}
