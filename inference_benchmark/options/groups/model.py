"""Which model, and in which weights."""

from dataclasses import dataclass
from pathlib import Path

from inference_benchmark.model.weight_format import PRECISIONS, QUANTIZED
from inference_benchmark.models import MODELS
from inference_benchmark.options import values
from inference_benchmark.options.flag import flag
from inference_benchmark.workloads import PARTS


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    model_name: str | None = flag(
        "model",
        f"one of {', '.join(MODELS)} (default: llama3.1-8b; llama-tiny without a GPU)",
        metavar="NAME",
        role="work",
    )
    model_path: Path | None = flag(
        "model",
        "weights from a Hugging Face folder of safetensors files, or from a GGUF file "
        "(default: random weights)",
        parse=values.path,
        metavar="PATH",
        role="condition",
        not_for=PARTS,
    )
    precision: str = flag(
        "model",
        "default: bf16",
        choices=PRECISIONS,
        default="bf16",
        role="work",
    )
    quantize: tuple[str, ...] = flag(
        "model",
        f"store the layers' matrices in 8 or 4 bits: {', '.join(QUANTIZED)}; several, and none, are "
        "measured in turn (default: none)",
        parse=values.weight_format,
        nargs="+",
        default=("none",),
        metavar="FORMAT",
        excludes={"implementation": "only this project's model is stored so"},
        not_for=(*PARTS, "training"),
    )
    quantize_head: bool = flag(
        "model",
        "store the head in these formats too",
        default=False,
        needs="quantize",
        not_for=(*PARTS, "training"),
    )
    max_kl: float | None = flag(
        "model",
        "exit 1 where quantised weights move next-token distributions farther than X nats from the "
        "model's own, in the mean",
        parse=values.nats,
        metavar="X",
        needs="quantize",
        not_for=(*PARTS, "training"),
    )
    accuracy_text: Path | None = flag(
        "model",
        "hold quantised weights against the model's own on this text file, in tokens of --model-path "
        "(default: random tokens)",
        parse=values.path,
        metavar="FILE",
        role="record",
        needs="quantize",
        not_for=(*PARTS, "training"),
    )
    num_layers: int | None = flag(
        "model",
        "build only N layers (default: all)",
        parse=values.positive_int,
        metavar="N",
        role="work",
        not_for=PARTS,
    )
    extrapolate: tuple[int, ...] | None = flag(
        "model",
        "measure these two depths and estimate the full model, which need not fit "
        "(default depths: 4 8 where they will do)",
        parse=values.positive_int,
        nargs="*",
        metavar=("SMALL", "LARGE"),
        excludes={"num_layers": "an estimate is of the full model"},
        not_for=PARTS,
    )
    implementation: tuple[str, ...] = flag(
        "model",
        "whose build of the model, several are compared: default, transformers, or FILE.py:FUNCTION "
        "of your own (see examples/own_model.py)",
        nargs="+",
        default=("default",),
        metavar="BUILD",
        serves=("generation", "forward", "training"),
    )
    seed: int = flag(
        "model",
        "of weights and prompts (default: 0)",
        parse=values.seed,
        default=0,
        metavar="N",
        role="condition",
    )
