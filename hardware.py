"""GPU presets: what the datasheet promises and what an hour costs.

Decode is bound by memory bandwidth (bytes/s), prefill by the dense matmul peak (FLOP/s), so these
two numbers per GPU give the limit beside every measured time. Peaks are dense: vendors print the
twice as large 2:4-sparse ones first, which no ordinary model reaches. A GPU that is not in the
table has no limit and no price until the user gives them. No torch here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

GIB = 2**30
TB_PER_S = 1e12
TFLOPS = 1e12

# All prices of the table come from this one dated source.
PRICE_SOURCE = "public InferenceX dashboard constants"
PRICE_DATE = "2026-04-03"
PRICE_COLUMNS = ("hyperscaler, own", "neocloud, own", "3-year rental")

PriceRange = dict[Literal["min", "median", "max"], float]


@dataclass(frozen=True)
class GPU:
    """One GPU model. None is a figure that the hardware lacks or the datasheet does not give.

    match: the words of its device name that tell it from its siblings (see `find_gpu`).
    memory_bytes: nominal; the device itself reports a few percent less.
    peak_flops: dense FLOP/s for bf16, fp16, fp8 (tensor cores, fp32 accumulation) and fp32. fp32 is
        the plain non-tensor-core peak, because that is what an fp32 matmul gets unless TF32 is
        switched on.
    price_per_hour_usd: $ per GPU-hour, one per PRICE_COLUMNS.
    source, date: where and when bandwidth and peaks were published.
    """

    name: str
    match: tuple[str, ...]
    memory_bytes: int
    bandwidth_bytes_per_s: float
    peak_flops: Mapping[str, float | None] = field(hash=False)
    price_per_hour_usd: tuple[float, ...] | None
    price_provisional: bool
    source: str
    date: str


@dataclass(frozen=True)
class Ceilings:
    """The two rates a limit is computed from, and where they come from.

    datasheet: the datasheet's, where it is known and these are others.
    """

    bandwidth_bytes_per_s: float
    peak_flops: float
    basis: Literal["datasheet", "measured", "given"]
    datasheet: "Ceilings | None" = None


def _peaks(bf16: float, fp16: float, fp8: float | None, fp32: float | None) -> dict:
    peaks = {"bf16": bf16, "fp16": fp16, "fp8": fp8, "fp32": fp32}
    return {dtype: None if peak is None else peak * TFLOPS for dtype, peak in peaks.items()}


# fmt: off
GPUS: tuple[GPU, ...] = (
    # name, match, memory, bandwidth, peaks in TFLOP/s (bf16, fp16, fp8, fp32),
    # $/hour (hyperscaler, neocloud, rental), prices provisional, source, date
    GPU("H100 SXM", ("H100", "HBM3"), 80 * GIB, 3.35 * TB_PER_S, _peaks(989, 989, 1979, 67),
        (1.30, 1.69, 1.30), False, "NVIDIA H100 datasheet", "2024"),
    GPU("H100 PCIe", ("H100", "PCIE"), 80 * GIB, 2.0 * TB_PER_S, _peaks(756, 756, 1513, 51),
        None, False, "NVIDIA H100 datasheet", "2022"),
    GPU("H100 NVL", ("H100", "NVL"), 94 * GIB, 3.9 * TB_PER_S, _peaks(835, 835, 1671, 60),
        None, False, "NVIDIA H100 datasheet", "2024"),
    GPU("H200 SXM", ("H200",), 141 * GIB, 4.8 * TB_PER_S, _peaks(989, 989, 1979, 67),
        (1.41, 1.74, 1.60), False, "NVIDIA H200 datasheet", "2024"),
    GPU("H200 NVL", ("H200", "NVL"), 141 * GIB, 4.8 * TB_PER_S, _peaks(835, 835, 1671, 60),
        None, False, "NVIDIA H200 datasheet", "2024"),
    # No public datasheet. fp32: 44 TFLOP/s are printed, 78 SMs at 1.98 GHz make 39.5, so unknown.
    GPU("H20", ("H20",), 96 * GIB, 4.0 * TB_PER_S, _peaks(148, 148, 296, None),
        None, False, "NVIDIA HGX H20 specifications, as the press printed them", "2024"),
    GPU("B200", ("B200",), 180 * GIB, 8.0 * TB_PER_S, _peaks(2250, 2250, 4500, 75),
        (1.95, 2.34, 2.90), False, "NVIDIA Blackwell datasheet", "2025"),
    GPU("B300", ("B300",), 270 * GIB, 8.0 * TB_PER_S, _peaks(2250, 2250, 4500, 75),
        (2.34, 2.81, 3.48), True, "NVIDIA Blackwell Ultra datasheet", "2025"),
    GPU("GB200", ("GB200",), 186 * GIB, 8.0 * TB_PER_S, _peaks(2500, 2500, 5000, 80),
        (2.21, 2.75, 3.30), False, "NVIDIA Blackwell datasheet", "2025"),
    GPU("GB300", ("GB300",), 279 * GIB, 8.0 * TB_PER_S, _peaks(2500, 2500, 5000, 80),
        (2.65, 3.30, 3.96), True, "NVIDIA Blackwell Ultra datasheet", "2025"),
    GPU("MI300X", ("MI300X",), 192 * GIB, 5.3 * TB_PER_S, _peaks(1307, 1307, 2615, 163.4),
        (1.12, 1.40, 1.55), False, "AMD Instinct MI300X data sheet", "2023"),
    GPU("MI325X", ("MI325X",), 256 * GIB, 6.0 * TB_PER_S, _peaks(1307, 1307, 2615, 163.4),
        (1.28, 1.59, 1.80), False, "AMD Instinct MI325X data sheet", "2024"),
    GPU("MI355X", ("MI355X",), 288 * GIB, 8.0 * TB_PER_S, _peaks(2516, 2516, 5033, 157.3),
        (1.48, 1.90, 2.10), False, "AMD Instinct MI355X data sheet", "2025"),
    GPU("A100 40GB", ("A100",), 40 * GIB, 1.555 * TB_PER_S, _peaks(312, 312, None, 19.5),
        None, False, "NVIDIA A100 datasheet", "2021"),
    GPU("A100 40GB PCIe", ("A100", "PCIE"), 40 * GIB, 1.555 * TB_PER_S,
        _peaks(312, 312, None, 19.5), None, False, "NVIDIA A100 datasheet", "2021"),
    GPU("A100 80GB", ("A100",), 80 * GIB, 2.039 * TB_PER_S, _peaks(312, 312, None, 19.5),
        None, False, "NVIDIA A100 datasheet", "2021"),
    GPU("A100 80GB PCIe", ("A100", "PCIE"), 80 * GIB, 1.935 * TB_PER_S,
        _peaks(312, 312, None, 19.5), None, False, "NVIDIA A100 datasheet", "2021"),
    GPU("L40S", ("L40S",), 48 * GIB, 0.864 * TB_PER_S, _peaks(362, 362, 733, 91.6),
        None, False, "NVIDIA L40S datasheet", "2023"),
    GPU("L4", ("L4",), 24 * GIB, 0.300 * TB_PER_S, _peaks(121, 121, 242.5, 30.3),
        None, False, "NVIDIA L4 datasheet", "2023"),
    # GeForce cards run fp16 at half rate when they accumulate in fp32, as PyTorch does.
    GPU("RTX 3090", ("3090",), 24 * GIB, 0.936 * TB_PER_S, _peaks(71, 71, None, 35.6),
        None, False, "NVIDIA Ampere GA102 whitepaper", "2021"),
    GPU("RTX 4090", ("4090",), 24 * GIB, 1.008 * TB_PER_S, _peaks(165.2, 165.2, 330.3, 82.6),
        None, False, "NVIDIA Ada whitepaper", "2023"),
    GPU("RTX 5090", ("5090",), 32 * GIB, 1.792 * TB_PER_S, _peaks(209.5, 209.5, 419, 104.8),
        None, False, "NVIDIA RTX Blackwell whitepaper", "2025"),
)
# fmt: on

# Words of a device name that say nothing about which model it is. Any word that is neither here nor
# in `match` (D, Ti, Laptop, MIG, ...) names a sibling with other figures, so there is no match.
# fmt: off
NEUTRAL_WORDS = frozenset({
    "NVIDIA", "GEFORCE", "RTX", "TESLA", "AMD", "INSTINCT", "GPU",
    "SXM", "SXM4", "SXM5", "SXM6", "OAM", "AC", "HBM3E",
})
# fmt: on
MEMORY_WORD = re.compile(r"(\d+)GB")
# Reserved memory and ECC take up to 7 % of the nominal size; a partition of a GPU has half or less.
MEMORY_TOLERANCE = 0.15


def find_gpu(device_name: str, memory_bytes: int | None = None) -> GPU | None:
    """The preset for a name as torch or NVML report it, or None: never a similar GPU.

    memory_bytes (as the device reports it) tells siblings of one name apart, and rejects a slice
    of a GPU, whose bandwidth and peak are not the table's.
    """
    words = set(re.split(r"[^A-Z0-9]+", device_name.upper())) - NEUTRAL_WORDS - {""}
    sizes = {word for word in words if MEMORY_WORD.fullmatch(word)}
    if memory_bytes is None and len(sizes) == 1:
        memory_bytes = int(MEMORY_WORD.fullmatch(next(iter(sizes)))[1]) * GIB
    matches = [gpu for gpu in GPUS if set(gpu.match) == words - sizes]
    if memory_bytes is not None:
        matches = [gpu for gpu in matches if _same_size(gpu.memory_bytes, memory_bytes)]
    return matches[0] if len(matches) == 1 else None


def _same_size(nominal_bytes: int, memory_bytes: int) -> bool:
    return abs(memory_bytes / nominal_bytes - 1) <= MEMORY_TOLERANCE


def ceilings(
    gpu: GPU | None,
    precision: str,
    bandwidth_override: float | None = None,
    peak_override: float | None = None,
) -> Ceilings | None:
    """Bandwidth (bytes/s) and dense peak (FLOP/s) at a precision; None where either is unknown.

    One given value is enough to make the basis "given". Raises KeyError on an unknown precision.
    """
    bandwidth, peak = bandwidth_override, peak_override
    if gpu is not None:
        bandwidth = gpu.bandwidth_bytes_per_s if bandwidth is None else bandwidth
        peak = gpu.peak_flops[precision] if peak is None else peak
    if bandwidth is None or peak is None:
        return None
    if bandwidth_override is None and peak_override is None:
        return Ceilings(bandwidth, peak, "datasheet")
    return Ceilings(bandwidth, peak, "given", ceilings(gpu, precision))


def price_range(gpu: GPU | None, gpu_price: float | None = None) -> PriceRange | None:
    """$ per GPU-hour over the price columns; one given price is all three; None if unknown."""
    if gpu_price is not None:
        return {"min": gpu_price, "median": gpu_price, "max": gpu_price}
    if gpu is None or gpu.price_per_hour_usd is None:
        return None
    prices = gpu.price_per_hour_usd
    return {"min": min(prices), "median": median(prices), "max": max(prices)}


def cost_per_million_tokens(
    prices: PriceRange | None, num_gpus: int, tokens_per_s: float | None
) -> PriceRange | None:
    """$ per million tokens = $ per GPU-hour x GPUs / (tokens per hour) x 1e6; None if unknown.

    tokens_per_s is that of all num_gpus together.
    """
    if prices is None or not tokens_per_s:
        return None
    million_tokens_per_hour = tokens_per_s * 3600 / 1e6
    return {key: price * num_gpus / million_tokens_per_hour for key, price in prices.items()}
