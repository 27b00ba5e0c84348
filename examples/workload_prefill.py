"""A workload in one file: the prefill alone, for whoever only asks how fast prompts are read.

    python examples/workload_prefill.py --workload prefill --input-length 512 --mode eager

Its run is a single step, so that clock, metric and rate come with `SingleStep`; others declare
these themselves (workloads/generation.py). The stopping rule, statistics, limits, tables and
comparisons follow from what is declared. In the project itself this is a file in
inference_benchmark/workloads and an entry of the table in workloads/__init__.py.
"""

from inference_benchmark.workloads import WorkloadEntry, register
from inference_benchmark.workloads.base import CHECK_RUNS
from inference_benchmark.workloads.cost import Phase
from inference_benchmark.workloads.single_step import SingleStep


class Prefill(SingleStep):
    name = "prefill"
    steps_used = frozenset({"prefill", "decode"})  # the output check looks at decode steps as well

    @property
    def cache_length(self):
        return self.input_length + 1

    def step(self, engine, inputs):
        engine.prefill(inputs)

    def work(self, share, precision, batch_size):
        """share: what one rank holds of the model."""
        return Phase(
            share.prefill_flops(batch_size, self.input_length),
            share.prefill_bytes(precision, batch_size, self.input_length),
            share.prefill_attention_flops(batch_size, self.input_length),
        )

    def check(self, engine, context):
        from inference_benchmark.output_check import check_before

        prompts = [context.inputs(run) for run in CHECK_RUNS]
        return check_before(engine, context.decoder, prompts, context.precision, context.seed)


register(WorkloadEntry("prefill", f"{__name__}:Prefill", "the prefill alone", True))

if __name__ == "__main__":
    from inference_benchmark.benchmark_inference import run_program

    run_program()
