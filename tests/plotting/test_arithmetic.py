"""The work and the hardware behind a file's limits: exactly the file's own numbers, or nothing."""

import copy

import pytest
from conftest import ROOT

from inference_benchmark.plotting.arithmetic import ceilings_of, cost_of, limits_at
from inference_benchmark.reporting.reading import read_result

PUBLISHED = ROOT / "results" / "published"
(BATCH_SIZES,) = (PUBLISHED / "batch_sizes").glob("*kernels*.json")


@pytest.fixture(scope="module")
def result():
    return read_result(BATCH_SIZES)


def test_the_work_is_that_of_the_file(result):
    for cell in result["cells"]:
        cost = cost_of(result, cell)
        assert cost.facts == cell["cost"]


def test_the_hardware_is_that_of_the_datasheet(result):
    ceilings = ceilings_of([(result, cell) for cell in result["cells"]])
    assert ceilings.bandwidth_bytes_per_s == pytest.approx(4.8e12)
    assert ceilings.peak_flops == pytest.approx(989e12, rel=0.001)
    assert ceilings.basis == "datasheet"


def test_the_hardware_is_that_of_the_sessions_own_measurement():
    result = read_result(PUBLISHED / "as_shipped_earlier" / "llama3.1-8b.json")
    ceilings = ceilings_of([(result, cell) for cell in result["cells"]])
    assert ceilings.bandwidth_bytes_per_s == pytest.approx(4.36e12, rel=0.02)  # of 4.8 on paper
    assert 600e12 < ceilings.peak_flops < 989e12
    assert ceilings.basis == "measured"


def test_a_limit_at_another_batch_is_that_of_its_own_cell(result):
    first, *others = result["cells"]
    ceilings = ceilings_of([(result, first)])
    for cell in others:
        assert limits_at(result, first, ceilings, cell["batch_size"]) == pytest.approx(
            cell["limit"]["metrics"]
        )


def test_work_that_disagrees_with_the_file_is_not_used(result):
    other = copy.deepcopy(result["cells"][0])
    other["cost"]["prefill_flops"] *= 1.001
    assert cost_of(result, other) is None
    assert ceilings_of([(result, other)]) is None
    assert cost_of(result, other | {"cost": {}}) is None


def test_an_unknown_model_has_no_work(result):
    unknown = result | {"config": result["config"] | {"model_name": "of a user"}}
    assert cost_of(unknown, result["cells"][0]) is None


def test_limits_that_one_hardware_cannot_have_give_none(result):
    other = copy.deepcopy(result["cells"][1])
    other["limit"]["metrics"]["tbot_s"] *= 2
    assert ceilings_of([(result, result["cells"][0]), (result, other)]) is None
