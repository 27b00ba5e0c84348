"""What a result says of its session as a whole. No torch."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from inference_benchmark.hardware import Ceilings
from inference_benchmark.options.request import Request
from inference_benchmark.workloads.base import Workload


@dataclass
class SessionFacts:
    """What a result says of its session as a whole.

    Args:
        environment: system.environment.describe().
        ceilings: by the type of the products, what limits refer to.
        prices: $ per GPU-hour as {"min", "median", "max"}, or None.
        command: the command line, for the record.
    """

    request: Request
    workload: Workload
    environment: dict
    ceilings: dict[str, Ceilings | None]
    prices: dict | None
    command: list[str]
    created: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    session_set: dict | None = None
    cache_state: str | None = None  # of the compile cache at the start, where that is known
    load_average: float | None = None  # of other processes at the start, where the CPU computes
    cpus: int | None = None
    ready_s: float | None = None  # from the command to the first warm-up run
    warnings: list[str] = field(default_factory=list)
