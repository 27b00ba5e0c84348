"""The audit of the output check: which faults it sees, by which part, and whether it errs.

    python tests/audit/run_audit.py                          on a CPU, in minutes
    python tests/audit/run_audit.py --device cuda            captured graphs, llama3.1-8b of 8 layers
    python tests/audit/run_audit.py --output audit.json

Every fault is put into the engine of a session of the real command line (faults.py). Sessions
without a fault follow, over modes, attention types and seeds: each that fails is a false alarm, and
each error stands beside its limit, so that limits can be judged by one run.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

# The models are small: threads that wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

import inference_benchmark.output_check as output_check  # noqa: E402
from audit.faults import FAULTS, Fault  # noqa: E402
from audit.sessions import (  # noqa: E402
    Setting,
    caught_by,
    check_of,
    ratio,
    run_session,
)

SEEDS = (0, 1, 2)


def main() -> int:
    arguments = parse()
    started = time.perf_counter()
    on_gpu = arguments.device == "cuda"
    faults = list(audit_faults(on_gpu, arguments.only)) if not arguments.no_faults else []
    valid = list(audit_valid(on_gpu, arguments.modes)) if not arguments.no_valid else []
    print_summary(faults, valid)
    if arguments.output:
        document = {
            "created": datetime.now(UTC).isoformat(),
            "device": device_name(on_gpu),
            "seconds": time.perf_counter() - started,
            "cannot_see": output_check.__doc__.split("What the check cannot see")[1],
            "faults": faults,
            "valid": valid,
        }
        arguments.output.write_text(json.dumps(document, indent=1))
    missed = [fault for fault in faults if fault["listed"] and not fault["caught"]]
    alarms = [run for run in valid if not run["passed"]]
    return 1 if len(missed) > 3 or alarms else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", type=Path, help="JSON file with all figures")
    parser.add_argument("--only", help="faults whose name has this in it")
    parser.add_argument("--modes", nargs="+", default=None, help="of the sessions without a fault")
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("--no-valid", action="store_true")
    return parser.parse_args()


# Faults


def fault_setting(fault: Fault, on_gpu: bool) -> Setting:
    if on_gpu:
        model, layers = "llama3.1-8b", 8
        if fault.needs == "mixture":
            model, layers = "audit-deep-mixture", None
        # A mask hides slots: attention of our kernels has none.
        attention = "sdpa" if "left out" in fault.name or "see itself" in fault.name else "auto"
        return Setting(
            model,
            "eager+graphs",
            input_length=1000,
            output_length=200,
            device="cuda",
            layers=layers,
            attention=attention,
        )
    if fault.needs == "mixture":
        return Setting("audit-deep-mixture", output_length=24, batch_size=4)
    return Setting("audit-gqa")


def audit_faults(on_gpu: bool, only: str | None) -> Iterator[dict]:
    print(f"{'fault':58} {'caught':6}  by (error over its limit)")
    for fault in FAULTS.values():
        if only is None or only in fault.name:
            yield audit_fault(fault, fault_setting(fault, on_gpu))


def audit_fault(fault: Fault, setting: Setting) -> dict:
    started = time.perf_counter()
    try:
        code, cells = run_session(setting, fault.name)
        check = check_of(cells[0])
    except Exception as error:
        print(f"{fault.name:58} ERROR   {type(error).__name__}: {error}", flush=True)
        return {"fault": fault.name, "listed": fault.listed, "caught": False, "error": str(error)}
    parts = caught_by(check)
    caught = not check["passed"] and code == 1
    mark = ("yes" if caught else "NO") + ("" if fault.listed else " *")
    print(f"{fault.name:58} {mark:6}  {shown(check, parts)}", flush=True)
    return {
        "fault": fault.name,
        "listed": fault.listed,
        "model": setting.model,
        "caught": caught,
        "by": parts,
        "measured": check["measured"],
        "seconds": time.perf_counter() - started,
    }


def shown(check: dict, parts: list[str]) -> str:
    if not parts:
        measure, entry = max(check["measured"].items(), key=lambda item: ratio(item[1]))
        return f"- (nearest: {measure}, {ratio(entry):.2f} of its limit)"
    first = parts[0]
    entry = check["measured"].get(first)
    if entry is None:
        return first
    return f"{first} ({ratio(entry):.3g}), {len(parts)} in all"


# Sessions without a fault


def valid_settings(on_gpu: bool, modes: list[str] | None) -> Iterator[Setting]:
    if on_gpu:
        for mode in modes or ["eager", "eager+graphs", "inductor", "thunder"]:
            for attention in ("auto", "sdpa"):
                yield Setting(
                    "llama3.1-8b",
                    mode,
                    input_length=1000,
                    output_length=400,
                    device="cuda",
                    layers=8,
                    batch_size=1,
                    attention=attention,
                )
        for model in ("audit-mla", "audit-chunked"):
            for seed in SEEDS:
                yield Setting(model, "eager+graphs", device="cuda", seed=seed)
        return
    modes = modes or ["eager", "inductor", "thunder"]
    for model in ("audit-gqa", "audit-mla", "audit-chunked", "audit-deep-mixture"):
        for precision in ("bf16", "fp32"):
            for seed in SEEDS if "eager" in modes else ():
                yield Setting(model, "eager", precision, seed=seed)
    for mode in modes:  # compiling takes the time: short runs
        for model in ("audit-gqa", "audit-mla", "audit-chunked"):
            for seed in SEEDS if mode != "eager" else ():
                yield Setting(model, mode, "bf16", seed=seed, output_length=24, iterations=1)


def audit_valid(on_gpu: bool, modes: list[str] | None) -> Iterator[dict]:
    print("\nwithout a fault: errors beside their limits")
    for setting in valid_settings(on_gpu, modes):
        yield from audit_session(setting)


def audit_session(setting: Setting) -> Iterator[dict]:
    where = f"{setting.model} {setting.mode} {setting.precision} {setting.attention} seed {setting.seed}"
    started = time.perf_counter()
    try:
        _, cells = run_session(setting)
        check = check_of(cells[0])
    except Exception as error:
        print(f"{where}: ERROR {type(error).__name__}: {error}", flush=True)
        yield {"session": where, "passed": False, "error": str(error)}
        return
    seconds = time.perf_counter() - started
    worst = max(check["measured"].items(), key=lambda item: ratio(item[1]))
    verdict = "ok" if check["passed"] else f"FALSE ALARM: {'; '.join(check['failures'])}"
    costs = (
        f"check {check['seconds']:.1f} s, of it {check['seconds_after_timing'] or 0:.2f} s after"
    )
    print(f"{where}: {verdict} (nearest: {worst[0]}, {ratio(worst[1]):.2f}; {costs})", flush=True)
    if setting.device == "cuda":
        print_measured(check)
    yield {
        "session": where,
        "passed": check["passed"],
        "failures": check["failures"],
        "measured": check["measured"],
        "routing_difference": check["routing_difference"],
        "check_seconds": check["seconds"],
        "check_seconds_after_timing": check["seconds_after_timing"],
        "seconds": seconds,
    }


def print_measured(check: dict) -> None:
    for measure, entry in check["measured"].items():
        error = "inf" if entry["error"] is None else f"{entry['error']:.4g}"
        floor = "-" if entry["floor"] is None else f"{entry['floor']:.4g}"
        print(
            f"    {measure:50} {error:>10} limit {entry['limit']:.4g} floor {floor} {entry['at']}"
        )


def print_summary(faults: list[dict], valid: list[dict]) -> None:
    if faults:
        listed = [fault for fault in faults if fault["listed"]]
        caught = sum(fault["caught"] for fault in faults)
        print(f"\n{caught} of {len(faults)} faults caught; of the", end=" ")
        print(f"{len(listed)} that passed once, {sum(fault['caught'] for fault in listed)}")
        for fault in faults:
            if not fault["caught"]:
                print(f"  not caught: {fault['fault']}")
    if valid:
        alarms = sum(not run["passed"] for run in valid)
        print(f"{alarms} false alarms in {len(valid)} sessions without a fault")
    print("what the check cannot see" + output_check.__doc__.split("What the check cannot see")[1])


def device_name(on_gpu: bool) -> str:
    import torch

    return torch.cuda.get_device_name() if on_gpu else "cpu"


if __name__ == "__main__":
    sys.exit(main())
