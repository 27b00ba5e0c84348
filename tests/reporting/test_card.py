"""The card before a session: five lines, or all that is known beforehand."""

import pytest
from fake_results import fake_cell, fake_forward_cell, fake_result

from inference_benchmark.reporting.card import card

NOTHING_YET = dict.fromkeys(("samples", "summary", "output_check", "validity", "stop_reason"))
MODEL_OF_A_RANK = {"weight_bytes_per_gpu": 8_000_000_000, "kv_bytes_per_token_per_gpu": 65536}


def planned(*cells: dict, **config) -> dict:
    result = fake_result([cell | NOTHING_YET for cell in cells], **config)
    return result | {"state": "running", "ended": None}


def test_five_lines():
    text = card(planned(fake_cell("thunder"), fake_cell("eager")), 18e9, 149e9)
    assert text.splitlines() == [
        "model     llama3.1-8b, 8.03 B parameters, 32 layers, 16.06 GB in bf16",
        "scenario  own: 8 -> 5 tokens",
        "device    NVIDIA H200, 150.75 GB; about 18.00 GB needed, 149.00 GB free",
        "limit     b1: TTFT 10.00 ms, TBOT 3.600 ms (datasheet ceilings)",
        "cells     thunder, eager at b1",
    ]


def test_details_add_the_work_and_the_cache():
    text = card(planned(fake_cell("thunder")), 18e9, 149e9, details=True)
    words = " ".join(text.split())
    assert "KV cache 128 KiB per token of context" in words
    assert "(datasheet; 0.1200 TFLOP prefill, 15.00 GB per decode step)" in words
    assert "memory about 18.00 GB needed, 149.00 GB free" in words


def test_a_sweep_shows_its_first_and_last_limit():
    cells = [
        fake_cell(mode, batch_size=batch_size) for batch_size in (1, 8, 64) for mode in ("a", "b")
    ]
    words = " ".join(card(planned(*cells), None, None).split())
    assert "limit b1: TTFT 10.00 ms, TBOT 3.600 ms; b64: TTFT 10.00 ms" in words
    assert words.endswith("cells a, b at b1, b8, b64")
    assert "about - GB needed" in words


def test_unknown_limits_say_how_to_give_them():
    text = card(planned(fake_cell(limit=None)), 1e9, 2e9)
    assert "limit     unknown here: --gpu-bandwidth and --gpu-peak give them" in text


def test_fewer_layers_and_estimates_are_loud():
    assert "ONLY 8 OF 32 LAYERS" in card(planned(fake_cell(), num_layers=8), 1e9, 2e9)
    text = card(planned(fake_cell(), extrapolated_from=[4, 8]), 1e9, 2e9)
    assert "TO BE ESTIMATED FROM 4 AND 8 OF 32 LAYERS" in " ".join(text.split())


def test_weights_are_of_the_type_whose_bytes_are_said():
    """A mode may convert them, and --quantize does: the session's type is another then."""
    result = planned(fake_cell("pytorch-base"), fake_cell("eager"))
    result["cells"][0]["options"]["precision"] = "fp32"
    assert "GB in fp32" in card(result, 1e9, 2e9)
    assert "weights 16.06 GB, fp32" in " ".join(card(result, 1e9, 2e9, details=True).split())


def test_a_cpu_is_said_to_be_one():
    result = planned(fake_cell())
    result["environment"] |= {"gpu": None}
    assert "CPU (x86_64), a smoke run; about" in card(result, 1e9, 2e9)


@pytest.mark.parametrize("details", [False, True])
def test_a_forward_generates_nothing(details):
    result = planned(fake_forward_cell(), workload="forward", output_length=None)
    words = " ".join(card(result, 1e9, 2e9, details).split())
    assert "forward 8 tokens per sequence" in words
    assert "forward 30.00 ms" in words
    assert not any(word in words for word in ("TTFT", "scenario", "KV cache"))


def test_several_ranks_are_named():
    result = planned(fake_cell(), tensor_parallel=4)
    result["environment"]["gpu"] = result["environment"]["gpu"] | {"count": 4}
    result["model"] |= MODEL_OF_A_RANK
    assert "4 x NVIDIA H200, 150.75 GB, tensor parallel over 4 ranks" in card(result, 1e9, 2e9)
    words = " ".join(card(result, 1e9, 2e9, details=True).split())
    assert "ranks 4, tensor parallel; on each 8.00 GB of weights, 64 KiB per token" in words
