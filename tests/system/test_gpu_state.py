"""GPU state: scripted NVML readings in, SI units and hand-computed summaries out."""

import builtins
import os
import subprocess
from types import SimpleNamespace

import pytest

from inference_benchmark.system import gpu_state
from inference_benchmark.system.gpu_state import (
    GpuMonitor,
    OwnProcesses,
    Snapshot,
    energy_per_token_j,
    summarize_state,
)

UUID = "0a1b2c3d-0000-1111-2222-333344445555"
UNSIGNED_INT, UNSIGNED_LONG_LONG = 1, 3
NOT_SUPPORTED = 3
STRANGER, BIGGER_STRANGER = 2**30 + 1, 2**30 + 2  # above any pid that Linux hands out


class NVMLError(Exception):
    pass


def unsupported(*_):
    raise NVMLError("Not Supported")


def field_value(field, number, value_type=UNSIGNED_LONG_LONG, status=0):
    members = {"ullVal": 0xDEAD, "uiVal": 0xBEEF}
    members["uiVal" if value_type == UNSIGNED_INT else "ullVal"] = number
    return SimpleNamespace(
        fieldId=field, nvmlReturn=status, valueType=value_type, value=SimpleNamespace(**members)
    )


def process(pid, used):
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


class FakeNvml:
    """The part of the pynvml module that is used, with scripted readings in NVML's units."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVMLError = NVMLError

    def __init__(self):
        self.opened = 0
        self.uuid = None
        self.processes = []
        self.fields = {
            74: field_value(74, 2_500_000_000),
            76: field_value(76, 0),
            269: field_value(269, 1_000_000),
            270: field_value(270, 0),
            271: field_value(271, 0),
            186: field_value(186, 512_300, UNSIGNED_INT),
        }

    def nvmlInit(self):
        self.opened += 1

    def nvmlShutdown(self):
        self.opened -= 1

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):
        return "handle"

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.uuid = uuid
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle, clock):
        return {1: 1980, 2: 3201}[clock]

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 41

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return 123_456

    def nvmlDeviceGetFieldValues(self, handle, ids):
        return [self.fields[field] for field in ids]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return 0x4 | 0x40

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle):
        return 650_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self.processes


@pytest.fixture
def nvml():
    return FakeNvml()


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


def test_snapshot_converts_to_si_units(nvml):
    snapshot = GpuMonitor(UUID, nvml).snapshot()
    assert snapshot.sm_clock_hz == pytest.approx(1.98e9)
    assert snapshot.memory_clock_hz == pytest.approx(3.201e9)
    assert snapshot.temperature_c == 41.0
    assert snapshot.power_limit_w == pytest.approx(700)
    assert snapshot.default_power_limit_w == pytest.approx(650)
    assert snapshot.power_w == pytest.approx(512.3)
    assert snapshot.energy_j == pytest.approx(123.456)
    assert snapshot.throttled_s == pytest.approx(
        {
            "software_power_cap": 2.5,
            "sync_boost": 0.0,
            "software_thermal": 0.001,
            "hardware_thermal": 0.0,
            "hardware_power_brake": 0.0,
        }
    )
    assert snapshot.event_reasons == ("software_power_cap", "hardware_thermal")
    assert snapshot.other_processes == ()


@pytest.mark.parametrize("given", [UUID, f"GPU-{UUID}"])
def test_uuid_gets_nvmls_prefix_once(nvml, given):
    GpuMonitor(given, nvml)
    assert nvml.uuid == f"GPU-{UUID}"


def test_context_manager_closes_nvml(nvml):
    with GpuMonitor(UUID, nvml) as monitor:
        assert nvml.opened == 1
    assert nvml.opened == 0
    assert monitor.snapshot() is None
    monitor.close()
    assert nvml.opened == 0


def test_no_gpu_opens_nothing(nvml):
    assert GpuMonitor(None, nvml).snapshot() is None
    assert nvml.opened == 0


def test_unknown_uuid_gives_nothing_and_closes(nvml):
    nvml.nvmlDeviceGetHandleByUUID = unsupported
    assert GpuMonitor(UUID, nvml).snapshot() is None
    assert nvml.opened == 0


def test_missing_driver_gives_nothing(nvml):
    nvml.nvmlInit = unsupported
    assert GpuMonitor(UUID, nvml).snapshot() is None


def test_missing_package_gives_nothing(monkeypatch):
    real_import = builtins.__import__

    def without_pynvml(name, *args, **kwargs):
        if name == "pynvml":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pynvml)
    with GpuMonitor(UUID) as monitor:
        assert monitor.snapshot() is None


def test_unsupported_field_is_none_and_spares_the_others(nvml):
    nvml.fields[270] = field_value(270, 99, status=NOT_SUPPORTED)
    throttled = GpuMonitor(UUID, nvml).snapshot().throttled_s
    assert throttled["hardware_thermal"] is None
    assert throttled["software_power_cap"] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("function", "reading"),
    [
        ("nvmlDeviceGetClockInfo", "sm_clock_hz"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit_w"),
        ("nvmlDeviceGetFieldValues", "power_w"),
        ("nvmlDeviceGetTotalEnergyConsumption", "energy_j"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "event_reasons"),
        ("nvmlDeviceGetComputeRunningProcesses", "other_processes"),
    ],
)
def test_each_failing_call_costs_its_own_reading_only(nvml, function, reading):
    setattr(nvml, function, unsupported)
    snapshot = GpuMonitor(UUID, nvml).snapshot()
    assert getattr(snapshot, reading) is None
    survivor = snapshot.energy_j if reading != "energy_j" else snapshot.power_w
    assert survivor is not None


def test_a_call_that_the_package_lacks_is_none(nvml, monkeypatch):
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetTemperature")
    assert GpuMonitor(UUID, nvml).snapshot().temperature_c is None


def test_older_driver_answers_under_the_older_name(nvml):
    nvml.nvmlDeviceGetCurrentClocksEventReasons = unsupported
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x80
    assert GpuMonitor(UUID, nvml).snapshot().event_reasons == ("hardware_power_brake",)


def test_own_process_is_not_another(nvml):
    nvml.processes = [process(os.getpid(), 10**9), process(STRANGER, 5), process(1, None)]
    assert GpuMonitor(UUID, nvml).snapshot().other_processes == (
        {"pid": STRANGER, "used_memory_bytes": 5},
        {"pid": 1, "used_memory_bytes": None},
    )


class TestOwnProcesses:
    def others(self, nvml, own_processes):
        return [
            process["pid"]
            for process in GpuMonitor(UUID, nvml, own_processes).snapshot().other_processes
        ]

    def test_a_stranger_that_appears_at_our_start_is_us_under_the_hosts_number(self, nvml):
        own_processes = OwnProcesses(nvml)
        nvml.processes = [process(STRANGER, 5)]
        with own_processes.starting():
            nvml.processes = [process(STRANGER, 5), process(BIGGER_STRANGER, 10**9)]
        assert self.others(nvml, own_processes) == [STRANGER]
        assert nvml.opened == 1  # the monitor's

    def test_whoever_comes_later_is_foreign(self, nvml):
        own_processes = OwnProcesses(nvml)
        with own_processes.starting():
            nvml.processes = [process(STRANGER, 5)]
        nvml.processes = [process(STRANGER, 5), process(BIGGER_STRANGER, 10**9)]
        assert self.others(nvml, own_processes) == [BIGGER_STRANGER]

    def test_of_more_newcomers_than_were_started_the_rest_is_foreign(self, nvml):
        own_processes = OwnProcesses(nvml)
        with own_processes.starting(workers=2):
            nvml.processes = [process(STRANGER + i, 5) for i in range(3)]
        assert self.others(nvml, own_processes) == [STRANGER + 2]

    def test_where_the_driver_shows_our_number_no_stranger_is_ours(self, nvml):
        own_processes = OwnProcesses(nvml)
        with own_processes.starting():
            nvml.processes = [process(os.getpid(), 5), process(STRANGER, 7)]
        assert self.others(nvml, own_processes) == [STRANGER]

    def test_workers_are_known_as_descendants(self, nvml):
        own_processes = OwnProcesses(nvml)
        worker = subprocess.Popen(["sleep", "60"])
        try:
            with own_processes.starting(workers=1):
                nvml.processes = [process(worker.pid, 5), process(os.getppid(), 7)]
        finally:
            worker.kill()
            worker.wait()
        assert self.others(nvml, own_processes) == [os.getppid()]

    def test_without_nvml_nothing_is_known_and_nothing_raises(self, nvml):
        nvml.nvmlInit = unsupported
        own_processes = OwnProcesses(nvml)
        with own_processes.starting():
            pass
        assert own_processes.pids == {os.getpid()}


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
