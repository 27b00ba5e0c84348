"""The JSON Schema of the result file: what it accepts and what it refuses."""

import json

import jsonschema
import pytest
from conftest import ROOT
from fake_results import fake_cell, fake_result

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_fake_results_are_valid():
    VALIDATOR.check_schema(SCHEMA)
    empty = fake_cell("eager", runs=0, status="oom", error="out of memory", stop_reason=None)
    VALIDATOR.validate(fake_result([fake_cell(), empty], {"gpu": None}))


def test_what_a_first_version_cannot_fill_may_be_null():
    unknown = ("limit", "samples", "summary", "speedup", "cold_start", "memory", "gpu_state")
    nothing = dict.fromkeys((*unknown, "agreement", "validity", "stop_reason"))
    VALIDATOR.validate(fake_result([fake_cell(**nothing, prefill_flops=None)]))


def test_a_speedup_holds_ratios_or_null():
    ratio = {"ratio": 1.2, "ci95": [1.1, 1.3], "verdict": "faster"}
    speedup = {"baseline": "eager b1", "ttft": None, "tbot": ratio, "total": ratio}
    plain = {"ttft": ratio, "tbot": ratio, "total": None}
    VALIDATOR.validate(fake_result([fake_cell(speedup={**speedup, "plain_eager": plain})]))
    wrong = {**speedup, "tbot": {**ratio, "verdict": "better"}}
    assert not VALIDATOR.is_valid(fake_result([fake_cell(speedup=wrong)]))


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "fine"},
        {"timer": "stopwatch"},
        {"stop_reason": "tired"},
        {"validity": {"verdict": "valid"}},
        {"agreement": {}},
        {"limit": {"ttft_s": 0.1, "tbot_s": 0.1, "basis": "hope"}},
        {"batch_size": 0},
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


@pytest.mark.parametrize("section", ["environment", "config", "model"])
def test_named_fields_are_required_and_others_welcome_in_open_sections(section):
    result = fake_result([])
    result[section] |= {"something_else": 1}
    VALIDATOR.validate(result)
    result[section].popitem()
    first = next(iter(result[section]))
    del result[section][first]
    assert not VALIDATOR.is_valid(result)
