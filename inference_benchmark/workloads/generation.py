"""Generation: a prefill over the prompt, then one decode step per further token, greedily.

The prefill is bound by arithmetic, decode steps by memory bandwidth. TTFT is the prefill with its
token's choice; TBOT, the time between output tokens, is what vLLM, SGLang and TensorRT-LLM call
TPOT: the time of all decode steps over their number. An engine with a loop of its own says when it
had each token, and gaps are made of these times. No torch here.
"""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise

from inference_benchmark.model.config import ModelConfig, Precision, decode_contexts
from inference_benchmark.workloads.base import (
    CHECK_RUNS,
    CheckContext,
    Metric,
    ProfiledPhase,
    Rate,
    Run,
)
from inference_benchmark.workloads.cost import Cost, Phase
from inference_benchmark.workloads.token_by_token import TokenByToken

PROFILED_STEPS = 8
_FIRST_TOKENS = 4  # of the second generation of an engine with a loop of its own


class Generation(TokenByToken):
    name = "generation"
    steps_used = frozenset({"prefill", "decode"})
    metrics = (
        Metric("ttft_s", "TTFT", headline=True, watched=True),
        Metric("tbot_s", "TBOT", headline=True, watched=True),
        Metric("decode_s", "decode"),
        Metric("total_s", "total"),
    )
    rates = (
        Rate("overall_tokens_per_s", "overall tok/s", "total_s"),
        Rate("output_tokens_per_s", "tok/s", "total_s", headline=True),
        Rate("prefill_tokens_per_s", "prefill tok/s", "ttft_s"),
        Rate("decode_tokens_per_s", "decode tok/s", "tbot_s"),
        Rate("per_user_tokens_per_s", "tok/s/user", "tbot_s"),
        Rate("per_gpu_tokens_per_s", "tok/s/GPU", "total_s"),
    )
    # Of estimates from two depths against the measured model, the largest of those published in
    # results/published/extrapolation and session (llama3.1-8b from 4 and 8 of 32 layers, three
    # modes): TTFT -1.2 .. +0.4 %, TBOT +0.3 .. +1.7 %, ratios of these up to 1.7 %.
    estimate_errors: Mapping[str, float] = {"ttft_s": 0.012}

    @property
    def cache_length(self) -> int:
        return self.input_length + self.output_length

    def serves(self, steps: frozenset[str]) -> bool:
        return "generate" in steps or super().serves(steps)

    def prepare(self, engine, inputs, timed: Callable[[str, Callable[[], None]], None]) -> None:
        """Of an engine with a loop of its own: a first token, then a generation of a few, of which
        each includes its prefill."""
        if _has_own_loop(engine):
            few = min(_FIRST_TOKENS, self.output_length)
            timed("compile_prefill_s", lambda: engine.run(inputs, 1))
            timed("compile_decode_s", lambda: engine.run(inputs, few))
            return
        timed("compile_prefill_s", lambda: engine.prefill(inputs))
        timed("compile_decode_s", engine.decode)

    def time(self, engine, clock_type, inputs) -> Run:
        """One run, marked by a clock, or by the engine's own where it has the loop.

        Nothing in the loop waits for the device, allocates or prints: decode steps are enqueued
        back to back and read their token and position from the device.
        """
        if _has_own_loop(engine):
            return self._time_stream(engine, inputs)
        clock = clock_type(self.output_length + 1)
        started = time.perf_counter()
        clock.mark()
        engine.prefill(inputs)
        clock.mark()
        for _ in range(self.output_length - 1):
            engine.decode()
            clock.mark()
        gaps_s = clock.gaps_s()
        return Run(gaps_s, time.perf_counter() - started)

    def _time_stream(self, engine, inputs) -> Run:
        started = time.perf_counter()
        stream = engine.run(inputs, self.output_length)
        wall_s = time.perf_counter() - started
        marks = [0.0, *stream.token_times_s]
        return Run([after - before for before, after in pairwise(marks)], wall_s)

    def times(self, run: Run) -> dict[str, float]:
        """Of a run of which no more than its end is known, the total alone."""
        if len(run.gaps_s) == 1 < self.output_length:
            return {"total_s": run.total_s}
        ttft_s, *step_s = run.gaps_s
        decode_s = sum(step_s)
        seconds = {"ttft_s": ttft_s, "total_s": ttft_s + decode_s}
        if step_s:
            seconds |= {"decode_s": decode_s, "tbot_s": decode_s / len(step_s)}
        return seconds

    def steps(self, run: Run) -> dict[str, list[float]]:
        return {"step_s": run.gaps_s[1:]}

    def cost(self, share: ModelConfig, precision: Precision, batch_size: int) -> Cost:
        if share.is_foreign:
            return Cost.unknown()
        prefill = Phase(
            share.prefill_flops(batch_size, self.input_length),
            share.prefill_bytes(precision, batch_size, self.input_length),
            share.prefill_attention_flops(batch_size, self.input_length),
        )
        contexts = decode_contexts(self.input_length, self.output_length)
        decode = decode_phase(share, precision, batch_size, contexts)
        steps = self.output_length - 1
        return Cost(
            phases={"prefill": prefill, "decode": decode},
            metrics={
                "ttft_s": {"prefill": 1},
                "tbot_s": {"decode": 1} if steps else {},
                "total_s": {"prefill": 1, "decode": steps},
            },
            facts={"prefill_flops": prefill.flops, "decode_bytes_per_step": decode.bytes},
            mfu=("prefill", "ttft_s"),
            mbu=("decode", "tbot_s"),
        )

    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        output_tokens = batch_size * self.output_length
        return {
            "overall_tokens_per_s": output_tokens + batch_size * self.input_length,
            "output_tokens_per_s": output_tokens,
            "prefill_tokens_per_s": batch_size * self.input_length,
            "decode_tokens_per_s": batch_size,
            "per_user_tokens_per_s": 1,
            "per_gpu_tokens_per_s": output_tokens / num_gpus,
        }

    def s_per_token(self, medians: Mapping[str, float | None]) -> float | None:
        total_s = medians["total_s"]
        return None if total_s is None else total_s / self.output_length

    def profiled(self, engine, inputs, share, precision, batch_size) -> list[ProfiledPhase]:
        """The prefill, and the first decode steps after it; each step beyond the output has no slot
        in the cache."""
        steps = min(PROFILED_STEPS, self.output_length)
        contexts = range(self.input_length + 1, self.input_length + 1 + steps)
        prefill = self.cost(share, precision, batch_size).phases["prefill"]
        decode = decode_phase(share, precision, batch_size, contexts)

        def run_prefill() -> None:
            engine.prefill(inputs)

        return [
            ProfiledPhase("prefill", run_prefill, run_prefill, 1, prefill, None, "ttft_s"),
            ProfiledPhase("decode", run_prefill, engine.decode, steps, decode, contexts, "tbot_s"),
        ]

    def check(self, engine, context: CheckContext) -> dict:
        from inference_benchmark.output_check import check_before, check_stream_before

        prompts = [context.inputs(run) for run in CHECK_RUNS]
        if _has_own_loop(engine):
            length = self.output_length
            return check_stream_before(engine, context.decoder, prompts, context.precision, length)
        return check_before(engine, context.decoder, prompts, context.precision, context.seed)

    def keep_output(self, engine, inputs):
        if "tokens" not in engine.capabilities.evidence:
            return None
        from inference_benchmark.output_check import TimedRun

        if _has_own_loop(engine):
            return TimedRun.of_stream(engine.newest, inputs)
        return TimedRun.of(engine, inputs, self.output_length)

    def check_timed(self, engine, context: CheckContext, outputs, before: dict) -> dict:
        from inference_benchmark.output_check import check_timed_runs

        return check_timed_runs(engine, context.decoder, outputs, context.precision, before)


def _has_own_loop(engine) -> bool:
    return engine.capabilities.granularity != "steps"


def decode_phase(
    share: ModelConfig, precision: Precision, batch_size: int, contexts: range
) -> Phase:
    """One decode step, the mean of those with these contexts."""
    return Phase(
        share.decode_flops(batch_size, contexts),
        share.decode_bytes(precision, batch_size, contexts),
        share.decode_attention_flops(batch_size, contexts),
        share.decode_kv_bytes(precision, batch_size, contexts),
    )
