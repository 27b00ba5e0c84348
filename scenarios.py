"""Scenario presets: how many tokens go in, how many come out, and what that stresses.

Prefill works on all input tokens at once and is bound by arithmetic; decode produces one token per
sequence and step, reads every weight for it and is bound by memory bandwidth. The mix of input and
output tokens therefore decides which part of a GPU a scenario measures. The shares printed from
this table are shares of tokens: in time, decode takes nearly all of it at batch 1 in every preset.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    name: str
    input_length: int  # prompt tokens per sequence
    output_length: int  # generated tokens per sequence, the prefill's own token included
    stresses: str
    use_case: str

    @property
    def prefill_token_share(self) -> float:
        """Input tokens over all tokens, 0..1."""
        return self.input_length / (self.input_length + self.output_length)


_TABLE = (
    Scenario("summarization", 4000, 1000, "prefill, compute", "documents, retrieval, code review"),
    Scenario("chat", 1000, 1000, "balanced tokens", "assistants, question answering"),
    Scenario("reasoning", 1000, 4000, "decode, bandwidth", "chains of thought, agents, code"),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _TABLE}
