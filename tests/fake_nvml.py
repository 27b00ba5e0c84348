"""A stand-in for the pynvml module, with scripted readings in NVML's units."""

from types import SimpleNamespace

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
