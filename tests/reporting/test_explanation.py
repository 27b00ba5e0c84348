"""Phases of a run by kind of kernel, and what bounds a step, from fake cells."""

import pytest
from fake_results import fake_cell, fake_forward_cell

from inference_benchmark.reporting.explanation import costliest, explain, what_bounds

PROFILE = {
    "kernel_s": 0.005,
    "kernels": 360.0,
    "by_kind": {"matmul": 0.004, "attention": 0.001},
    "costliest": [{"name": "nvjet", "kind": "matmul", "calls": 32.0, "s": 0.002}],
}

DECODE = PROFILE | {"metric": "tbot_s"}
FORWARD_PROFILE = PROFILE | {"metric": "forward_s"}


def test_each_phase_of_a_workload_has_a_table():
    profile = {"prefill": PROFILE | {"metric": "ttft_s"}, "decode": DECODE}
    limit = fake_cell()["limit"] | {"by_kind": {"decode": {"matmul": 0.0036}}}
    text = explain(fake_cell(profile=profile, limit=limit, noise=0.0))
    assert "one prefill of thunder b1, 360 kernels" in text
    decode = text.split("one decode step of thunder b1")[1].splitlines()
    assert decode[1].split() == ["kind", "ms", "share", "limit", "ms", "(datasheet)"]
    assert [line.split() for line in decode[3:]] == [
        ["matmul", "4.000", "67%", "3.600"],
        ["attention", "1.000", "17%", "-"],
        ["kernels", "5.000", "83%", "3.600"],
        ["idle", "1.000", "17%", "-"],
        ["median", "of", "runs", "6.000", "3.600"],
    ]


def test_limits_of_the_very_positions_that_were_profiled_come_first():
    phase = DECODE | {"limit_by_kind": {"matmul": 0.002, "attention": 0.0005}}
    phase |= {"limit_s": 0.0025, "contexts": [1000, 1007]}
    limit = fake_cell()["limit"] | {"by_kind": {"decode": {"matmul": 0.0036}}}
    text = explain(fake_cell(profile={"decode": phase}, limit=limit))
    assert text.splitlines()[0].endswith("360 kernels, context 1,000 to 1,007")
    limits = {line.split()[0]: line.split()[-1] for line in text.splitlines()[3:]}
    assert limits == {
        "matmul": "2.000",
        "attention": "0.5000",
        "kernels": "2.500",
        "idle": "-",
        "median": "3.600",  # of a whole run
    }


def test_another_workload_has_other_phases():
    text = explain(fake_forward_cell(profile={"forward": FORWARD_PROFILE}, noise=0.0))
    assert text.splitlines()[0] == "one forward of eager b1, 360 kernels"
    assert text.splitlines()[-1].split()[:4] == ["median", "of", "runs", "40.00"]
    assert "nvjet" in costliest(fake_forward_cell(profile={"forward": FORWARD_PROFILE}))


@pytest.mark.parametrize(
    ("cell", "host", "words"),
    [
        (
            fake_cell(profile={"decode": DECODE}),
            {"decode_busy_share": 0.99},
            "decode is bound by the GPU's bandwidth",
        ),
        (
            fake_forward_cell(profile={"forward": FORWARD_PROFILE}),
            {"forward_busy_share": 0.9},
            "forward is bound by the GPU's comp",
        ),
    ],
)
def test_what_bounds_a_step_is_said_of_the_workloads_own(cell, host, words):
    text = what_bounds(cell | {"host": host | {"enqueue_over_kernel": 0.1}})
    assert words in text
    assert "busy 9" in text
    launches = what_bounds(cell | {"host": host | {"enqueue_over_kernel": 2.5}})
    assert "is bound by launches: enqueueing a step takes 2.5x" in launches


def test_a_step_at_the_power_limit_says_so():
    state = {"power_limit_w": 700.0, "sm_clock_hz": {"median": 1.9125e9}}
    cell = fake_cell(host={"decode_busy_share": 0.99, "enqueue_over_kernel": 0.1})
    for share, words in (
        (0.99, "700 W for 99% of the time, SM clock 1,912 MHz"),
        (0.1, "time"),
    ):
        limited = state | {"throttled_share": {"software_power_cap": share}}
        assert what_bounds(cell | {"gpu_state": limited}).endswith(words)


def test_without_a_profile_it_says_so():
    assert "no profile" in explain(fake_cell())
