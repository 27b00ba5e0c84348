"""Summaries of GPU snapshots and energy per token, by hand."""

import pytest

from inference_benchmark.system import gpu_state
from inference_benchmark.system.gpu_state import Snapshot
from inference_benchmark.system.gpu_summary import energy_per_token_j, summarize_state


def snap(time_s, **readings):
    defaults = {
        "sm_clock_hz": 1.98e9,
        "memory_clock_hz": 3.2e9,
        "temperature_c": 40.0,
        "power_limit_w": 700.0,
        "default_power_limit_w": 700.0,
        "power_w": 500.0,
        "energy_j": 0.0,
        "throttled_s": dict.fromkeys(gpu_state.THROTTLE_FIELDS, 0.0),
        "event_reasons": (),
        "other_processes": (),
    }
    return Snapshot(time_s=time_s, **(defaults | readings))


def counters(**seconds):
    return dict.fromkeys(gpu_state.THROTTLE_FIELDS, 0.0) | seconds


def test_summary_by_hand():
    before = [
        snap(10.0, sm_clock_hz=0.345e9, temperature_c=38.0),
        snap(20.0, temperature_c=45.0, energy_j=2000.0),
    ]
    after = [
        snap(
            12.0,
            sm_clock_hz=1.98e9,
            temperature_c=44.0,
            energy_j=1000.0,
            throttled_s=counters(software_power_cap=0.5),
            event_reasons=("software_power_cap",),
        ),
        snap(
            22.0,
            sm_clock_hz=1.90e9,
            temperature_c=51.0,
            energy_j=3200.0,
            throttled_s=counters(software_power_cap=0.3, hardware_thermal=0.1),
            event_reasons=("idle",),
        ),
    ]
    state = summarize_state(before, after)
    assert state["runs"] == 2
    assert state["window_s"] == pytest.approx(4.0)
    # The idle clock before the first run is no clock of a run.
    assert state["sm_clock_hz"] == pytest.approx({"min": 1.90e9, "median": 1.94e9, "max": 1.98e9})
    assert state["temperature_c"] == {"min": 38.0, "max": 51.0}
    assert state["power_limit_w"] == 700.0
    assert state["throttled_s"]["software_power_cap"] == pytest.approx(0.8)
    assert state["throttled_share"]["software_power_cap"] == pytest.approx(0.2)
    assert state["throttled_share"]["hardware_thermal"] == pytest.approx(0.025)
    assert state["throttled_share"]["sync_boost"] == 0.0
    assert state["energy_j"] == pytest.approx(2200.0)
    assert state["energy_window_s"] == pytest.approx(4.0)
    assert state["event_reasons"] == ["idle", "software_power_cap"]
    assert state["other_processes"] == []


def test_summary_lists_each_process_once_with_its_peak():
    before = [snap(0.0, other_processes=({"pid": 7, "used_memory_bytes": 100},))]
    after = [
        snap(
            1.0,
            other_processes=(
                {"pid": 7, "used_memory_bytes": 300},
                {"pid": 3, "used_memory_bytes": None},
            ),
        )
    ]
    assert summarize_state(before, after)["other_processes"] == [
        {"pid": 3, "used_memory_bytes": None},
        {"pid": 7, "used_memory_bytes": 300},
    ]


def test_summary_of_nothing_is_none():
    assert summarize_state([], []) is None
    assert summarize_state([None, None], [None, None]) is None


def test_unknown_readings_stay_unknown_in_the_summary():
    blank = {
        "sm_clock_hz": None,
        "temperature_c": None,
        "power_limit_w": None,
        "default_power_limit_w": None,
        "energy_j": None,
        "event_reasons": None,
        "other_processes": None,
        "throttled_s": dict.fromkeys(gpu_state.THROTTLE_FIELDS),
    }
    state = summarize_state([snap(0.0, **blank)], [snap(1.0, **blank)])
    for field in (*blank, "energy_window_s"):
        if field != "throttled_s":
            assert state[field] is None, field
    assert set(state["throttled_s"].values()) == {None}
    assert set(state["throttled_share"].values()) == {None}


def test_a_counter_that_ran_backwards_is_unknown():
    state = summarize_state(
        [snap(0.0, energy_j=900.0, throttled_s=counters(sync_boost=5.0))],
        [snap(1.0, energy_j=100.0, throttled_s=counters(sync_boost=1.0))],
    )
    assert state["energy_j"] is None
    assert state["throttled_s"]["sync_boost"] is None
    assert state["throttled_s"]["software_thermal"] == 0.0


def energy_runs(count, seconds, joules):
    before = [snap(10.0 * i, energy_j=1000.0 * i) for i in range(count)]
    after = [snap(10.0 * i + seconds, energy_j=1000.0 * i + joules) for i in range(count)]
    return before, after


def test_energy_per_token_sums_over_the_runs():
    before, after = energy_runs(count=4, seconds=0.5, joules=250.0)
    assert energy_per_token_j(before, after, tokens=500) == pytest.approx(2.0)


@pytest.mark.parametrize(("count", "seconds"), [(3, 0.5), (100, 0.1)])
def test_energy_of_short_windows_is_unknown(count, seconds):
    before, after = energy_runs(count, seconds, joules=100.0)
    assert energy_per_token_j(before, after, tokens=500) is None


def test_window_limit_can_be_changed():
    before, after = energy_runs(count=3, seconds=0.5, joules=100.0)
    assert energy_per_token_j(before, after, 300, min_window_s=1.0) == pytest.approx(1.0)


def test_energy_is_unknown_if_one_run_lacks_it():
    before, after = energy_runs(count=5, seconds=1.0, joules=100.0)
    assert energy_per_token_j(before, [*after[:4], None], tokens=500) is None
    assert energy_per_token_j(before, [*after[:4], snap(41.0, energy_j=None)], 500) is None
    assert energy_per_token_j([], [], tokens=500) is None
