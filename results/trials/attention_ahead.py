"""Attention of one sequence with its first tile in registers before its queries are there, and without.

    python results/trials/attention_ahead.py --output FILE.json

Whole decode steps of Llama 3.2 1B and 3.1 8B at batch 1, captured, replayed for seconds at three
contexts, the plans in turn. "Shared memory" are tiles of 16 KiB that are copied there behind the wait,
from L2, to which they were sent before it; "registers" is what `rope_decode` does by itself, and the same
with other tiles and warps. Each way's logits are held against plain PyTorch on the same cache.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.kernels import attention_plan
from inference_benchmark.kernels.attention_plan import Plan
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.system.environment import git_commit

CONTEXTS = (1000, 1850, 4900)
SLOTS = 5120
STEPS = 100
ROUNDS = 2
MOST_ERROR = 0.03
WARM_S, TIMED_S = 0.2, 0.8


def plans(head_dim: int) -> dict[str, Plan | None]:
    """By name; None: what the kernel chooses."""
    ahead = {"num_stages": 1, "ahead": True}
    return {
        "shared memory, 16 KiB, 4 warps": Plan(16, 8192 // head_dim, 4, num_stages=2),
        "registers": None,
        "registers, 64 tokens, 8 warps": Plan(16, 64, 8, **ahead),
        "registers, 64 tokens, 4 warps": Plan(16, 64, 4, **ahead),
        "registers, 32 tokens, 4 warps": Plan(16, 32, 4, **ahead),
    }


def captured_engine(decoder: torch.nn.Module, plan: Plan | None):
    """Eager with our kernels, its step captured; plan: of attention."""
    kernels = KernelConfig(attention="flash_decode", linear="gemv")
    engine = ENGINES["eager"].load()(
        EnginePlan(1, CONTEXTS[0], SLOTS, kernels=kernels), Resources(decoder)
    )
    chosen = attention_plan.choose_plan
    with mock.patch.object(attention_plan, "choose_plan", lambda *a, **k: plan or chosen(*a, **k)):
        engine.capture()
    return engine


def error_of(engine, plain, ids: torch.Tensor) -> float:
    """Of a step's logits, relative, against plain PyTorch on the same cache."""
    for cache, other in zip(engine.caches, plain.caches, strict=True):
        for ours, reference in zip(cache, other, strict=True):
            ours.copy_(reference)
    for decoder in (plain, engine):
        decoder.force(ids[:, -1:], CONTEXTS[0])
        decoder.decode()
    reference = plain.logits.double()
    return float((engine.logits.double() - reference).norm() / reference.norm())


def ms_per_token(engine, ids: torch.Tensor, context: int, seconds: float) -> float:
    torch.cuda.synchronize()
    begun, steps = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds:
        engine.force(ids[:, -1:], context)
        for _ in range(STEPS):
            engine.decode()
        torch.cuda.synchronize()
        steps += STEPS
    return passed / steps * 1e3


def trial(name: str) -> dict:
    decoder = build_decoder(MODELS[name], "bf16", "cuda", SLOTS)
    torch.manual_seed(1)
    ids = torch.randint(0, decoder.config.vocab_size, (1, CONTEXTS[0]), device="cuda")
    plain = ENGINES["eager"].load()(EnginePlan(1, CONTEXTS[0], SLOTS), Resources(decoder))
    plain.prefill(ids)
    head_dim = plain.caches[0][0].shape[-1]
    engines = {way: captured_engine(decoder, plan) for way, plan in plans(head_dim).items()}
    rows = {way: {"error": error_of(engine, plain, ids)} for way, engine in engines.items()}
    for way, row in rows.items():
        if row["error"] > MOST_ERROR:
            raise AssertionError(f"{name}, {way}: logits off by {row['error']:.1%}")
    for number in range(ROUNDS):
        for way in list(engines)[:: -1 if number % 2 else 1]:
            for context in CONTEXTS:
                ms_per_token(engines[way], ids, context, WARM_S)
                times = rows[way].setdefault("ms", {}).setdefault(str(context), [])
                times.append(ms_per_token(engines[way], ids, context, TIMED_S))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    result = {"gpu": torch.cuda.get_device_name(), "git_commit": git_commit(), "models": {}}
    with torch.inference_mode():
        for name in ("llama3.2-1b", "llama3.1-8b"):
            result["models"][name] = trial(name)
            output.write_text(json.dumps(result, indent=1))
            for way, row in result["models"][name].items():
                print(f"{name} {way:32s}", row["ms"], f"{row['error']:.1e}")
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
