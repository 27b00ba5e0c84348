"""Reading results: version 1 converted without loss, version 2 as it is."""

import copy
import json
from unittest import mock

import jsonschema
import pytest
from conftest import PUBLISHED, ROOT
from result_files import OLD, converted, places, with_odd_fields

from inference_benchmark.reporting.reading import (
    printable,
    read_result,
    to_version_2,
)
from inference_benchmark.reporting.shape import departure

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
class TestPublished:
    def test_a_converted_file_fits_the_schema(self, path):
        result = read_result(path)
        VALIDATOR.validate(result)
        assert to_version_2(result) is result

    def test_nothing_is_lost(self, path):
        before, after = json.loads(path.read_text()), read_result(path)
        if before["schema_version"] == 2:
            assert_same_but_for_kernels(before, after)
            return
        assert before["config"].items() <= after["config"].items()
        assert (after["model"], after["warnings"]) == (before["model"], before["warnings"])
        assert (
            before["environment"].items()
            <= (after["environment"] | {"gpu": before["environment"]["gpu"]}).items()
        )
        assert before["environment"]["gpu"].items() <= after["environment"]["gpu"].items()
        for old, new in zip(before["cells"], after["cells"], strict=True):
            assert_same_cell(old, new)


def assert_same_but_for_kernels(old: dict, new: dict) -> None:
    """A file of version 2 is read as it is, but for names that do not say whose kernels ran."""
    renamed = ("label", "name", "speedup")
    assert {**old, "cells": None} == {**new, "cells": None}
    for before, after in zip(old["cells"], new["cells"], strict=True):
        assert before.keys() == after.keys()
        changed = {name for name in before if before[name] != after[name]}
        assert changed <= set(renamed)
        if "kernels" in before["name"]:
            assert not changed


def with_kernels(label: str, options: dict) -> str:
    """inductor+graphs b1 4L -> inductor+graphs+kernels b1 4L, where the kernels were ours."""
    if options["attention"] != "flash_decode" and options["linear"] != "gemv":
        return label
    mode, _, rest = label.partition(" b")
    return f"{mode}+kernels b{rest}"


def assert_same_cell(old: dict, new: dict) -> None:
    assert new["label"] == with_kernels(old["label"], old["options"])
    assert new["name"]["kernels"] == ("+kernels" in new["label"])
    same = {"mode", "batch_size", "num_layers", "options", "timer", "estimated", "memory"}
    same |= {"cold_start", "gpu_state", "host", "stop_reason", "status"}
    assert all(new[name] == old[name] for name in same & set(old))
    for phase, profiled in (old.get("profile") or {}).items():
        assert profiled.items() <= new["profile"][phase].items()
    if old.get("extrapolation"):
        assert old["extrapolation"].items() <= new["extrapolation"].items()
        assert set(new["extrapolation"]["error"]) == set(new["summary"]["metrics"])
    for name in ("ttft_s", "tbot_s", "decode_s", "total_s"):
        assert_same_summary(old["summary"][name], new["summary"]["metrics"][name], old["estimated"])
    assert new["summary"]["n"] == old["summary"]["ttft_s"]["n"]
    assert new["summary"]["steps"]["step_s"] == old["summary"]["step_s"]
    assert (
        new["summary"]["rate_std"]["output_tokens_per_s"]
        == (old["summary"]["output_tokens_per_s_std"])
    )
    for name, value in new["summary"]["rates"].items():
        assert value == old["summary"][name]
    for name in ("s_per_token", "mfu", "mbu", "energy_per_token_j", "cost_per_million_tokens"):
        assert new["summary"][name] == old["summary"][name]
    samples = new["samples"]
    assert samples["metrics"]["ttft_s"] == old["samples"]["ttft_s"]
    assert samples["metrics"]["decode_s"] == old["samples"]["decode_s"]
    assert samples["steps"]["step_s"] == old["samples"]["step_s"]
    assert (samples["round"], samples["started"]) == (
        old["samples"]["round"],
        old["samples"]["started"],
    )
    for name in ("tbot_s", "total_s"):  # derived anew: the median is that of before, to the bit
        assert median(samples["metrics"][name]) == new["summary"]["metrics"][name]["median"]
    assert_same_speedup(old, new)
    assert new["limit"]["basis"] == old["limit"]["basis"]
    for name, value in new["limit"]["metrics"].items():
        assert value == old["limit"][name]
    assert new["limit"]["by_kind"] == old["limit"]["by_kind"]
    assert new["cost"] == {name: old[name] for name in ("prefill_flops", "decode_bytes_per_step")}
    assert new["validity"]["verdict"] == old["validity"]["verdict"]
    assert [
        {name: value for name, value in reason.items() if name != "severity"}
        for reason in new["validity"]["reasons"]
    ] == old["validity"]["reasons"]
    if old["agreement"] is None:
        assert new["output_check"] is None
    else:
        assert old["agreement"].items() <= new["output_check"].items()
        assert new["output_check"]["checked"] == ["logits", "cache"]


