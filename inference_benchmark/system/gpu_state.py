"""What the GPU itself was doing around a run: clocks, throttling, temperature, energy, company.

Two readings through NVML, one before and one after a run, bracket it; no thread samples in
between, since that would disturb what is timed. The driver's counters (time throttled, energy)
integrate over the run by themselves, so their difference misses nothing; clocks, temperature and
power are what they were at that instant. Without NVML, a GPU, or one of the readings, the answer
is None: nothing here raises.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import ArgumentError
from dataclasses import dataclass
from statistics import median
from types import ModuleType
from typing import Any, Self

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

# The energy counter refreshes about ten times a second, so one run's reading is off by up to
# 0.1 s of power at either end: runs of less than twice that carry no information.
MIN_ENERGY_RUN_S = 0.2


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
        own_processes: "OwnProcesses | None" = None,
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


class OwnProcesses:
    """Which of the processes on this host's GPUs are this program's: itself and its workers.

    In a container the driver reports the host's process numbers, under which our own are strangers
    that no /proc of ours shows. So they are told by when they appear: what is new on the GPUs after
    something of ours was started, and wasn't there before, is ours; everything else is foreign.

        own_processes = OwnProcesses()
        with own_processes.starting():
            torch.cuda.init() ... the first allocation
        with own_processes.starting(workers=4):
            start the engine's server
        monitor = GpuMonitor(uuid, own_processes=own_processes)
    """

    def __init__(self, nvml: ModuleType | Any | None = None) -> None:
        self.pids: set[int] = {os.getpid()}
        self._nvml = import_pynvml() if nvml is None else nvml

    @contextmanager
    def starting(self, workers: int = 1) -> Iterator[None]:
        """Around the start of this process's own use of a GPU, or of so many worker processes.

        Of several ranks on a host, which start together, each gives their number. Keep it short:
        another program that starts meanwhile, and that no /proc of ours shows, can't be told from
        ours. Of more newcomers than were started the first are taken for ours.
        """
        before = self._gpu_pids()
        try:
            yield
        finally:
            new = sorted(self._gpu_pids() - before - self.pids)
            visible = [pid for pid in new if os.path.exists(f"/proc/{pid}")]
            self.pids |= {pid for pid in visible if _is_descendant(pid)}
            if not self._shows_our_numbers(before):
                strangers = [pid for pid in new if pid not in visible]
                self.pids |= set(strangers[:workers])

    def _shows_our_numbers(self, before: set[int]) -> bool:
        """Whether the driver numbers processes as we do: then no stranger is one of ours."""
        return os.getpid() in before | self._gpu_pids()

    def _gpu_pids(self) -> set[int]:
        """Of all processes that compute on any GPU of the host; empty where NVML can't be asked."""
        nvml = self._nvml
        if nvml is None:
            return set()
        try:
            nvml.nvmlInit()
        except (nvml.NVMLError, OSError):
            return set()
        try:
            handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
            return {
                process.pid
                for handle in handles
                for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            }
        except (nvml.NVMLError, AttributeError, OSError):
            return set()
        finally:
            nvml.nvmlShutdown()


