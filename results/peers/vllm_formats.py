"""vLLM's kernels for weights in 8 and 4 bits, timed in a bare loop over its own API.

    python results/peers/vllm_formats.py --folder TEMPORARY --output results/published/peers/NAME.json

Run by a Python that has vLLM. The model's random weights are those of this project's sessions, rounded
to the nearest and packed as checkpoints of the format have them: GPTQ of 4 and 8 bits in groups of 128,
for vLLM's Machete or Marlin kernels, and fp8 with a scale per matrix, activations rounded per token.
tests/audit/bare_loops.py then times each folder. Which kernel was taken vLLM's log says, of which those
lines are kept. No token of these runs is checked.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
GROUP = 128  # weights that share a scale


def main() -> None:
    arguments = _arguments()
    record = _record(arguments)
    for name in arguments.formats:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            _write(name, arguments, Path(folder))
            times = _timed(arguments, Path(folder))
        record["runs"].append({"options": LABELS[name], "weight_format": name, **times})
        # After each format: what a time limit leaves is whole.
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
        print(name, {key: times[key] for key in ("ttft_s", "tbot_s", "kernels")}, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for temporary weights")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--model-name", default="llama3.1-8b")
    parser.add_argument("--formats", nargs="+", default=list(LABELS), choices=LABELS)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--input-length", type=int, default=1000)
    parser.add_argument("--output-length", type=int, default=200)
    parser.add_argument("--num-layers", type=int, help="default: all")
    parser.add_argument("--num-iterations", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"--folder {arguments.folder} is no folder")
    return arguments


def _write(name: str, arguments: argparse.Namespace, folder: Path) -> None:
    """A checkpoint: config.json and one file of tensors."""
    sys.path.insert(0, str(ROOT))
    from safetensors.torch import save_file

    from inference_benchmark.model.checkpoint_export import config_json
    from inference_benchmark.model.checkpoint_names import tensors
    from inference_benchmark.model.weights import build_decoder
    from inference_benchmark.models import MODELS

    model = MODELS[arguments.model_name].with_layers(arguments.num_layers)
    decoder = build_decoder(model, "bf16", arguments.device, context_length=1)
    settings, pack = FORMATS[name]
    weights: dict[str, Tensor] = {}
    for key, weight in tensors(decoder).items():
        parts = _packed(key, weight, pack)
        weights |= {part: tensor.to("cpu", copy=True).contiguous() for part, tensor in parts}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {**config_json(decoder), "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))


def _packed(key: str, weight: Tensor, pack: Callable) -> Iterator[tuple[str, Tensor]]:
    """A layer's matrices are packed; embeddings, norms and the head stay."""
    if not key.endswith("_proj.weight"):
        yield key, weight
        return
    for part, tensor in pack(weight.float()).items():
        yield f"{key.removesuffix('weight')}{part}", tensor


def gptq(weight: Tensor, bits: int) -> dict[str, Tensor]:
    """[out, in] -> words of 32 bits of neighbouring inputs [in * bits / 32, out], a scale per group
    [in / GROUP, out], zeros that stand for the middle of the range, less one, and each input's group."""
    outputs, inputs = weight.shape
    middle, per_word = 2 ** (bits - 1), 32 // bits
    groups = weight.reshape(outputs, inputs // GROUP, GROUP)
    scales = (groups.abs().amax(-1, keepdim=True) / (middle - 1)).bfloat16().float()
    codes = (groups / scales).round().clamp(-middle, middle - 1).to(torch.int64) + middle
    codes = codes.reshape(outputs, inputs // per_word, per_word)
    shifts = bits * torch.arange(per_word, device=weight.device)
    zeros = (middle - 1) * sum(2 ** (bits * place) for place in range(per_word))
    shape = (inputs // GROUP, outputs // per_word)
    return {
        "qweight": _as_int32((codes << shifts).sum(-1)).T,
        "qzeros": _as_int32(torch.full(shape, zeros, dtype=torch.int64)),
        "scales": scales.squeeze(-1).T.bfloat16(),
        "g_idx": (torch.arange(inputs) // GROUP).to(torch.int32),
    }


def _as_int32(words: Tensor) -> Tensor:
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def fp8(weight: Tensor) -> dict[str, Tensor]:
    """[out, in] -> e4m3 and one scale."""
    scale = weight.abs().amax() / torch.finfo(torch.float8_e4m3fn).max
    return {"weight": (weight / scale).to(torch.float8_e4m3fn), "weight_scale": scale.float()}


def _gptq_settings(bits: int) -> dict:
    return {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": GROUP,
        "desc_act": False,
        "sym": True,
        "lm_head": False,
        "checkpoint_format": "gptq",
    }


FORMATS: dict[str, tuple[dict, Callable]] = {
    "int4": (_gptq_settings(4), lambda weight: gptq(weight, 4)),
    "int8": (_gptq_settings(8), lambda weight: gptq(weight, 8)),
    "fp8-dynamic": ({"quant_method": "fp8", "activation_scheme": "dynamic"}, fp8),
}
LABELS = {
    "int4": "int4 (GPTQ, groups of 128)",
    "int8": "int8 (GPTQ, groups of 128)",
    "fp8-dynamic": "fp8 (a scale per matrix, activations too)",
}


def _timed(arguments: argparse.Namespace, folder: Path) -> dict:
    output = folder / "times.json"
    words = [sys.executable, str(ROOT / "tests/audit/bare_loops.py"), "vllm", str(folder)]
    words += ["--output", str(output), "--device", arguments.device]
    words += ["--runs", str(arguments.num_iterations), "--batch-size", str(arguments.batch_size)]
    words += ["--input-length", str(arguments.input_length)]
    words += ["--output-length", str(arguments.output_length)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit("\n".join(done.stdout.splitlines()[-20:]))
    measured = json.loads(output.read_text())
    others = arguments.output_length - 1
    first_s, all_s = measured["runs"]["first_s"], measured["runs"]["all_s"]
    return {
        "ttft_s": first_s,
        "tbot_s": [(last - first) / others for first, last in zip(first_s, all_s, strict=True)],
        "kernels": sorted(
            set(re.findall(r"(?i)\w*(?:kernel|marlin|cutlass)\w* for \w+", done.stdout))
        ),
    }


def _record(arguments: argparse.Namespace) -> dict:
    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    names = ("model_name", "batch_size", "input_length", "output_length", "num_iterations")
    words = [f"--{name.replace('_', '-')} {getattr(arguments, name)}" for name in names]
    return {
        "peer": "vLLM",
        "commit": version("vllm"),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": " ".join(["python results/peers/vllm_formats.py", *words]),
        "environment": {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda},
        "model_name": arguments.model_name,
        "precision": "bf16",
        "batch_size": arguments.batch_size,
        "input_length": arguments.input_length,
        "output_length": arguments.output_length,
        "runs": [],
    }


if __name__ == "__main__":
    main()
