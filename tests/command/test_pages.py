"""--report: where the page goes, and that a page which can't be written makes the exit code 4."""

import json
from types import SimpleNamespace

import pytest
from fake_results import fake_cell, fake_result

from inference_benchmark.command.many_sessions import _arguments_of_one
from inference_benchmark.command.pages import write_page
from inference_benchmark.plotting.page import Page

RESULT = fake_result([fake_cell(runs=3)])


def ending(path=None) -> SimpleNamespace:
    return SimpleNamespace(is_saved=path is not None, path=path, report_error=None)


def request(folder, overwrite=False) -> SimpleNamespace:
    return SimpleNamespace(output_dir=folder, overwrite=overwrite)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(RESULT))
    return path


def test_it_stands_beside_the_result_file_under_a_free_name(tmp_path, saved, capsys):
    (tmp_path / "mine.html").write_text("taken")
    write_page(RESULT, request(tmp_path), ending(saved))
    assert "<h1>llama3.1-8b" in (tmp_path / "mine-2.html").read_text()
    assert (tmp_path / "mine.html").read_text() == "taken"
    assert capsys.readouterr().err == f"page: {tmp_path / 'mine-2.html'}\n"


@pytest.fixture
def undrawn(monkeypatch):
    """A page's place is no matter of its pictures."""
    monkeypatch.setattr(Page, "draw", lambda self: None)


@pytest.mark.usefixtures("undrawn")
def test_an_unsaved_result_gives_it_its_name(tmp_path):
    write_page(RESULT, request(tmp_path), ending())
    (page,) = tmp_path.glob("*.html")
    assert page.name.startswith("llama3.1-8b_8x5_thunder_NVIDIA-H200_20260102T")


@pytest.mark.usefixtures("undrawn")
def test_a_page_that_cannot_be_written_is_said(tmp_path, saved, capsys):
    (tmp_path / "mine.html").mkdir()
    end = ending(saved)
    write_page(RESULT, request(tmp_path, overwrite=True), end)
    assert end.report_error is not None
    assert "can't be written" in capsys.readouterr().err


def test_sessions_of_a_set_make_no_pages_of_their_own():
    assert _arguments_of_one(["--report", "--quiet"], None, 0) == ["--quiet", "--save-results"]
