"""Reading what is no result, or a damaged one: refused in one line, or shown."""

import contextlib
import copy
import io
import json
import sys

import pytest
from result_files import OLD, converted, refusal, with_odd_fields

from inference_benchmark.reporting.card import card
from inference_benchmark.reporting.formats import FORMATS, report_as
from inference_benchmark.reporting.reading import ResultFileError, read_result

HUGE = 10**400  # beyond any float
BROKEN = {
    "empty": ("", "empty"),
    "blank": (" \n", "empty"),
    "truncated": (json.dumps(OLD)[:-40], "truncated"),
    "nested": ("[" * 100_000, "truncated"),
    "foreign": ('{"results": [1, 2]}', "not a result file"),
    "list": ("[1, 2, 3]", "not a result file"),
    "hollow, version 1": ('{"schema_version": 1}', "no cells"),
    "hollow, version 2": ('{"schema_version": 2}', "no state"),
    "newer": ('{"schema_version": 3, "cells": []}', "schema version 3, newer than the 2"),
    "true as a version": ('{"schema_version": true}', "not a result file"),
    "a version of 5000 digits": ('{"schema_version": %s}' % ("9" * 5000), "truncated"),
}


class TestBrokenFiles:
    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_file_is_named_in_one_line(self, tmp_path, name):
        text, words = BROKEN[name]
        assert words in refusal(tmp_path, text)

    @pytest.mark.parametrize("depth", [300, 900, 3000, 20_000])
    def test_any_depth_of_nesting_is_answered(self, tmp_path, depth):
        text = json.dumps(OLD | {"extra": "x"}).replace('"x"', "[" * depth + "]" * depth)
        refusal(tmp_path, text)  # raises nothing else
        text = json.dumps(converted() | {"x": "x"}).replace('"x": "x"', '"x": ' + text[:-1] + "}")
        refusal(tmp_path, text)

    @pytest.mark.parametrize("original", [OLD, converted()], ids=["version 1", "version 2"])
    def test_any_field_may_be_of_any_kind(self, tmp_path, original):
        for document in with_odd_fields(original, (None, [None], {"a": []}, "x", -1, True, HUGE)):
            refusal(tmp_path, document)  # raises nothing else

    def test_whatever_is_read_can_be_shown(self, tmp_path):
        path = tmp_path / "odd.json"
        for document in with_odd_fields(converted(), (None, [], {"a": 0.5}, "x", 0, 1.5, 1e300)):
            path.write_text(json.dumps(document))
            with contextlib.suppress(ResultFileError):
                result = read_result(path)
                card(result, 1, 2, details=True)
                for format in FORMATS:
                    report_as(result, format, details=True)

    @pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 0.0, "x"])
    def test_samples_that_are_no_times_are_refused(self, tmp_path, time):
        document = copy.deepcopy(OLD)
        document["cells"][0]["samples"]["ttft_s"][1] = time
        assert "whole result file" in refusal(tmp_path, document)

    def test_samples_of_unequal_length_are_refused(self, tmp_path):
        document = converted()
        document["cells"][0]["samples"]["metrics"]["total_s"].pop()
        assert "inductor+graphs b1: samples of unequal length" in refusal(tmp_path, document)

    def test_files_that_cannot_be_read(self, tmp_path):
        binary = tmp_path / "binary.json"
        binary.write_bytes(b"\x80\x81\x82")
        for path in (tmp_path / "missing.json", tmp_path, binary):
            with pytest.raises(ResultFileError, match=str(path)):
                read_result(path)

    def test_standard_input(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(OLD)))
        assert read_result("-") == converted()
        monkeypatch.setattr(sys, "stdin", io.StringIO("{"))
        with pytest.raises(ResultFileError, match="^standard input: is not JSON"):
            read_result("-")
