"""Reading saved sessions: which cells have a speed, and files that are broken."""

import functools
import json
from unittest import mock

import pytest
from comparing import one_line, run
from fake_results import fake_cell, fake_result, save, with_wrong_output

from inference_benchmark.reporting.reading import ResultFileError, read_result

BROKEN = {
    "empty": ("", "empty"),
    "blank": (" \n", "empty"),
    "truncated": (json.dumps(fake_result([fake_cell()]))[:-40], "truncated"),
    "nested": ("[" * 100_000, "truncated"),
    "foreign": ('{"results": [1, 2]}', "not a result file"),
    "list": ("[1, 2, 3]", "not a result file"),
    "hollow": ('{"schema_version": 1}', "no cells"),
    "newer": ('{"schema_version": 3, "cells": []}', "schema version 3"),
    "odd": (json.dumps(fake_result([{**fake_cell(), "samples": {"ttft_s": ["x"]}}])), "whole"),
}


def places(result: dict) -> list[tuple]:
    """(how to get at a section, a key in it) for every field near the top of a result."""

    def section(*path):
        return lambda result: functools.reduce(lambda part, key: part[key], path, result)

    paths = [(), ("environment",), ("config",), ("cells", 1), ("environment", "gpu")]
    paths += [("cells", 1, name) for name in ("samples", "summary", "memory", "options")]
    paths += [("cells", 1, "samples", "metrics"), ("workload",), ("workload", "metrics", 0)]
    paths += [("workload", "rates", 0), ("cells", 1, "summary", "rates")]
    paths += [
        ("cells", 1, name) for name in ("validity", "output_check", "name", "weights", "engine")
    ]
    return [(section(*path), key) for path in paths for key in section(*path)(result)]


def refusal(path) -> str | None:
    try:
        read_result(path)
    except ResultFileError as error:
        return str(error)
    return None


class TestCells:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"status": "oom", "error": "needs 40 GB, 20 free"}, "oom: needs 40 GB, 20 free"),
            ({"status": "unsupported", "error": None}, "unsupported"),
            ({"status": "wrong_output", "error": None}, "wrong output"),
            ({"status": "partial", "samples": None}, "no finished run"),
        ],
    )
    def test_cells_without_a_speed_are_named_with_the_reason(self, tmp_path, fields, reason):
        cells = fake_cell("eager"), fake_cell("thunder", **fields), fake_cell("inductor")
        code, out, _ = run(save(tmp_path / "s.json", *cells))
        assert code == 0
        assert f"skipped: thunder b1 (s.json): {reason}" in " ".join(out.split())
        assert "inductor b1 against eager b1" in out
        assert "thunder b1 against" not in out

    def test_wrong_outputs_have_no_speed(self, tmp_path):
        cells = fake_cell("eager"), with_wrong_output(fake_cell("thunder"))
        _, out, _ = run(save(tmp_path / "s.json", *cells))
        assert "skipped: thunder b1 (s.json): wrong output" in out

    def test_a_session_that_did_not_end_is_partial(self, tmp_path):
        path = tmp_path / "s.json"
        result = fake_result([fake_cell("eager"), fake_cell("thunder")]) | {"state": "running"}
        path.write_text(json.dumps(result))
        out = " ".join(run(path)[1].split())
        assert "eager b1, thunder b1 (s.json): partial: the session's state is running" in out

    def test_a_partial_cell_is_compared_and_said_to_be_partial(self, tmp_path):
        cells = fake_cell("eager"), fake_cell("thunder", status="partial", runs=5)
        _, out, _ = run(save(tmp_path / "s.json", *cells))
        assert "thunder b1 against eager b1 (s.json): 5 rounds" in out
        assert "thunder b1 (s.json): partial: the session didn't end" in " ".join(out.split())

    def test_doubtful_validity_is_noted(self, tmp_path):
        reason = {"code": "throttled", "severity": "suspect", "message": "hot", "remedy": "cool"}
        cell = fake_cell("thunder", validity={"verdict": "suspect", "reasons": [reason]})
        _, out, _ = run(save(tmp_path / "s.json", fake_cell("eager"), cell))
        assert "thunder b1 (s.json): suspect (throttled)" in " ".join(out.split())


class TestFiles:
    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_file_is_named_in_one_line(self, tmp_path, name):
        text, words = BROKEN[name]
        good = save(tmp_path / "good.json", fake_cell())
        bad = tmp_path / "bad.json"
        bad.write_text(text)
        other = save(tmp_path / "other.json", fake_cell("eager"))
        for files in ([bad], [good, bad], [good, bad, other]):
            code, out, err = run(*files)
            assert (code, out) == (2, "")
            assert one_line(err, str(bad), words)

    def test_any_field_may_be_of_any_kind_without_a_traceback(self, tmp_path):
        """What is refused is one line for all readers; the command is run on what they take."""
        path = tmp_path / "odd.json"
        result = fake_result([fake_cell("eager", runs=3), fake_cell("thunder", runs=3)])
        for section, key in places(result):
            for value in (None, [], [None], {}, {"a": []}, "x", -1, True):
                with mock.patch.dict(section(result), {key: value}):
                    path.write_text(json.dumps(result))
                if line := refusal(path):
                    assert line.isprintable(), (key, value)
                    continue
                code, _, err = run(path)
                assert code in (0, 2), (key, value)
                assert err.count("\n") == (code == 2), (key, value)

    def test_samples_that_are_no_times_are_refused(self, tmp_path):
        cell = fake_cell()
        cell["samples"]["metrics"]["ttft_s"][3] = float("nan")
        path = save(tmp_path / "nan.json", cell)
        code, _, err = run(path)
        assert code == 2
        assert one_line(err, path, "NaN")

    def test_files_that_cannot_be_read(self, tmp_path):
        binary = tmp_path / "binary.json"
        binary.write_bytes(b"\x80\x81\x82")
        for path in (tmp_path / "missing.json", tmp_path, binary):
            code, _, err = run(path)
            assert code == 2
            assert one_line(err, str(path))
