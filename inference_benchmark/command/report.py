"""What a session prints at its end: tables, profiles, where it was saved, and what programs read; and
its exit code."""

import sys
from typing import TextIO

from inference_benchmark.command.ending import Ending
from inference_benchmark.errors import ExitCode
from inference_benchmark.options.request import Request
from inference_benchmark.reporting.engine_table import engine_table
from inference_benchmark.reporting.explanation import costliest, explain
from inference_benchmark.reporting.formats import report_as
from inference_benchmark.reporting.layout import encodable
from inference_benchmark.system import signals


def print_report(result: dict, request: Request, ending: Ending, out: TextIO) -> None:
    """The tables go to `out`; json and csv alone to stdout. A result that could not be saved goes
    to stdout as well."""
    tables = "markdown" if request.format == "markdown" else "table"
    print(encodable(report_as(result, tables, request.details), out.encoding), file=out)
    if request.table == "engines":
        print(f"\n{encodable(engine_table(result), out.encoding)}", file=out)
    _print_profiles(result, request, out)
    if ending.is_saved:
        print(f"\nsaved: {ending.path}", file=out)
    if request.format == "csv":
        print(report_as(result, "csv"), end="")
    if request.format == "json" or ending.save_error is not None:
        print(report_as(result, "json"))
    out.flush()
    sys.stdout.flush()


def _print_profiles(result: dict, request: Request, out: TextIO) -> None:
    for cell in result["cells"]:
        if cell["estimated"]:
            continue
        if request.explain and request.device == "cuda":
            print(f"\n{explain(cell)}", file=out)
        if request.profile and cell["profile"]:
            print(f"\n{costliest(cell)}", file=out)


def exit_code(result: dict, strict: bool) -> int:
    """Of a result in its last state; strict: whether every cell has to be valid."""
    cells = result["cells"]
    if result["state"] == "interrupted":
        return signals.exit_code()
    if result["state"] == "failed":
        return ExitCode.CANNOT_RUN
    if any(cell["status"] != "ok" for cell in cells):
        return ExitCode.GATE_FAILED
    if any((cell["accuracy"] or {}).get("passed") is False for cell in cells):
        return ExitCode.GATE_FAILED
    invalid = any(cell["validity"]["verdict"] != "valid" for cell in cells)
    return ExitCode.GATE_FAILED if strict and invalid else ExitCode.MEASURED
