"""One generation run: a prefill, then output_length - 1 decode steps, marked by a clock.

This is the only timing loop of the project; every mode goes through it. Nothing in it waits for the
device, allocates or prints: decode steps are enqueued back to back and read their token and
position from the device.
"""

import time

import torch
from torch import Tensor

from inference_benchmark.session.cell import Run


def generate(engine, clock_type, input_ids: Tensor, output_length: int) -> Run:
    """Run one generation.

    Args:
        engine: has prefill(input_ids) and decode(), as modes.base.StepEngine.
        clock_type: makes a clock for a number of marks, as in measurement.clock.
        input_ids: [batch, input_length], int64, on the engine's device.
        output_length: tokens to generate per sequence, the prefill's own included.
    """
    clock = clock_type(output_length + 1)
    started = time.perf_counter()
    clock.mark()
    engine.prefill(input_ids)
    clock.mark()
    for _ in range(output_length - 1):
        engine.decode()
        clock.mark()
    ttft_s, *step_s = clock.gaps_s()
    return Run(ttft_s, step_s, time.perf_counter() - started)


def prompt(
    vocab_size: int, batch_size: int, input_length: int, seed: int, run: int, device
) -> Tensor:
    """The prompt of a run, [batch, input_length]: random, the same in every mode."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + run)
    shape = (batch_size, input_length)
    return torch.randint(vocab_size, shape, generator=generator).to(device)
