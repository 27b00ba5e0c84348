"""The result file: whole at any moment, never over another one, cheap to write again."""

import errno
import json
import math
import os

import pytest

from inference_benchmark.reporting import saving
from inference_benchmark.reporting.saving import file_name, open_numbered, open_result


def load(path) -> dict:
    return json.loads(path.read_text())


def test_what_is_there_is_kept(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        open_result(path, {"a": 1})
    assert path.read_text() == "mine"
    open_result(path, {"a": 1}, overwrite=True)
    assert load(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_two_sessions_of_the_same_second_have_a_file_each(tmp_path):
    first, second, third = (open_numbered(tmp_path, "chat", {"n": n}) for n in range(3))
    second.save({"n": 10})
    assert [file.path.name for file in (first, second, third)] == [
        "chat.json",
        "chat-2.json",
        "chat-3.json",
    ]
    assert [load(file.path)["n"] for file in (first, second, third)] == [0, 10, 2]


def test_without_hard_links_only_one_session_gets_the_name(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(saving.os, "link", refuse)
    open_result(tmp_path / "a.json", {"n": 1})
    with pytest.raises(FileExistsError):
        open_result(tmp_path / "a.json", {"n": 2})
    assert load(tmp_path / "a.json") == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("{}")
    link.symlink_to(target)
    open_result(link, {"n": 1}, overwrite=True)
    assert link.is_symlink()
    assert load(target) == {"n": 1}


def test_a_failed_save_leaves_the_one_before(tmp_path, monkeypatch):
    file = open_result(tmp_path / "a.json", {"n": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "_write_all", full)
    with pytest.raises(OSError, match="No space left"):
        file.save({"n": 2})
    assert load(file.path) == {"n": 1}
    assert list(tmp_path.iterdir()) == [file.path]


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    file = open_result(tmp_path / "a.json", {"n": 1})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        file.save({"n": 2})
    assert list(tmp_path.iterdir()) == [file.path]


def test_numbers_come_back_exactly_and_what_is_not_finite_as_null(tmp_path):
    result = {
        "steps": [[0.1 + i / 7 for i in range(50)], [], [1, 2.5, None, "x"]],
        "long": [*map(float, range(20)), math.inf],
        "mixed": [*range(20), "numbers 0"],
        "nan": math.nan,
        "text": "é\n\x1b",
    }
    file = open_result(tmp_path / "a.json", result)
    expected = result | {"nan": None, "long": [*map(float, range(20)), None]}
    assert load(file.path) == expected
    file.save(result)
    assert load(file.path) == expected


def test_a_list_that_grew_is_written_anew(tmp_path):
    times = [float(i) for i in range(20)]
    file = open_result(tmp_path / "a.json", {"times": times})
    file.save({"times": times})
    times.append(7.0)
    file.save({"times": times})
    assert load(file.path)["times"][-1] == 7.0


def test_a_round_writes_out_only_what_it_added(tmp_path, monkeypatch):
    """Of 100 rounds of 3 cells of 1,000 tokens that is 1 % of the numbers; tests/audit/save_times.py
    says how long it takes."""
    steps = [[1 / 3 + i / 1e4] * 999 for i in range(300)]
    file = open_result(tmp_path / "a.json", {"steps": steps[:-3]})
    file.save({"steps": steps[:-3]})
    written = []
    dumps = json.dumps
    monkeypatch.setattr(
        saving.json, "dumps", lambda value, **how: written.append(value) or dumps(value, **how)
    )
    file.save({"steps": steps})
    assert [value for value in written if isinstance(value, list)] == steps[-3:]
    assert load(file.path)["steps"] == steps


@pytest.mark.parametrize("name", ["x" * 500, "../../etc/passwd\n\x1b[31m", ".hidden"])
def test_names_of_models_are_no_paths(tmp_path, name):
    result = {
        "config": {
            "model_name": name,
            "workload": "generation",
            "input_length": 10,
            "output_length": 5,
            "scenario": None,
            "extrapolated_from": None,
            "num_layers": 2,
            "full_num_layers": 4,
        },
        "environment": {"gpu": None},
        "cells": [{"name": {"variant": "eager"}}],
        "created": "2026-01-02T03:04:05Z",
    }
    text = file_name(result)
    assert text.endswith("_20260102T030405Z")
    assert os.sep not in text
    assert not text.startswith(".")
    open_numbered(tmp_path, text, result)
