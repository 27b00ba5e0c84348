"""GPU state: scripted NVML readings in, SI units out; what can't be read is None."""

import builtins
import os

import pytest
from fake_nvml import (
    NOT_SUPPORTED,
    STRANGER,
    UUID,
    FakeNvml,
    field_value,
    process,
    unsupported,
)

from inference_benchmark.system.gpu_state import GpuMonitor


@pytest.fixture
def nvml():
    return FakeNvml()


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