def assert_same_summary(old: dict, new: dict, estimated: bool) -> None:
    """Intervals of estimates now hold the error of the estimate."""
    intervals = {"median_ci95", "mean_ci95"} if estimated else set()
    assert {k: v for k, v in new.items() if k not in intervals} == {
        k: v for k, v in old.items() if k not in intervals
    }
    assert all(is_wider(new[name], old[name]) for name in intervals)


def is_wider(new: list[float], old: list[float]) -> bool:
    return new[0] < old[0] * 0.99 and new[1] > old[1] * 1.01


def assert_same_speedup(old_cell: dict, new_cell: dict) -> None:
    old, new, estimated = old_cell["speedup"], new_cell["speedup"], old_cell["estimated"]
    if old is None:
        assert new is None
        return
    assert new["baseline"] == with_kernels(old["baseline"], old_cell["options"])
    assert new["plain_eager"] == old.get("plain_eager")  # none is published
    for name in ("ttft", "tbot", "total"):
        before, after = old[name], new["metrics"][f"{name}_s"]
        if estimated:
            assert after["ratio"] == before["ratio"]
            assert is_wider(after["ci95"], before["ci95"])
        else:
            assert before.items() <= after.items()


def test_no_published_estimate_leaves_out_the_measured_value():
    """The interval of an estimate of version 1 held the noise of the runs alone."""

    def session(folder: str) -> dict:
        return read_result(next(path for path in PUBLISHED if path.parent.name == folder))

    def cells(result: dict) -> dict:
        estimated = result["cells"]
        return {cell["name"]["variant"]: cell for cell in estimated if cell["num_layers"] == 32}

    files = session("extrapolation"), session("session")
    if len({file["environment"]["git_commit"] for file in files}) > 1:
        pytest.skip("what was estimated and what was measured are of different code")
    estimates, measured = map(cells, files)
    assert len(estimates) == 3
    for name, cell in estimates.items():
        for metric in ("ttft_s", "tbot_s"):
            low, high = cell["summary"]["metrics"][metric]["median_ci95"]
            assert low < measured[name]["summary"]["metrics"][metric]["median"] < high
            if speedup := cell["speedup"]:
                truth = measured[name]["speedup"]["metrics"][metric]["ratio"]
                assert speedup["metrics"][metric]["ci95"][0] < truth
                assert truth < speedup["metrics"][metric]["ci95"][1]


