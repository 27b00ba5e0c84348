"""--quantize from the command line to the result file, on a CPU."""

import json

from inference_benchmark import benchmark_inference
from inference_benchmark.model.config import Precision
from inference_benchmark.models import MODELS
from inference_benchmark.reporting.shape import departure

FLAGS = (
    "--model-name llama-tiny --num-layers 1 --mode eager --device cpu --json --quiet "
    "--input-length 8 --output-length 3 --num-iterations 2 --warmup-iterations 0 "
    "--quantize fp8 --max-kl 1e-9"
)


def test_a_format_alone_is_checked_against_weights_that_are_gone(capsys):
    """The model itself is not kept; the gate is far below what 8 bits can do."""
    assert benchmark_inference.main(FLAGS.split()) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert departure(result) is None
    (cell,) = result["cells"]
    assert (cell["label"], cell["status"]) == ("eager fp8 b1", "ok")
    assert cell["output_check"]["passed"]
    assert cell["weights"] == {
        "format": "fp8",
        "storage_bits": 8,
        "group_size": None,
        "compute": "bf16",
    }
    accuracy = cell["accuracy"]
    assert accuracy["against"] == "bf16"
    assert accuracy["tokens"] == 11
    assert 0 < accuracy["kl_mean"] < 0.01
    assert accuracy["passed"] is False
    model = MODELS["llama-tiny"].with_layers(1)
    stored = model.weight_bytes(Precision.quantized("bf16", "fp8"))
    assert cell["memory"]["weights_bytes"] == stored
    assert cell["memory"]["predicted_bytes"] > stored
