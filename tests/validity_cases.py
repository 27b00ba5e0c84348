"""Evidence for the rules of validity: what fires each one, and the nearest that does not."""

from inference_benchmark.analysis.validity import Evidence, LimitShare

STEADY = (1.00, 1.01, 0.99, 1.00, 1.01, 0.99, 1.00, 1.01, 0.99)
STEP = (*[1.0, 1.001, 0.999, 1.0] * 2, *[1.06, 1.061, 1.059, 1.06] * 2)
ALTERNATING = (1.0001, 1.0281, 1.0, 1.0279, 1.0002, 1.0283, 0.9999, 1.028, 1.0003, 1.0278)
RISING = (1.000, 1.004, 1.008, 1.012, 1.016, 1.020, 1.024, 1.028, 1.032)

CLEAN_STATE = {
    "sm_clock_hz": {"min": 1.9e9, "median": 1.98e9, "max": 1.98e9},
    "power_limit_w": 700.0,
    "throttled_share": {
        "software_power_cap": 0.0,
        "sync_boost": 0.0,
        "software_thermal": 0.0,
        "hardware_thermal": 0.0,
        "hardware_power_brake": None,
    },
    "other_processes": [],
}

CAPPED = {"software_power_cap": 0.95}


def clocked(hz, **changes):
    return CLEAN_STATE | {"sm_clock_hz": {"min": hz, "median": hz, "max": hz}} | changes


GOOD = Evidence(
    device="cuda",
    samples={"TTFT": STEADY, "TBOT": STEADY, "total": STEADY},
    gpu_state=CLEAN_STATE,
    other_cells_gpu_state=(clocked(1.98e9), clocked(1.975e9)),
    recompilations=0,
    allocator_retries=0,
    timer_disagreement=(0.001, 0.004),
    target_ci=0.01,
    achieved_ci=0.008,
    stop_reason="converged",
    output_check_passed=True,
)


def state(**changes):
    return CLEAN_STATE | changes


def shares(**changes):
    return state(throttled_share=CLEAN_STATE["throttled_share"] | changes)


def first_run(excess):
    return (1.0 + excess, *[1.0] * 8)


def scaled_trend(total):
    """Nine rising runs whose last third's median is `total` above the first third's."""
    return tuple(1.0 + total * (i - 1) / 6 for i in range(9))