def _is_descendant(pid: int) -> bool:
    """Whether this process or one of its ancestors is us. False for one that has ended."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False


def import_pynvml() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def summarize_state(
    before: Sequence[Snapshot | None], after: Sequence[Snapshot | None]
) -> dict[str, Any] | None:
    """The `gpu_state` of a cell from the snapshots around each of its runs; None if there are none.

    Clocks and power are those right after each run: before one, the GPU may still be idle.
    `throttled_s` sums each cause over the runs, `throttled_share` divides it by their time
    `window_s`; causes can overlap. `energy_j` was used in `energy_window_s` seconds.
    """
    pairs = _pairs(before, after)
    if not pairs:
        return None
    ends = [end for _, end in pairs]
    both = [snapshot for pair in pairs for snapshot in pair]
    window_s = sum(end.time_s - start.time_s for start, end in pairs)
    throttled_s = {cause: _throttled_s(pairs, cause) for cause in THROTTLE_FIELDS}
    energy_j, energy_window_s = _energy(pairs)
    return {
        "runs": len(pairs),
        "window_s": window_s,
        "sm_clock_hz": _spread([s.sm_clock_hz for s in ends]),
        "memory_clock_hz": _spread([s.memory_clock_hz for s in ends]),
        "temperature_c": _range([s.temperature_c for s in both]),
        "power_limit_w": min(_known(s.power_limit_w for s in both), default=None),
        "default_power_limit_w": min(_known(s.default_power_limit_w for s in both), default=None),
        "power_w": _spread([s.power_w for s in ends]),
        "throttled_s": throttled_s,
        "throttled_share": {
            # the driver updates its counters now and then: a short window can seem overfull
            cause: None if seconds is None or window_s <= 0 else min(1.0, seconds / window_s)
            for cause, seconds in throttled_s.items()
        },
        "energy_j": energy_j,
        "energy_window_s": energy_window_s,
        "event_reasons": _union_of_reasons(both),
        "other_processes": _union_of_processes(both),
    }


def energy_per_token_j(
    before: Sequence[Snapshot | None],
    after: Sequence[Snapshot | None],
    tokens: int,
    min_window_s: float = 2.0,
) -> float | None:
    """Joules per token over all runs of a cell, which made `tokens` tokens together.

    None where a run lacks its energy, or where the runs are too short for the counter: less than
    min_window_s together, or MIN_ENERGY_RUN_S each on average.
    """
    pairs = _pairs(before, after)
    energy_j, window_s = _energy(pairs)
    if energy_j is None or len(pairs) < len(before) or tokens <= 0:
        return None
    if window_s < min_window_s or window_s / len(pairs) < MIN_ENERGY_RUN_S:
        return None
    return energy_j / tokens


Pair = tuple[Snapshot, Snapshot]


def _pairs(before: Sequence[Snapshot | None], after: Sequence[Snapshot | None]) -> list[Pair]:
    both = zip(before, after, strict=True)
    return [(start, end) for start, end in both if start is not None and end is not None]


def _throttled_s(pairs: list[Pair], cause: str) -> float | None:
    return _total(_increase(s.throttled_s.get(cause), e.throttled_s.get(cause)) for s, e in pairs)


def _energy(pairs: list[Pair]) -> tuple[float | None, float | None]:
    """Joules, and the seconds they were used in; (None, None) unless every run has its energy."""
    energy_j = _total(_increase(start.energy_j, end.energy_j) for start, end in pairs)
    if energy_j is None:
        return None, None
    return energy_j, sum(end.time_s - start.time_s for start, end in pairs)


def _increase(start: float | None, end: float | None) -> float | None:
    """None also where a counter ran backwards: it was reset, and the difference means nothing."""
    return None if start is None or end is None or end < start else end - start


def _total(values: Any) -> float | None:
    values = list(values)
    return None if not values or None in values else sum(values)


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def _range(values: list[float | None]) -> dict[str, float] | None:
    known = _known(values)
    return {"min": min(known), "max": max(known)} if known else None


def _spread(values: list[float | None]) -> dict[str, float] | None:
    known = _known(values)
    if not known:
        return None
    return {"min": min(known), "median": median(known), "max": max(known)}


def _union_of_reasons(snapshots: list[Snapshot]) -> list[str] | None:
    known = _known(snapshot.event_reasons for snapshot in snapshots)
    return sorted(set().union(*known)) if known else None


def _union_of_processes(snapshots: list[Snapshot]) -> list[dict[str, int | None]] | None:
    """Each process once, with the most memory it was seen to use."""
    known = _known(snapshot.other_processes for snapshot in snapshots)
    if not known:
        return None
    most: dict[int, int | None] = {}
    for process in (process for processes in known for process in processes):
        used = _known([most.get(process["pid"]), process["used_memory_bytes"]])
        most[process["pid"]] = max(used, default=None)
    return [{"pid": pid, "used_memory_bytes": used} for pid, used in sorted(most.items())]
