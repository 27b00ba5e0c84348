"""What is printed and written."""

from dataclasses import dataclass
from pathlib import Path

from inference_benchmark.options import values
from inference_benchmark.options.flag import flag


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    details: bool = flag(
        "output", "print all tables: throughput, latency, memory, cold start", default=False
    )
    table: str = flag(
        "output",
        "engines: also what one asks of an engine: load, cold start, steady state, peak rates, "
        "memory, clock and check (default: summary)",
        choices=("summary", "engines"),
        default="summary",
    )
    format: str = flag(
        "output",
        "of the tables on stdout; json: the result as the last line, tables to stderr "
        "(default: table)",
        choices=("table", "markdown", "csv", "json"),
        default="table",
    )
    json: bool = flag("output", "the same as --format json", default=False)
    save_results: bool = flag("output", "write a JSON file, under a name of its own", default=False)
    save_prompts: bool = flag(
        "output",
        "write the token ids of all timed runs beside the JSON file, for another program",
        default=False,
        needs=("save_results", "output", "sessions", "sweep", "cache_state"),
    )
    output_dir: Path = flag(
        "output",
        "where to, traces included (default: ./results)",
        parse=values.path,
        default=Path("results"),
        metavar="DIR",
        needs=("save_results", "sessions", "profile", "report", "sweep", "cache_state"),
    )
    output: Path | None = flag(
        "output", "write the JSON file FILE", parse=values.path, metavar="FILE"
    )
    report: bool = flag(
        "output",
        "write a page with pictures of the results (HTML) at the end; needs matplotlib",
        default=False,
    )
    overwrite: bool = flag("output", "replace FILE if it exists", default=False, needs="output")
    quiet: bool = flag("output", "no card, no progress", default=False)
