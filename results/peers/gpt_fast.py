"""gpt-fast's published generation loop on random weights, timed as this project's cells are.

    python results/peers/gpt_fast.py --checkout PATH --output results/published/peers/NAME.json

PATH is a checkout of github.com/meta-pytorch/gpt-fast; nothing of it is copied here. Its model, its
`generate`, its compiler settings and `torch.compile(..., mode="reduce-overhead", fullgraph=True)` of
one decode step are used as its README's `--compile` does, then, with --compile-prefill, its
`--compile_prefill` too. Only a checkpoint and a tokenizer are not needed: weights are drawn at the
scale of this project's, the prompt is random tokens, as with its `--prompt 1000`. TTFT is its
`prefill`, sampling included; TBOT its `decode_n_tokens` over the tokens that it makes; CUDA events.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch

_SAMPLING = {"temperature": 0.8, "top_k": 200}  # the defaults of its command line


def main() -> None:
    arguments = _arguments()
    start = time.perf_counter()
    published = _load(arguments.checkout)
    model = _random_model(published, arguments.model_name, arguments.device)
    record = _record(arguments, published)
    stages = [("--compile", ("decode_one_token",))]
    if arguments.compile_prefill:
        stages.append(("--compile --compile_prefill", ("prefill",)))
    for options, names in stages:
        if arguments.device == "cuda":
            _compile(published, names)
        times = _measure(published, model, arguments)
        times["first_run_ended_s"] = times["first_run_ended"] - start
        del times["first_run_ended"]
        is_smoke = arguments.device != "cuda"
        record["runs"].append({"options": "nothing compiled" if is_smoke else options, **times})
        # After each stage: what a time limit leaves is whole.
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
        print(f"{options}: TTFT {times['ttft_s']}, TBOT {times['tbot_s']}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="folder with its generate.py")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--model-name", default="llama-3.1-8b", help="a name of its model.py")
    parser.add_argument("--input-length", type=int, default=1000)
    parser.add_argument("--output-length", type=int, default=1000)
    parser.add_argument("--num-iterations", type=int, default=3, help="timed runs of each stage")
    parser.add_argument("--compile-prefill", action="store_true", help="in a second stage")
    parser.add_argument("--device", default="cuda", help="cpu: nothing is compiled, a smoke run")
    arguments = parser.parse_args()
    if not (arguments.checkout / "generate.py").is_file():
        parser.error(f"--checkout {arguments.checkout} has no generate.py")
    if arguments.output_length < 3:
        parser.error("--output-length must be at least 3")
    return arguments


def _load(checkout: Path) -> ModuleType:
    """Its generate.py; the tokenizer that it imports, and that random tokens don't need, is empty."""
    sys.modules["tokenizer"] = SimpleNamespace(get_tokenizer=None)
    sys.path.insert(0, str(checkout.resolve()))
    return import_module("generate")


def _random_model(published: ModuleType, name: str, device: str) -> torch.nn.Module:
    with torch.device("meta"):
        model = published.Transformer.from_name(name)
    model = model.to(torch.bfloat16).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for path, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(1.0)
            continue
        std = 1.0 if path.startswith("tok_embeddings") else 1 / math.sqrt(parameter.shape[-1])
        if path.endswith(("wo.weight", "w2.weight")):  # they write into the residual stream
            std /= math.sqrt(2 * model.config.n_layer)
        parameter.data.normal_(0.0, std, generator=generator)
    return model.eval().requires_grad_(False)


def _compile(published: ModuleType, names: tuple[str, ...]) -> None:
    """As its main() does."""
    options = {
        "decode_one_token": {"mode": "reduce-overhead", "fullgraph": True},
        "prefill": {"fullgraph": True, "dynamic": True},
    }
    for name in names:
        setattr(published, name, torch.compile(getattr(published, name), **options[name]))


def _measure(published: ModuleType, model: torch.nn.Module, arguments: argparse.Namespace) -> dict:
    """Of a first run, which compiles, nothing but its end is kept."""
    clock = _Clock(arguments.device)
    plain = published.prefill, published.decode_n_tokens
    published.prefill = clock.around("prefill", published.prefill)
    published.decode_n_tokens = clock.around("decode", published.decode_n_tokens)
    times_s: dict = {"ttft_s": [], "tbot_s": []}
    try:
        for run in range(-1, arguments.num_iterations):
            tokens = _generate(published, model, arguments, seed=run + 1)
            times = clock.seconds()
            if not 0 <= int(tokens.min()) <= int(tokens.max()) < model.config.vocab_size:
                raise SystemExit("tokens outside of the vocabulary: nothing was measured")
            if run < 0:
                times_s["first_run_ended"] = time.perf_counter()
                continue
            times_s["ttft_s"].append(times["prefill"])
            times_s["tbot_s"].append(times["decode"] / (arguments.output_length - 1))
    finally:
        published.prefill, published.decode_n_tokens = plain
    return times_s


def _generate(
    published: ModuleType, model: torch.nn.Module, arguments: argparse.Namespace, seed: int
) -> torch.Tensor:
    """[1, input_length + output_length]"""
    generator = torch.Generator(arguments.device).manual_seed(seed)
    prompt = torch.randint(
        0, 1024, (arguments.input_length,), device=arguments.device, generator=generator
    )
    tokens, _ = published.generate(
        model,
        prompt,
        arguments.output_length,
        batch_size=1,
        interactive=False,
        draft_model=None,
        **_SAMPLING,
    )
    return tokens


class _Clock:
    """Device time of one call of each function, by its name."""

    def __init__(self, device: str) -> None:
        self._is_gpu = device == "cuda"
        self._marks: dict[str, tuple] = {}

    def around(self, name: str, function: Callable) -> Callable:
        def timed(*args, **kwargs):
            before = self._mark()
            result = function(*args, **kwargs)
            self._marks[name] = before, self._mark()
            return result

        return timed

    def _mark(self):
        if not self._is_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> dict[str, float]:
        if not self._is_gpu:
            return {name: after - before for name, (before, after) in self._marks.items()}
        torch.cuda.synchronize()
        return {
            name: before.elapsed_time(after) * 1e-3 for name, (before, after) in self._marks.items()
        }


def _record(arguments: argparse.Namespace, published: ModuleType) -> dict:
    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    return {
        "peer": "gpt-fast",
        "commit": _commit(arguments.checkout),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": _command(arguments),
        "environment": {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda},
        "model_name": arguments.model_name,
        "precision": "bf16",
        "batch_size": 1,
        "input_length": arguments.input_length,
        "output_length": arguments.output_length,
        "sampling": _SAMPLING,
        "runs": [],
    }


def _command(arguments: argparse.Namespace) -> str:
    """That of this run, without folders of the machine that it ran on."""
    words = ["python", "results/peers/gpt_fast.py", "--checkout gpt-fast"]
    for name in ("model_name", "input_length", "output_length", "num_iterations"):
        words.append(f"--{name.replace('_', '-')} {getattr(arguments, name)}")
    return " ".join([*words, *(["--compile-prefill"] if arguments.compile_prefill else [])])


def _commit(checkout: Path) -> str | None:
    marker = checkout / "COMMIT"  # of a copy without its history
    if marker.is_file():
        return marker.read_text().strip()
    done = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return done.stdout.strip() or None if done.returncode == 0 else None


if __name__ == "__main__":
    main()
