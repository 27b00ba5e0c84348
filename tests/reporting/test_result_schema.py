"""The JSON Schema of the result file: what it accepts and what it refuses."""

import json

import jsonschema
import pytest
from conftest import ROOT
from fake_results import (
    fake_cell,
    fake_forward_cell,
    fake_result,
    fake_speedup,
    with_wrong_output,
)

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_fake_results_are_valid():
    VALIDATOR.check_schema(SCHEMA)
    empty = fake_cell("eager", runs=0, status="oom", error="out of memory", stop_reason=None)
    wrong = with_wrong_output(fake_cell("inductor"))
    VALIDATOR.validate(fake_result([fake_cell(), empty, wrong], {"gpu": None}))


def test_another_workload_has_metrics_of_its_own():
    VALIDATOR.validate(fake_result([fake_forward_cell()], workload="forward", output_length=None))


def test_what_is_not_known_yet_may_be_null():
    unknown = ("limit", "bound", "samples", "summary", "speedup", "cold_start", "memory")
    unknown += ("gpu_state", "host", "profile", "output_check", "validity", "stop_reason")
    result = fake_result([fake_cell(**dict.fromkeys(unknown), cost={"prefill_flops": None})])
    VALIDATOR.validate(result | {"state": "running", "ended": None})


def test_a_speedup_holds_ratios_or_null_by_metric():
    speedup = fake_speedup("eager b1", tbot_s=1.2, total_s=1.1)
    speedup["metrics"]["ttft_s"] = None
    plain = {"baseline": "eager b1", "metrics": speedup["metrics"]}
    VALIDATOR.validate(fake_result([fake_cell(speedup={**speedup, "plain_eager": plain})]))
    speedup["metrics"]["tbot_s"]["verdict"] = "better"
    assert not VALIDATOR.is_valid(fake_result([fake_cell(speedup=speedup)]))


def test_sessions_of_a_set_say_which_they_are():
    session_set = {"id": "a", "index": 0, "size": 3}
    VALIDATOR.validate(fake_result([]) | {"session_set": session_set})
    assert not VALIDATOR.is_valid(fake_result([]) | {"session_set": {"id": "a"}})


def test_an_estimate_says_what_it_comes_from_and_was_never_checked():
    extrapolation = {"from_layers": [4, 8], "to_layers": 32, "weight": 7.0, "error": None}
    never = dict.fromkeys(("cold_start", "gpu_state", "output_check"))
    fields = {"estimated": True, "extrapolation": extrapolation, **never}
    VALIDATOR.validate(fake_result([fake_cell(**fields)]))
    for missing in ({"extrapolation": None}, {"output_check": fake_cell()["output_check"]}):
        assert not VALIDATOR.is_valid(fake_result([fake_cell(**{**fields, **missing})]))
    assert not VALIDATOR.is_valid(fake_result([fake_cell(extrapolation=extrapolation)]))


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "fine"},
        {"timer": "stopwatch"},
        {"stop_reason": "tired"},
        {"validity": {"verdict": "valid"}},
        {"validity": {"verdict": "valid", "reasons": [{"code": "a", "message": "", "remedy": ""}]}},
        {"output_check": {}},
        {"limit": {"basis": "hope", "metrics": {}, "by_kind": {}}},
        {"bound": {"tbot_s": "patience"}},
        {"batch_size": 0},
        {"name": "thunder"},
        {"samples": {"round": [], "started": [], "metrics": {"ttft_s": [0.0]}, "steps": {}}},
        {"unheard_of": 1},
    ],
)
def test_a_wrong_field_is_refused(fields):
    assert not VALIDATOR.is_valid(fake_result([fake_cell(**fields)]))


@pytest.mark.parametrize("field", list(fake_cell()))
def test_every_field_of_a_cell_is_required(field):
    cell = fake_cell()
    del cell[field]
    assert not VALIDATOR.is_valid(fake_result([cell]))


@pytest.mark.parametrize("field", list(fake_result([])))
def test_every_field_of_a_result_is_required(field):
    result = fake_result([])
    del result[field]
    assert not VALIDATOR.is_valid(result)


@pytest.mark.parametrize("section", ["environment", "config", "model"])
def test_named_fields_are_required_and_others_welcome_in_open_sections(section):
    result = fake_result([])
    result[section] |= {"something_else": 1}
    VALIDATOR.validate(result)
    result[section].popitem()
    first = next(iter(result[section]))
    del result[section][first]
    assert not VALIDATOR.is_valid(result)