def median(values: list[float]) -> float:
    middle, ordered = len(values) // 2, sorted(values)
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class TestVersion1:
    def test_the_fixture_fits_the_schema(self):
        VALIDATOR.validate(converted())

    def test_the_document_itself_is_not_touched(self):
        document = copy.deepcopy(OLD)
        to_version_2(document)
        assert document == OLD

    def test_metrics_that_readers_derived_are_there(self):
        samples, old = converted()["cells"][0]["samples"], OLD["cells"][0]["samples"]
        assert samples["metrics"]["tbot_s"] == [time / 4 for time in old["decode_s"]]
        assert samples["metrics"]["total_s"] == [
            first + rest for first, rest in zip(old["ttft_s"], old["decode_s"], strict=True)
        ]

    def test_one_output_token_has_no_decode(self):
        document = copy.deepcopy(OLD)
        document["config"]["output_length"] = 1
        document["cells"][0]["samples"] |= {"decode_s": [0.0, 0.0], "step_s": [[], []]}
        result = to_version_2(document)
        metrics = result["cells"][0]["samples"]["metrics"]
        assert (metrics["decode_s"], metrics["tbot_s"]) == ([], [])
        assert metrics["total_s"] == metrics["ttft_s"]
        VALIDATOR.validate(result)

    def test_a_wrong_output_keeps_its_samples_under_a_name_that_says_so(self):
        cell = converted()["cells"][1]
        assert (cell["samples"], cell["summary"], cell["speedup"]) == (None, None, None)
        assert (
            cell["wrong_output_samples"]["metrics"]["ttft_s"]
            == (OLD["cells"][1]["samples"]["ttft_s"])
        )
        assert [reason["severity"] for reason in cell["validity"]["reasons"]] == ["invalid"] * 2

    def test_names_are_taken_from_labels(self):
        names = [cell["name"] for cell in converted()["cells"]]
        assert [name["variant"] for name in names] == [
            "inductor+graphs",
            "thunder[no nvfuser]+graphs",
            "eager",
        ]
        assert {(name["batch_size"], name["depth"]) for name in names} == {(1, None)}

    @pytest.mark.parametrize(
        ("rest", "depth"),
        [("", None), (" 4L", "4L"), (" [8 layers]", "8L"), (" EST", "EST"), (" ESTIMATE", "EST")],
    )
    def test_depths_of_old_and_oldest_labels(self, rest, depth):
        document = copy.deepcopy(OLD)
        document["cells"][0]["label"] = f"inductor+graphs b1{rest}"
        cell = to_version_2(document)["cells"][0]
        assert (cell["name"]["depth"], cell["label"]) == (depth, f"inductor+graphs b1{rest}")

    def test_a_smoke_run_is_no_reason_any_more(self):
        assert converted()["cells"][2]["validity"] == {"verdict": "valid", "reasons": []}

    def test_speedups_by_metric(self):
        speedup = converted()["cells"][0]["speedup"]
        assert speedup["metrics"]["tbot_s"]["ratio"] == 1.1
        assert speedup["metrics"]["total_s"] is None
        assert speedup["plain_eager"]["metrics"]["tbot_s"]["ratio"] == 2.0

    @pytest.mark.parametrize(
        ("fields", "state"),
        [
            ({"stop_reason": "fixed"}, "complete"),
            ({"stop_reason": None}, "running"),
            ({"stop_reason": "interrupted"}, "interrupted"),
            ({"status": "partial", "stop_reason": None}, "interrupted"),
            ({"status": "failed", "stop_reason": None}, "failed"),
        ],
    )
    def test_how_the_session_ended(self, fields, state):
        document = copy.deepcopy(OLD)
        document["cells"] = [document["cells"][0] | fields]
        assert to_version_2(document)["state"] == state


class TestText:
    def test_control_characters_never_reach_a_reader(self, tmp_path):
        document = copy.deepcopy(OLD)
        document["cells"][0]["label"] = "evil\x1b[2J\nrow b1"
        document["config"]["model_name"] = "name\r\u202e\ud800"
        path = tmp_path / "evil.json"
        path.write_text(json.dumps(document))
        result = read_result(path)
        assert result["cells"][0]["label"] == "evil\\x1b[2J row b1"
        assert result["config"]["model_name"] == "name \\u202e\\ud800"

    def test_numbers_and_nulls_stay(self):
        assert printable({"a": [1.5, 2.5], "b": [None, 1, True], "c": None}) == {
            "a": [1.5, 2.5],
            "b": [None, 1, True],
            "c": None,
        }


class TestShape:
    """The small validator agrees with jsonschema, but for keys that it does not know."""

    @pytest.mark.parametrize("original", [converted()], ids=["version 2"])
    def test_it_refuses_what_jsonschema_refuses(self, original):
        for document in with_odd_fields(original, (None, [None], {}, "x", -1, 1.5)):
            assert (departure(document) is None) == VALIDATOR.is_valid(document), document

    def test_missing_keys_are_named(self):
        document = converted()
        for section, key in places(document):
            with mock.patch.dict(section(document)):
                del section(document)[key]
                if not VALIDATOR.is_valid(document):
                    assert f"has no {key}" in departure(document)

    def test_keys_of_a_later_program_are_passed(self):
        document = converted() | {"weather": "fine"}
        assert departure(document) is None
        assert not VALIDATOR.is_valid(document)
