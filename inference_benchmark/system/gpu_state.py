"""What the GPU itself was doing around a run: clocks, throttling, temperature, energy, company.

Two readings through NVML, one before and one after a run, bracket it; no thread samples in
between, since that would disturb what is timed. The driver's counters (time throttled, energy)
integrate over the run by themselves, so their difference misses nothing; clocks, temperature and
power are what they were at that instant. Without NVML, a GPU, or one of the readings, the answer
is None: nothing here raises.
"""

import os
import time
from collections.abc import Callable
from ctypes import ArgumentError
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

from inference_benchmark.system.own_processes import OwnProcesses, import_pynvml

# NVML's cumulative counters of time (ns) in which the clocks were held down, by cause.
THROTTLE_FIELDS = {
    "software_power_cap": 74,  # the driver keeps the board within its power limit
    "sync_boost": 76,  # held to the slowest GPU of a sync-boost group
    "software_thermal": 269,  # the driver keeps GPU and memory below their operating limit
    "hardware_thermal": 270,  # too hot: clocks at half or less
    "hardware_power_brake": 271,  # the power supply asked: clocks at half or less
}
INSTANT_POWER_FIELD = 186  # mW; the older power reading is an average over one second

# Bits of NVML's mask of reasons why the clocks are what they are right now.
EVENT_REASONS = {
    0x001: "idle",
    0x002: "application_clocks",
    0x004: "software_power_cap",
    0x008: "hardware_slowdown",
    0x010: "sync_boost",
    0x020: "software_thermal",
    0x040: "hardware_thermal",
    0x080: "hardware_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}

# The member of NVML's value union, by the type it declares.
VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(frozen=True)
class Snapshot:
    """One reading of the GPU. None: this GPU or driver does not say."""

    time_s: float  # monotonic
    sm_clock_hz: float | None
    memory_clock_hz: float | None
    temperature_c: float | None
    power_limit_w: float | None
    default_power_limit_w: float | None  # the board's own; a lower limit was set by somebody
    power_w: float | None
    energy_j: float | None  # since the driver was loaded
    throttled_s: dict[str, float | None]  # cause -> seconds since the driver was loaded
    event_reasons: tuple[str, ...] | None
    other_processes: tuple[dict[str, int | None], ...] | None  # {pid, used_memory_bytes}


class GpuMonitor:
    """Reads one GPU through NVML. A snapshot is a dozen driver calls: never inside a timed region.

    uuid: as `torch.cuda.get_device_properties(i).uuid` gives it (with or without NVML's "GPU-");
        torch's device index is no NVML index once CUDA_VISIBLE_DEVICES is set. None: no GPU.
    nvml: a stand-in for the pynvml module.
    own_processes: those of this program that use the GPU; without it, this process alone.
    """

    def __init__(
        self,
        uuid: object | None,
        nvml: ModuleType | Any | None = None,
        own_processes: OwnProcesses | None = None,
    ) -> None:
        self._nvml = None
        self._handle = None
        self._own_processes = own_processes
        if uuid is not None:
            self._open(str(uuid), import_pynvml() if nvml is None else nvml)

    def _open(self, uuid: str, nvml: ModuleType | Any | None) -> None:
        if nvml is None:
            return
        try:
            nvml.nvmlInit()
        except (nvml.NVMLError, OSError):  # no library, no driver, no permission
            return
        self._nvml = nvml
        nvml_uuid = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        self._handle = self._read(lambda: nvml.nvmlDeviceGetHandleByUUID(nvml_uuid))
        if self._handle is None:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._nvml is not None:
            self._read(self._nvml.nvmlShutdown)
        self._nvml = self._handle = None

    def snapshot(self) -> Snapshot | None:
        """The GPU's state now, or None where there is no GPU to read."""
        if self._handle is None:
            return None
        nvml, gpu = self._nvml, self._handle
        # The clock first: it is the one that changes as soon as the work is done.
        sm_clock_hz = self._read(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM), 1e6)
        fields = self._fields((*THROTTLE_FIELDS.values(), INSTANT_POWER_FIELD))
        return Snapshot(
            time_s=time.monotonic(),
            sm_clock_hz=sm_clock_hz,
            memory_clock_hz=self._read(
                lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM), 1e6
            ),
            temperature_c=self._read(
                lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU), 1.0
            ),
            power_limit_w=self._read(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu), 1e-3),
            default_power_limit_w=self._read(
                lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu), 1e-3
            ),
            power_w=_scaled(fields.get(INSTANT_POWER_FIELD), 1e-3),
            energy_j=self._read(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu), 1e-3),
            throttled_s={
                cause: _scaled(fields.get(field), 1e-9) for cause, field in THROTTLE_FIELDS.items()
            },
            event_reasons=self._event_reasons(),
            other_processes=self._other_processes(),
        )

    def _read(self, call: Callable[[], Any], scale: float | None = None) -> Any:
        """What the call returns, scaled to SI units, or None where it can't say."""
        # NVML's errors, the package's where it lacks the call, those of ctypes and of decoding.
        errors = (self._nvml.NVMLError, AttributeError, OSError, ValueError, ArgumentError)
        try:
            value = call()
        except errors:
            return None
        return value if scale is None else _scaled(value, scale)

    def _fields(self, ids: tuple[int, ...]) -> dict[int, float]:
        """The NVML fields that this GPU supports, in NVML's own units."""
        values = self._read(lambda: self._nvml.nvmlDeviceGetFieldValues(self._handle, list(ids)))
        return {
            value.fieldId: getattr(value.value, VALUE_MEMBERS[value.valueType])
            for value in values or ()
            if value.nvmlReturn == 0 and value.valueType < len(VALUE_MEMBERS)
        }

    def _event_reasons(self) -> tuple[str, ...] | None:
        nvml, gpu = self._nvml, self._handle
        mask = self._read(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))
        if mask is None:  # the name before driver 535
            mask = self._read(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
        if mask is None:
            return None
        return tuple(name for bit, name in EVENT_REASONS.items() if mask & bit)

    def _other_processes(self) -> tuple[dict[str, int | None], ...] | None:
        """Processes with a CUDA context other than ours; a display server is not one of them."""
        processes = self._read(
            lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        )
        if processes is None:
            return None
        own_pids = {os.getpid()} if self._own_processes is None else self._own_processes.pids
        return tuple(
            {"pid": process.pid, "used_memory_bytes": process.usedGpuMemory}
            for process in processes
            if process.pid not in own_pids
        )


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
