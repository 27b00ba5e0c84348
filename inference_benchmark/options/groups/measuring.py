"""How much is measured, and what is looked at."""

from dataclasses import dataclass
from pathlib import Path

from inference_benchmark.options import values
from inference_benchmark.options.flag import flag

_FIXES_RUNS = "it fixes the number of runs"
CACHE_STATES = ("cold", "warm")


@dataclass(frozen=True, kw_only=True)
class MeasuringFlags:
    num_iterations: int | None = flag(
        "benchmark",
        "exactly N timed runs (default: 10 to 100, until the interval is narrow)",
        parse=values.positive_int,
        metavar="N",
        role="record",
        excludes={"target_ci": _FIXES_RUNS, "max_seconds": _FIXES_RUNS},
    )
    warmup_iterations: int | None = flag(
        "benchmark",
        "exactly N warm-up runs (default: up to 10, until two runs agree)",
        parse=values.natural,
        metavar="N",
        role="condition",
    )
    target_ci: float | None = flag(
        "benchmark",
        "stop at this relative half-width of the 95%% interval (default: 0.01)",
        parse=values.share,
        metavar="X",
        role="record",
    )
    max_seconds: float | None = flag(
        "benchmark",
        "stop after S seconds of timed runs (default: 600; 30 on a CPU)",
        parse=values.seconds,
        metavar="S",
        role="record",
    )
    sweep: Path | None = flag(
        "benchmark",
        "make a session of each combination of the flags' values in FILE, and pass over what is in "
        "--output-dir already",
        parse=values.path,
        metavar="FILE.toml",
        excludes=dict.fromkeys(
            ("sessions", "cache_state", "output"), "a sweep's sessions have files of their own"
        ),
    )
    sessions: int = flag(
        "benchmark",
        "make N sessions, each a process of its own, and save them as one set (default: 1)",
        parse=values.positive_int,
        default=1,
        metavar="N",
    )
    cache_state: tuple[str, ...] | None = flag(
        "benchmark",
        "make a session with an empty compile cache (cold), one with a filled one (warm), or both, "
        "and show what each took to start",
        choices=CACHE_STATES,
        nargs="+",
        excludes={"sessions": "of several sessions only the first finds an empty cache"},
    )
    baseline: str | None = flag(
        "benchmark",
        "what speed-ups refer to (default: eager at the same graph setting)",
        metavar="MODE",
    )
    strict: bool = flag("benchmark", "exit 1 unless every result is valid", default=False)
    force: bool = flag("benchmark", "try although the memory seems not to suffice", default=False)
    profile: bool = flag(
        "benchmark",
        "write a Chrome trace per cell, print its kernels",
        default=False,
        ignored_on=("cpu",),
    )
    nvtx: bool = flag(
        "benchmark",
        "mark prefill, steps and layers for Nsight; a captured step shows as one",
        default=False,
        role="condition",
        ignored_on=("cpu",),
    )
    explain: bool = flag(
        "benchmark",
        "print where the time goes, by kind of kernel",
        default=False,
        ignored_on=("cpu",),
    )
