"""From what the parts of the check found to the record in the result file."""

import math

_LARGEST = (
    "prefill_error",
    "decode_error",
    "empty_cache_error",
    "cache_error",
    "unwritten_slots_changed",
    "routing_difference",
    "seconds",
)


def combine(records: list[dict]) -> dict:
    """Of several ranks, each with its own part of the cache: the worst of each, passed if all did."""
    if len(records) == 1:
        return records[0]
    worst = {
        name: max((record[name] for record in records if record[name] is not None), default=None)
        for name in _LARGEST
        if name in records[0]
    }
    failures = [
        f"rank {rank}: {text}" for rank, record in enumerate(records) for text in record["failures"]
    ]
    measured = _worst_measured([record["measured"] for record in records])
    return records[0] | worst | {"passed": not failures, "measured": measured, "failures": failures}


def merge(before: dict, after: dict | None) -> dict:
    """The record of a cell: before and after its timing; after: None where nothing was timed."""
    record = {name: value for name, value in before.items() if name != "floors"}
    record |= {"replayed_runs": 0, "replayed_cache": False, "seconds_after_timing": None}
    if after is None:
        return record
    return record | {
        "passed": before["passed"] and after["passed"],
        "replayed_runs": after["replayed_runs"],
        "replayed_cache": after["replayed_cache"],
        "measured": before["measured"] | after["measured"],
        "failures": before["failures"] + after["failures"],
        "seconds": before["seconds"] + after["seconds"],
        "seconds_after_timing": after["seconds"],
    }


def _worst_measured(measured: list[dict]) -> dict:
    """Of each kind the entry nearest to its limit; an error of None is infinite."""

    def ratio(entry: dict) -> float:
        return math.inf if entry["error"] is None else entry["error"] / (entry["limit"] or 1e-30)

    measures = dict.fromkeys(measure for findings in measured for measure in findings)
    return {
        measure: max((findings[measure] for findings in measured if measure in findings), key=ratio)
        for measure in measures
    }
