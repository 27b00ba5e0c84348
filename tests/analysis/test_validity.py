"""Validity: each rule fires on its evidence, and stays silent on the nearest good case."""

from dataclasses import replace

import pytest
from validity_cases import CASES, GOOD, STEADY, shares

from inference_benchmark.analysis.validity import (
    RULES,
    Evidence,
    LimitShare,
    judge,
    judge_estimate,
    limit_share,
)


def codes(evidence):
    return [reason["code"] for reason in judge(evidence)["reasons"]]


def test_good_evidence_is_valid():
    assert judge(GOOD) == {"verdict": "valid", "reasons": []}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rule_fires_alone_with_its_numbers(case):
    code, verdict, bad, _, shown = case
    judged = judge(replace(GOOD, **bad))
    assert [reason["code"] for reason in judged["reasons"]] == [code]
    assert judged["verdict"] == verdict
    (reason,) = judged["reasons"]
    assert shown in reason["message"]
    assert reason["remedy"].endswith(".")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_neighbouring_good_case_is_valid(case):
    assert judge(replace(GOOD, **case[3])) == {"verdict": "valid", "reasons": []}


def test_every_rule_is_exercised_under_its_own_code():
    assert {case[0] for case in CASES.values()} == {rule.__name__ for rule in RULES}


def test_the_gravest_verdict_wins_and_all_reasons_are_kept():
    judged = judge(replace(GOOD, output_check_passed=False, recompilations=1, allocator_retries=1))
    assert judged["verdict"] == "invalid"
    assert codes(
        replace(GOOD, output_check_passed=False, recompilations=1, allocator_retries=1)
    ) == [
        "wrong_output",
        "recompiled",
        "allocator_retries",
    ]


def test_nothing_known_is_no_ground_for_invalid():
    judged = judge(Evidence(device="cuda"))
    assert judged["verdict"] == "suspect"
    assert codes(Evidence(device="cuda")) == [
        "output_not_checked",
        "gpu_state_unknown",
        "too_few_runs",
    ]


def test_five_runs_are_too_few_to_call_a_drift():
    def rising(runs):
        return replace(GOOD, samples={"TTFT": STEADY, "TBOT": [1 + 0.04 * i for i in range(runs)]})

    assert codes(rising(5)) == []
    assert codes(rising(6)) == ["drift"]


@pytest.mark.parametrize("times", [(), (1.0,), (1.0, 5.0), (3.0, 1.0, 1.0, 1.0, 9.0)])
def test_a_short_session_is_unverified_whatever_its_times(times):
    few = replace(GOOD, samples={"TTFT": times, "TBOT": times}, target_ci=None)
    assert judge(few)["verdict"] == "unverified"
    assert codes(few) == ["too_few_runs"]
    asked = judge(replace(few, target_ci=0.01, achieved_ci=0.5, stop_reason="timeout"))
    assert asked["verdict"] == "unverified"
    throttled = replace(few, gpu_state=shares(hardware_thermal=0.01))
    assert judge(throttled)["verdict"] == "suspect"


def test_a_cpu_alone_is_no_reason():
    on_cpu = replace(GOOD, device="cpu", gpu_state=None, load_average=0.1, cpus=2)
    assert judge(replace(on_cpu, involuntary_switches=100)) == {"verdict": "valid", "reasons": []}


def test_an_estimate_inherits_the_reasons_of_its_sources():
    source = judge(replace(GOOD, gpu_state=shares(hardware_thermal=0.02)))
    judgement = judge_estimate(replace(GOOD, gpu_state=None), [source, source])
    assert judgement["verdict"] == "invalid"
    assert [reason["code"] for reason in judgement["reasons"]] == ["throttled"]


def test_limit_share_by_hand():
    times = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]  # median 1.25, exact interval 1.0 to 1.5
    share = limit_share(1.2, times, "datasheet")
    assert share == LimitShare(pytest.approx(0.96), pytest.approx(0.8), "datasheet")
    measured = limit_share(1.2, times, "measured", limit_uncertainty=0.05)
    assert measured.low == pytest.approx(0.76)
    assert limit_share(None, times, "given") is limit_share(1.0, [], "given") is None
    assert limit_share(1.2, [1.0], "given").low == pytest.approx(1.2)


def test_first_run_is_compared_with_the_median_of_the_rest():
    # One later outlier must not hide a slow first run, nor a slow first run hide in the median.
    times = (1.06, 1.0, 1.0, 1.0, 1.0, 9.0)
    assert codes(replace(GOOD, samples={"total": times})) == ["first_run_slow"]
