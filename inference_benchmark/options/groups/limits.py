"""What limits and costs are computed from."""

from dataclasses import dataclass

from inference_benchmark.options import values
from inference_benchmark.options.flag import flag
from inference_benchmark.workloads import PARTS


@dataclass(frozen=True, kw_only=True)
class LimitFlags:
    gpu_price: float | None = flag(
        "limits and cost",
        "per GPU and hour",
        parse=values.price,
        metavar="USD",
        ignored_on=("cpu",),
        not_for=PARTS,
    )
    gpu_bandwidth: float | None = flag(  # bytes/s
        "limits and cost",
        "memory bandwidth: 4.8TB/s, 3350GB/s; TB/s without a unit",
        parse=values.bandwidth,
        metavar="RATE",
    )
    gpu_peak: float | None = flag(  # FLOP/s
        "limits and cost",
        "dense peak of the precision: 989TFLOP/s; TFLOP/s without a unit",
        parse=values.peak,
        metavar="RATE",
    )
    measure_ceilings: bool = flag(
        "limits and cost",
        "measure bandwidth and peak on the spot and take these as limits",
        default=False,
        ignored_on=("cpu",),
    )
