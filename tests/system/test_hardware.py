"""GPU presets: names resolve to exactly the GPU they mean, arithmetic matches hand figures."""

from dataclasses import FrozenInstanceError

import pytest

from inference_benchmark.hardware import (
    GPUS,
    Ceilings,
    ceilings,
    cost_per_million_tokens,
    find_gpu,
    price_range,
)

GIB = 2**30

NAMES = (
    ("NVIDIA H100 80GB HBM3", "H100 SXM"),
    ("NVIDIA H100 PCIe", "H100 PCIe"),
    ("NVIDIA H100 NVL", "H100 NVL"),
    ("NVIDIA H200", "H200 SXM"),
    ("NVIDIA H200 NVL", "H200 NVL"),
    ("NVIDIA H20", "H20"),
    ("NVIDIA B200", "B200"),
    ("NVIDIA GB200", "GB200"),
    ("NVIDIA B300 SXM6 AC", "B300"),
    ("NVIDIA GB300", "GB300"),
    ("AMD Instinct MI300X", "MI300X"),
    ("AMD Instinct MI325X OAM", "MI325X"),
    ("AMD Instinct MI355X", "MI355X"),
    ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
    ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
    ("A100-PCIE-40GB", "A100 40GB PCIe"),
    ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
    ("NVIDIA L40S", "L40S"),
    ("NVIDIA L4", "L4"),
    ("NVIDIA GeForce RTX 3090", "RTX 3090"),
    ("NVIDIA GeForce RTX 4090", "RTX 4090"),
    ("NVIDIA GeForce RTX 5090", "RTX 5090"),
)

STRANGERS = (
    "NVIDIA GeForce RTX 4090 D",
    "NVIDIA GeForce RTX 4090 Laptop GPU",
    "NVIDIA GeForce RTX 3090 Ti",
    "NVIDIA GeForce RTX 5090 D v2",
    "NVIDIA GH200 480GB",
    "NVIDIA H20-3e",  # 141 GB
    "NVIDIA H100",  # which of the three?
    "NVIDIA H100 64GB HBM3",
    "NVIDIA A100-SXM-64GB",
    "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
    "NVIDIA A100",  # 40 or 80 GB?
    "NVIDIA L40",
    "NVIDIA A10",
    "Tesla T4",
    "",
)


def gpu(name):
    return next(preset for preset in GPUS if preset.name == name)


@pytest.mark.parametrize(("device_name", "expected"), NAMES)
def test_device_name_finds_its_preset(device_name, expected):
    assert find_gpu(device_name) is gpu(expected)


def test_every_preset_can_be_found():
    assert {preset for _, preset in NAMES} == {preset.name for preset in GPUS}
    assert len({preset.name for preset in GPUS}) == len(GPUS)


@pytest.mark.parametrize("device_name", STRANGERS)
def test_unknown_gpu_is_none_not_its_neighbour(device_name):
    assert find_gpu(device_name) is None


def test_memory_size_decides_between_siblings():
    assert find_gpu("NVIDIA A100", 42_405_855_232) is gpu("A100 40GB")
    assert find_gpu("NVIDIA A100", 85_094_825_984) is gpu("A100 80GB")


def test_memory_as_devices_report_it_is_accepted_and_a_slice_is_not():
    assert find_gpu("NVIDIA H200", 150_754_820_096) is gpu("H200 SXM")
    assert find_gpu("NVIDIA L40S", 46_068 * 2**20) is gpu("L40S")
    assert find_gpu("NVIDIA H20", 97_871 * 2**20) is gpu("H20")
    assert find_gpu("NVIDIA H200", 70 * GIB) is None


def test_a_measured_size_beats_the_one_in_the_name():
    assert find_gpu("NVIDIA A100-SXM4-80GB", 20 * GIB) is None