# code, verdict, evidence that fires it, the nearest evidence that does not, what the message shows
CASES = {
    "hardware thermal": (
        "throttled",
        "invalid",
        {"gpu_state": shares(hardware_thermal=0.02)},
        {"gpu_state": shares(hardware_thermal=0.0)},
        "hardware thermal slowdown 2.00%",
    ),
    "power brake": (
        "throttled",
        "invalid",
        {"gpu_state": shares(hardware_power_brake=0.011)},
        {"gpu_state": shares(hardware_power_brake=None)},
        "power brake 1.10%",
    ),
    "software thermal": (
        "throttled",
        "invalid",
        {"gpu_state": shares(software_thermal=0.3)},
        {"gpu_state": shares(software_thermal=0.0)},
        "thermal limit 30.00%",
    ),
    "a little thermal": (
        "throttled",
        "suspect",
        {"gpu_state": shares(hardware_thermal=0.01)},
        {"gpu_state": shares(hardware_thermal=0.0)},
        "1.00%",
    ),
    "power cap": (
        "power_capped",
        "suspect",
        {"gpu_state": shares(software_power_cap=0.25)},
        {"gpu_state": shares(software_power_cap=0.20)},
        "power limit 25.00% (expected: at most 20%). The power limit is 700 W.",
    ),
    "power cap at a lowered limit": (
        "power_capped",
        "suspect",
        {"gpu_state": shares(software_power_cap=0.9) | {"default_power_limit_w": 701.0}},
        {"gpu_state": shares(software_power_cap=0.9) | {"default_power_limit_w": 700.0}},
        "power limit 90.00%",
    ),
    "sync boost": (
        "power_capped",
        "suspect",
        {"gpu_state": shares(sync_boost=0.21)},
        {"gpu_state": shares(sync_boost=0.19)},
        "sync boost 21.00%",
    ),
    "no NVML": (
        "gpu_state_unknown",
        "suspect",
        {"gpu_state": None},
        {"gpu_state": state(other_processes=None, sm_clock_hz=None)},
        "could not be read",
    ),
    "company": (
        "other_process",
        "suspect",
        {"gpu_state": state(other_processes=[{"pid": 4711, "used_memory_bytes": 2 * 10**9}])},
        {"gpu_state": state(other_processes=[])},
        "pid 4711 (2.00 GB)",
    ),
    "company of unknown size": (
        "other_process",
        "suspect",
        {"gpu_state": state(other_processes=[{"pid": 4711, "used_memory_bytes": None}])},
        {"gpu_state": state(other_processes=None)},
        "pid 4711 (unknown memory)",
    ),
    "clocks": (
        "clocks_differ",
        "suspect",
        {"other_cells_gpu_state": (clocked(1.98e9), clocked(1.83e9))},
        {"other_cells_gpu_state": (clocked(1.98e9), clocked(1.90e9))},
        "1980 MHz here and 1830 MHz in another cell",
    ),
    "clocks that the board's power limit left the slower cell": (
        "clocks_differ",
        "suspect",
        {"other_cells_gpu_state": (clocked(1.83e9, default_power_limit_w=700.0),)},
        {
            "other_cells_gpu_state": (
                clocked(1.83e9, default_power_limit_w=700.0, throttled_share=CAPPED),
            )
        },
        "1830 MHz in another cell",
    ),
    "a power limit that somebody set": (
        "clocks_differ",
        "suspect",
        {
            "other_cells_gpu_state": (
                clocked(1.83e9, default_power_limit_w=800.0, throttled_share=CAPPED),
            )
        },
        {"other_cells_gpu_state": (clocked(1.95e9),)},
        "1830 MHz in another cell",
    ),
    "the faster cell's power limit explains nothing": (
        "clocks_differ",
        "suspect",
        {
            "other_cells_gpu_state": (
                clocked(2.10e9, default_power_limit_w=700.0, throttled_share=CAPPED),
            )
        },
        {"other_cells_gpu_state": (clocked(2.05e9),)},
        "2100 MHz in another cell",
    ),
    "recompiled": (
        "recompiled",
        "suspect",
        {"recompilations": 2},
        {"recompilations": None},
        "2 time(s)",
    ),
    "allocator": (
        "allocator_retries",
        "suspect",
        {"allocator_retries": 3},
        {"allocator_retries": None},
        "3 time(s)",
    ),
    "drift up": (
        "drift",
        "suspect",
        {"samples": {"TBOT": RISING}},
        {"samples": {"TBOT": scaled_trend(0.019)}},
        "TBOT drifted by +2.4%",
    ),
    "drift down": (
        "drift",
        "suspect",
        {"samples": {"TTFT": RISING[::-1]}},
        {"samples": {"TTFT": scaled_trend(-0.019)}},
        "TTFT drifted by -2.3%",
    ),
    "large but no trend": (
        "drift",
        "suspect",
        {"samples": {"total": scaled_trend(0.1)}},
        {"samples": {"total": (1.0, 1.2, 0.9, 1.1, 0.8, 1.0, 1.1, 1.2, 0.9)}},
        "total drifted by +10.0%",
    ),
    "first run": (
        "first_run_slow",
        "suspect",
        {"samples": {"TTFT": first_run(0.06)}},
        {"samples": {"TTFT": first_run(0.04)}},
        "TTFT of the first run is 6.0% above",
    ),
    "first of many that scatter as much": (
        "first_run_slow",
        "suspect",
        {"samples": {"total": (1.5, *[1.0, 1.1] * 4)}, "target_ci": 0.2},
        {"samples": {"total": (1.2, *[1.0, 1.1] * 4)}, "target_ci": 0.2},
        "total of the first run is 42.9% above",
    ),
    "step": (
        "step",
        "suspect",
        {"samples": {"TTFT": STEP}, "target_ci": 0.1},
        {"samples": {"TTFT": tuple(1 + (time - 1) / 4 for time in STEP)}, "target_ci": 0.1},
        "TTFT changed by +6.0% after run 8 of 16",
    ),
    "every other run": (
        "order",
        "suspect",
        {"samples": {"TBOT": ALTERNATING}, "takes_turns": True},
        {"samples": {"TBOT": ALTERNATING}, "takes_turns": False},
        "TBOT differs by 2.8% between rounds of either order (at most 2%)",
    ),
    "every other run, a little": (
        "order",
        "suspect",
        {"samples": {"TBOT": ALTERNATING}, "takes_turns": True},
        {
            "samples": {"TBOT": tuple(1 + (time - 1) / 3 for time in ALTERNATING)},
            "takes_turns": True,
        },
        "2.8%",
    ),
    "scatter of a fixed number of runs": (
        "scatter",
        "suspect",
        {
            "target_ci": None,
            "samples": {"TBOT": (1.0, 0.97, 1.03, 0.96, 1.04, 1.02, 0.98, 1.0, 1.01)},
        },
        {"target_ci": None},
        "TBOT scatters",
    ),
    "a workload's own metric": (
        "drift",
        "suspect",
        {"samples": {"forward": RISING}},
        {"samples": {"forward": STEADY}},
        "forward drifted by +2.4%",
    ),
    "over the limit": (
        "over_limit",
        "invalid",
        {"limit_shares": {"TBOT": LimitShare(1.06, 1.02, "datasheet"), "TTFT": None}},
        {"limit_shares": {"TBOT": LimitShare(1.06, 0.99, "datasheet"), "TTFT": None}},
        "TBOT reaches 106% of its limit (datasheet), at least 102%",
    ),
    "timers": (
        "timers_disagree",
        "suspect",
        {"timer_disagreement": (0.001, 0.03, 0.021)},
        {"timer_disagreement": (0.001, 0.03, 0.021), "timer": "wall"},
        "in 2 of 3 run(s), by up to 3.0%",
    ),
    "precision": (
        "target_not_reached",
        "suspect",
        {"achieved_ci": 0.0123, "stop_reason": "timeout"},
        {"achieved_ci": 0.01},
        "±1.23%, the target ±1.00% (stopped: the time was up)",
    ),
    "precision unknown": (
        "target_not_reached",
        "suspect",
        {"achieved_ci": None, "stop_reason": "interrupted"},
        {"achieved_ci": None, "target_ci": None},
        "is unknown",
    ),
    "wrong output": (
        "wrong_output",
        "invalid",
        {"output_check_passed": False},
        {"output_check_passed": True},
        "tolerance",
    ),
    "unchecked output": (
        "output_not_checked",
        "suspect",
        {"output_check_passed": None},
        {"output_check_passed": True},
        "not compared",
    ),
    "load at the start": (
        "busy_cpus",
        "suspect",
        {"device": "cpu", "gpu_state": None, "load_average": 2.5, "cpus": 8},
        {"device": "cpu", "gpu_state": None, "load_average": 2.0, "cpus": 8},
        "a load of 2.5 on 8 at the start",
    ),
    "CPU taken away": (
        "busy_cpus",
        "suspect",
        {"device": "cpu", "gpu_state": None, "involuntary_switches": 1000, "cpus": 2},  # in 9 s
        {"device": "cpu", "gpu_state": None, "involuntary_switches": 800, "cpus": 2},
        "each taken away 56 times a second",
    ),
    "five runs": (
        "too_few_runs",
        "unverified",
        {"samples": {"TTFT": STEADY[:5], "TBOT": STEADY[:5]}},
        {"samples": {"TTFT": STEADY[:6], "TBOT": STEADY[:6]}},
        "5 runs: fewer",
    ),
}
