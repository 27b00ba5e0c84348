"""What tests/audit/run_audit.py found, as the tables of results/README.md."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.units import UNKNOWN, percent, significant


@dataclass(frozen=True)
class Audit:
    """On one device: engines with a fault, and sessions without one."""

    device: str
    seconds: float
    faults: Sequence[dict]
    valid: Sequence[dict]
    cannot_see: str

    @classmethod
    def read(cls, *paths: Path) -> "Audit":
        """Of files that were written in one or several calls, on one kind of device."""
        parts = [json.loads(path.read_text()) for path in paths]
        return cls(
            parts[0]["device"].replace("cpu", "CPU").removeprefix("NVIDIA "),
            sum(part["seconds"] for part in parts),
            [fault for part in parts for fault in part["faults"]],
            [session for part in parts for session in part["valid"]],
            parts[0]["cannot_see"],
        )


def audit_summary(audits: Sequence[Audit]) -> str:
    """How many faults were caught, how many false alarms there were, what it took."""
    rows = [
        ["faults caught", *(_caught(audit.faults) for audit in audits)],
        [
            "of those that an earlier check let pass",
            *(_caught([fault for fault in audit.faults if fault["listed"]]) for audit in audits),
        ],
        [
            "false alarms in sessions without a fault",
            *(
                f"{sum(not run['passed'] for run in audit.valid)} of {len(audit.valid)}"
                for audit in audits
            ),
        ],
        ["the check of a session, s (median)", *(_check_seconds(audit) for audit in audits)],
        ["of it after the timing, s", *(_check_seconds(a, "_after_timing") for a in audits)],
        ["the whole audit, min", *(significant(audit.seconds / 60, 2) for audit in audits)],
    ]
    return markdown(["", *(audit.device for audit in audits)], rows)


def _caught(faults: Sequence[dict]) -> str:
    return f"{sum(fault['caught'] for fault in faults)} of {len(faults)}"


def _check_seconds(audit: Audit, suffix: str = "") -> str:
    known = sorted(
        session[f"check_seconds{suffix}"] or 0.0 for session in audit.valid if "measured" in session
    )
    return significant(known[len(known) // 2], 2) if known else UNKNOWN


def audit_faults(audits: Sequence[Audit]) -> str:
    """Each fault with what saw it, and how far over its limit that was."""
    faults_of = [{fault["fault"]: fault for fault in audit.faults} for audit in audits]
    names = dict.fromkeys(name for faults in faults_of for name in faults)
    rows = [
        [
            name,
            "yes" if any(faults[name]["listed"] for faults in faults_of if name in faults) else "",
            *(_seen(faults.get(name)) for faults in faults_of),
        ]
        for name in names
    ]
    devices = [audit.device for audit in audits]
    return markdown(
        ["fault", "passed once", *(f"caught on {device} by" for device in devices)], rows
    )


def _seen(fault: dict | None) -> str:
    """decode: cache, 357 x its limit"""
    if fault is None:
        return UNKNOWN
    if "measured" not in fault:
        return "**not judged**: the session failed"
    if not fault["caught"]:
        measure, entry = max(fault["measured"].items(), key=lambda item: _ratio(item[1]))
        return f"**not caught**: {measure}, {_ratio(entry):.2f} x its limit, is nearest"
    first = fault["by"][0]
    entry = fault["measured"].get(first)
    return first if entry is None else f"{first}, {_times(_ratio(entry))} its limit"


def _times(ratio: float) -> str:
    return "not a number, over" if math.isinf(ratio) else f"{significant(ratio, 3)} x"


def _ratio(entry: dict) -> float:
    if entry["error"] is None:
        return math.inf
    return entry["error"] / entry["limit"] if entry["limit"] else 0.0


def audit_limits(audits: Sequence[Audit]) -> str:
    """How near valid sessions come to each limit, and how far over its floor a limit lies."""
    worst = [_worst(audit.valid) for audit in audits]
    names = dict.fromkeys(name for entries in worst for name in entries)
    rows = [[name, *(_share(entries.get(name)) for entries in worst)] for name in names]
    headers = [f"{audit.device}, % of the limit" for audit in audits]
    return markdown(["of sessions without a fault, the worst", *headers], rows)


def _worst(sessions: Sequence[dict]) -> dict[str, dict]:
    """By the measure, whichever part of the check it is of: the entry nearest to its limit."""
    worst: dict[str, dict] = {}
    for session in sessions:
        for measure, entry in session.get("measured", {}).items():
            name = measure.partition(": ")[2]
            if name not in worst or _ratio(entry) > _ratio(worst[name]):
                worst[name] = entry
    return worst


def _share(entry: dict | None) -> str:
    return UNKNOWN if entry is None else percent(_ratio(entry))


def audit_cannot_see(audits: Sequence[Audit]) -> str:
    """As the check itself says it, of the first audit."""
    return audits[0].cannot_see.partition("\n")[2].strip()