@pytest.mark.parametrize("preset", GPUS, ids=lambda preset: preset.name)
def test_peaks_are_dense_and_in_si_units(preset):
    peaks = preset.peak_flops
    assert set(peaks) == {"bf16", "fp16", "fp8", "fp32"}
    assert peaks["bf16"] == peaks["fp16"]
    assert peaks["fp8"] is None or peaks["fp8"] / peaks["bf16"] == pytest.approx(2, rel=0.02)
    assert peaks["fp32"] is None or 19e12 < peaks["fp32"] < peaks["bf16"]
    assert 70e12 < peaks["bf16"] < 2600e12
    assert 0.3e12 <= preset.bandwidth_bytes_per_s <= 8e12
    assert preset.source
    assert preset.date.isdigit()


def test_bf16_peaks_are_not_the_sparse_ones_that_datasheets_print_first():
    dense = {"H100 SXM": 989, "H100 NVL": 835, "B200": 2250, "GB200": 2500, "MI300X": 1307}
    dense |= {
        "H20": 148,
        "L40S": 362,
        "L4": 121,
        "RTX 4090": 165.2,
        "RTX 5090": 209.5,
        "A100 80GB": 312,
    }
    assert {name: gpu(name).peak_flops["bf16"] / 1e12 for name in dense} == pytest.approx(dense)


def test_h200_figures():
    h200 = gpu("H200 SXM")
    assert h200.bandwidth_bytes_per_s == 4.8e12
    assert h200.peak_flops["bf16"] == 989e12
    assert h200.price_per_hour_usd == (1.41, 1.74, 1.60)
    assert {preset.name for preset in GPUS if preset.price_provisional} == {"B300", "GB300"}


def test_presets_are_frozen_and_hashable():
    with pytest.raises(FrozenInstanceError):
        gpu("L4").memory_bytes = 1
    assert len(set(GPUS)) == len(GPUS)


def test_ceilings_from_the_datasheet_follow_the_precision():
    h100 = gpu("H100 SXM")
    assert ceilings(h100, "bf16") == Ceilings(3.35e12, 989e12, "datasheet")
    assert ceilings(h100, "fp8").peak_flops == 1979e12
    assert ceilings(h100, "fp32").peak_flops == 67e12
    with pytest.raises(KeyError):
        ceilings(h100, "bf61")


def test_given_ceilings_win_and_say_so():
    sheet = Ceilings(3e11, 121e12, "datasheet")
    of_bandwidth = ceilings(gpu("L4"), "bf16", bandwidth_override=2e11)
    assert of_bandwidth == Ceilings(2e11, 121e12, "given", sheet)
    assert ceilings(gpu("L4"), "bf16", peak_override=9e13) == Ceilings(3e11, 9e13, "given", sheet)
    assert ceilings(None, "bf16", 1e12, 1e14) == Ceilings(1e12, 1e14, "given")


def test_no_ceiling_is_guessed():
    assert ceilings(None, "bf16") is None
    assert ceilings(None, "bf16", bandwidth_override=1e12) is None
    assert ceilings(None, "bf16", peak_override=1e14) is None
    assert ceilings(gpu("A100 80GB"), "fp8") is None
    assert ceilings(gpu("H20"), "fp32") is None


def test_price_range():
    assert price_range(gpu("H200 SXM")) == {"min": 1.41, "median": 1.60, "max": 1.74}
    assert price_range(gpu("H200 SXM"), 2.5) == {"min": 2.5, "median": 2.5, "max": 2.5}
    assert price_range(None, 2.5) == {"min": 2.5, "median": 2.5, "max": 2.5}
    assert price_range(gpu("L4")) is None
    assert price_range(None) is None


def test_cost_by_hand():
    # 1000 tokens/s are 3.6 million per hour; two GPUs at $1.80, $2.70, $3.60 cost twice that.
    prices = {"min": 1.80, "median": 2.70, "max": 3.60}
    cost = cost_per_million_tokens(prices, 2, 1000.0)
    assert cost == pytest.approx({"min": 1.0, "median": 1.5, "max": 2.0})


def test_cost_is_unknown_without_a_price_or_a_rate():
    assert cost_per_million_tokens(None, 1, 1000.0) is None
    assert cost_per_million_tokens(price_range(None, 2.0), 1, None) is None
