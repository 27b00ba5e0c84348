"""What a workload costs and where its limits are, by hand on a model of round numbers."""

import pytest

from inference_benchmark.hardware import Ceilings
from inference_benchmark.model.config import Precision
from inference_benchmark.models import MODELS
from inference_benchmark.workloads import WORKLOADS
from inference_benchmark.workloads.base import Run
from inference_benchmark.workloads.forward import SingleForward
from inference_benchmark.workloads.generation import Generation
from inference_benchmark.workloads.training_step import TrainingStep

LLAMA = MODELS["llama3.1-8b"]
BF16 = Precision.of("bf16")
CEILINGS = Ceilings(4.8e12, 989e12, "datasheet")


def test_a_forward_puts_every_token_through_the_head():
    forward = SingleForward(1000, 0).cost(LLAMA, BF16, 2).phases["forward"]
    prefill = Generation(1000, 2).cost(LLAMA, BF16, 2).phases["prefill"]
    # 999 further positions of each of two sequences through 4096 x 128256 weights, 2 FLOPs each
    assert forward.flops - prefill.flops == 2 * 999 * 2 * 4096 * 128_256
    assert forward.attention_flops == prefill.attention_flops
    # no cache is written, but logits of all positions are, 2 bytes each
    cache_bytes = 2 * 1000 * 128 * 1024
    logits_bytes = 2 * 1000 * 128_256 * 2
    assert forward.bytes - prefill.bytes == logits_bytes - cache_bytes


def test_a_training_step_is_three_forwards():
    training = TrainingStep(1000).cost(LLAMA, BF16, 2).phases["training"]
    forward = SingleForward(1000, 0).cost(LLAMA, BF16, 2).phases["forward"]
    assert training.flops == 3 * forward.flops
    # 6 FLOPs for each token and parameter but those of norms and of the embedding table
    counted = LLAMA.parameters - LLAMA.norm_parameters - LLAMA.embedding_parameters
    pairs = 1000 * 1001 / 2  # causal attention: 4 x 128 FLOPs for each pair and head, thrice
    attention = 3 * 2 * pairs * 4 * 128 * 32 * 32
    assert training.flops == 6 * 2000 * counted + attention
    assert training.attention_flops == attention


def test_the_limits_of_a_generation_are_those_of_its_phases():
    cost = Generation(1000, 5).cost(LLAMA, BF16, 1)
    limit = cost.limit(CEILINGS)
    prefill, decode = cost.phases["prefill"], cost.phases["decode"]
    ttft_s, tbot_s = prefill.flops / 989e12, decode.bytes / 4.8e12
    assert limit["metrics"] == {
        "ttft_s": pytest.approx(ttft_s),
        "tbot_s": pytest.approx(tbot_s),
        "total_s": pytest.approx(ttft_s + 4 * tbot_s),
    }
    assert cost.bound(CEILINGS) == {"ttft_s": "compute", "tbot_s": "bandwidth"}
    # keys and values of 1002.5 tokens on average
    attention_s = 1002.5 * 128 * 1024 / 4.8e12
    assert limit["by_kind"]["decode"]["attention"] == pytest.approx(attention_s)


def test_measured_limits_keep_the_datasheets_beside_them():
    cost = Generation(1000, 5).cost(LLAMA, BF16, 1)
    limit = cost.limit(Ceilings(4.4e12, 750e12, "measured", CEILINGS))
    assert limit["basis"] == "measured"
    assert limit["metrics"]["tbot_s"] == pytest.approx(cost.phases["decode"].bytes / 4.4e12)
    assert limit["datasheet"] == cost.limit(CEILINGS)["metrics"]
    assert "datasheet" not in cost.limit(CEILINGS)


def test_one_output_token_has_no_decode_limit():
    cost = Generation(1000, 1).cost(LLAMA, BF16, 1)
    limit = cost.limit(CEILINGS)["metrics"]
    assert limit["tbot_s"] is None
    assert limit["total_s"] == limit["ttft_s"]


def test_metrics_are_derived_from_the_marks_of_a_run():
    workload = Generation(1000, 4)
    run = Run([0.3, 0.01, 0.02, 0.03], 0.4)
    assert workload.times(run) == {
        "ttft_s": 0.3,
        "decode_s": pytest.approx(0.06),
        "tbot_s": pytest.approx(0.02),
        "total_s": pytest.approx(0.36),
    }
    assert workload.samples([run, run])["steps"] == {"step_s": [[0.01, 0.02, 0.03]] * 2}
    assert set(Generation(1000, 1).times(Run([0.3], 0.3))) == {"ttft_s", "total_s"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_rates_refer_to_metrics_and_have_amounts(name):
    workload = WORKLOADS[name].load()(1000, 5)
    metrics = [metric.name for metric in workload.metrics]
    assert workload.name == name
    assert workload.run_metric in metrics
    assert {rate.over for rate in workload.rates} <= set(metrics)
    amounts = {**workload.amounts(2, 1), **workload.cost(LLAMA, BF16, 2).amounts}
    assert set(amounts) == {rate.name for rate in workload.rates}
    assert any(metric.watched for metric in workload.metrics)
