"""Engines of other projects over a tiny model of ours: opened, driven and checked as a session does.

ENGINE_PYTHON="vllm=/venv/bin/python llama.cpp=..." has tests use those that are installed elsewhere.
"""

import os
import shutil
from dataclasses import replace
from importlib.util import find_spec

import pytest

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.other_python import has_package
from inference_benchmark.engines.stream_engine import StreamEngine
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.session.weight_files import WeightFiles
from inference_benchmark.workloads.base import CheckContext
from inference_benchmark.workloads.generation import Generation
from inference_benchmark.workloads.inputs import random_tokens

INPUT, OUTPUT, BATCH = 12, 10, 2
WORKLOAD = Generation(INPUT, OUTPUT)


def tiny(preset: str, num_layers: int):
    """A model of small layers, of the preset's family, RoPE and norms."""
    model, of = MODELS["llama-tiny"].with_layers(num_layers), MODELS[preset]
    attention = replace(
        model.layers[0].attention, learned_qk_norm=of.layers[0].attention.learned_qk_norm
    )
    return replace(
        model,
        family=of.family,
        rope=of.rope,
        tied_embeddings=of.tied_embeddings,
        attention=attention,
    )


PYTHONS = dict(pair.split("=", 1) for pair in os.environ.get("ENGINE_PYTHON", "").split())


def skip_unless_here(mode: str) -> None:
    entry, python = ENGINES[mode], PYTHONS.get(mode)
    for package in entry.packages:
        if not (has_package(python, package) if python else find_spec(package)):
            pytest.skip(f"the package {package} is not installed: {entry.install}")
    for package in entry.own_packages:
        if find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed: pip install {package}")
    if entry.cpu_program is not None and shutil.which(entry.cpu_program) is None:
        pytest.skip(f"{entry.cpu_program} is not installed")


def opened(mode: str, decoder, *options: str) -> StreamEngine:
    plan = EnginePlan(BATCH, INPUT, INPUT + OUTPUT, options=options, python=PYTHONS.get(mode))
    device = decoder.norm.weight.device
    return ENGINES[mode].load()(plan, Resources(decoder, device, WeightFiles(decoder)))


def fp32_decoder(preset: str, num_layers: int = 2):
    return build_decoder(tiny(preset, num_layers), "fp32", "cpu", INPUT + OUTPUT)


def prompts(run: int):
    return random_tokens(1000, BATCH, INPUT, 0, run, "cpu")


def context_of(decoder) -> CheckContext:
    return CheckContext(decoder, "fp32", 0, prompts)


def checked(engine: StreamEngine, decoder) -> dict:
    """What the check before the timing says; two timed runs follow, which have to differ and pass."""
    record = WORKLOAD.check(engine, context_of(decoder))
    tokens = []
    for run in range(2):
        times = WORKLOAD.times(WORKLOAD.time(engine, None, prompts(run)))
        assert times["ttft_s"] > 0
        assert times["tbot_s"] > 0
        tokens.append(engine.newest.tokens)
    assert tokens[0] != tokens[1]
    output = WORKLOAD.keep_output(engine, prompts(1))
    after = WORKLOAD.check_timed(engine, context_of(decoder), [output], record)
    assert after["passed"], after["failures"]
    return record
