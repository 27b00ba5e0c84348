"""Depth: how fast further tokens are read and generated behind a context that is already there.

The cache is filled with random values up to the depth, not computed token by token. A run reads a
further prompt there, goes back to the depth, and generates from it: both phases begin at the same
context, so that they show what attention to it costs. Prefill grows with the context by arithmetic,
decode steps by the bytes of the cache. No torch here.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.workloads.base import (
    CHECK_RUNS,
    CheckContext,
    Metric,
    ProfiledPhase,
    Rate,
    Run,
)
from inference_benchmark.workloads.cost import Cost, Phase
from inference_benchmark.workloads.generation import PROFILED_STEPS, decode_phase
from inference_benchmark.workloads.token_by_token import TokenByToken


@dataclass
class DepthInputs:
    """What goes into a run.

    prompt: [batch, input_length]. token: [batch, 1], which the first decode step takes.
    fill_seed: of the context. first_token: what the newest run's prefill chose, once it is made.
    """

    prompt: Any
    token: Any
    fill_seed: int
    first_token: Any = None


class Depth(TokenByToken):
    """context_depth: tokens that each sequence's cache holds before a run."""

    name = "depth"
    steps_used = frozenset({"fill", "prefill", "decode"})
    metrics = (
        Metric("prefill_s", "prefill", headline=True, watched=True),
        Metric("tbot_s", "TBOT", headline=True, watched=True),
        Metric("decode_s", "decode"),
        Metric("total_s", "total"),
    )
    rates = (
        Rate("prefill_tokens_per_s", "prefill tok/s", "prefill_s", headline=True),
        Rate("decode_tokens_per_s", "decode tok/s", "tbot_s", headline=True),
        Rate("per_user_tokens_per_s", "tok/s/user", "tbot_s"),
        Rate("per_gpu_tokens_per_s", "decode tok/s/GPU", "tbot_s"),
    )

    def __init__(self, input_length: int, output_length: int, context_depth: int = 0) -> None:
        super().__init__(input_length, output_length)
        self.context_depth = context_depth

    def behind(self, context_depth: int) -> "Depth":
        """The same behind a context of this depth."""
        return Depth(self.input_length, self.output_length, context_depth)

    @property
    def cache_length(self) -> int:
        """Room for both one after the other: the output check makes steps after a prompt."""
        return self.context_depth + self.input_length + self.output_length

    @property
    def contexts(self) -> range:
        """Of the decode steps, each with its own token."""
        first = self.context_depth + 1
        return range(first, first + self.output_length)

    def inputs(self, vocab_size: int, batch_size: int, seed: int, run: int, device) -> DepthInputs:
        from inference_benchmark.workloads.inputs import random_tokens

        length = self.input_length + 1
        tokens = random_tokens(vocab_size, batch_size, length, seed, run, device)
        return DepthInputs(tokens[:, :-1], tokens[:, -1:], seed)

    def token_ids(self, inputs: DepthInputs) -> dict[str, list]:
        return {
            "token_ids": inputs.prompt.tolist(),
            "first_decode_token_ids": inputs.token.tolist(),
        }

    def before_run(self, engine, inputs: DepthInputs) -> None:
        engine.fill(inputs.fill_seed)

    def prepare(self, engine, inputs, timed: Callable[[str, Callable[[], None]], None]) -> None:
        timed("compile_prefill_s", lambda: engine.prefill(inputs.prompt))
        timed("compile_decode_s", engine.decode)

    def time(self, engine, clock_type, inputs: DepthInputs) -> Run:
        """Marks: start, end of the prefill, back at the depth, end of each decode step."""
        clock = clock_type(self.output_length + 3)
        started = time.perf_counter()
        clock.mark()
        engine.prefill(inputs.prompt)
        clock.mark()
        if "tokens" in engine.capabilities.evidence:
            inputs.first_token = engine.token.clone()
        engine.force(inputs.token, self.context_depth)
        clock.mark()
        for _ in range(self.output_length):
            engine.decode()
            clock.mark()
        gaps_s = clock.gaps_s()
        return Run(gaps_s, time.perf_counter() - started)

    def times(self, run: Run) -> dict[str, float]:
        prefill_s, _, *step_s = run.gaps_s
        decode_s = sum(step_s)
        return {
            "prefill_s": prefill_s,
            "tbot_s": decode_s / len(step_s),
            "decode_s": decode_s,
            "total_s": prefill_s + decode_s,
        }

    def steps(self, run: Run) -> dict[str, list[float]]:
        return {"step_s": run.gaps_s[2:]}

    def cost(self, share: ModelConfig, precision: Precision, batch_size: int) -> Cost:
        lengths = self.input_length, self.context_depth
        prefill = Phase(
            share.prefill_flops(batch_size, *lengths),
            share.prefill_bytes(precision, batch_size, *lengths),
            share.prefill_attention_flops(batch_size, *lengths),
        )
        decode = decode_phase(share, precision, batch_size, self.contexts)
        return Cost(
            phases={"prefill": prefill, "decode": decode},
            metrics={
                "prefill_s": {"prefill": 1},
                "tbot_s": {"decode": 1},
                "total_s": {"prefill": 1, "decode": self.output_length},
            },
            facts={"prefill_flops": prefill.flops, "decode_bytes_per_step": decode.bytes},
            mfu=("prefill", "prefill_s"),
            mbu=("decode", "tbot_s"),
        )

    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        return {
            "prefill_tokens_per_s": batch_size * self.input_length,
            "decode_tokens_per_s": batch_size,
            "per_user_tokens_per_s": 1,
            "per_gpu_tokens_per_s": batch_size / num_gpus,
        }

    def profiled(self, engine, inputs, share, precision, batch_size) -> list[ProfiledPhase]:
        """The prefill, and the first decode steps at the depth."""
        contexts = self.contexts[:PROFILED_STEPS]
        prefill = self.cost(share, precision, batch_size).phases["prefill"]
        decode = decode_phase(share, precision, batch_size, contexts)

        def run_prefill() -> None:
            engine.prefill(inputs.prompt)

        def go_back() -> None:
            engine.force(inputs.token, self.context_depth)

        return [
            ProfiledPhase("prefill", run_prefill, run_prefill, 1, prefill, None, "prefill_s"),
            ProfiledPhase(
                "decode", go_back, engine.decode, len(contexts), decode, contexts, "tbot_s"
            ),
        ]

    def check(self, engine, context: CheckContext) -> dict:
        from inference_benchmark.output_check import check_before

        prompts = [context.inputs(run).prompt for run in CHECK_RUNS]
        return check_before(engine, context.decoder, prompts, context.precision, context.seed)

    def keep_output(self, engine, inputs: DepthInputs):
        """Both phases of the newest run, each as a run of its own."""
        if "tokens" not in engine.capabilities.evidence:
            return None
        from inference_benchmark.output_check import TimedRun

        depth = self.context_depth
        prefill = TimedRun(
            inputs.prompt,
            inputs.first_token.to("cpu", copy=True),
            None,
            context_depth=depth,
            fill_seed=inputs.fill_seed,
            overwritten=self.output_length,
        )
        decode = TimedRun.of(engine, inputs.token, self.output_length, depth, inputs.fill_seed)
        return prefill, decode

    def check_timed(
        self, engine, context: CheckContext, outputs: Sequence[Any], before: dict
    ) -> dict:
        from inference_benchmark.output_check import check_timed_runs

        return check_timed_runs(
            engine,
            context.decoder,
            [part for output in outputs for part in output],
            context.precision,
            before,
            parts=2,
        )
