"""What workloads share that read a prompt and generate from it, token by token. No torch here."""

from inference_benchmark.workloads.base import Workload


class TokenByToken(Workload):
    """A prefill, then decode steps; total_s is both, tbot_s the time between output tokens."""

    run_metric = "total_s"
    payback_metric = "tbot_s"
    first_token_stage = "compile_prefill_s"

    def priced_tokens(self, batch_size: int) -> dict[str, int]:
        output = batch_size * self.output_length
        return {"output": output, "total": output + batch_size * self.input_length}

    def energy_tokens(self, batch_size: int) -> int:
        return batch_size * self.output_length
