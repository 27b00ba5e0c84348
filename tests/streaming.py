"""An engine with a loop of its own, made of the project's eager one, that can be told to go wrong."""

from collections.abc import Callable
from dataclasses import replace

import torch
from step_engines import make_engine

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.stream_engine import Stream, StreamEngine, TokenIds


class EagerStream(StreamEngine):
    """token_fault(tokens) and logit_fault(logits) change what it returns; a step takes 1 ms."""

    capabilities = replace(StreamEngine.capabilities, evidence=frozenset({"tokens", "logits"}))

    def __init__(
        self,
        decoder,
        batch_size: int,
        input_length: int,
        output_length: int,
        token_fault: Callable[[TokenIds], None] = lambda tokens: None,
        logit_fault: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits,
    ) -> None:
        length = input_length + output_length
        super().__init__(EnginePlan(batch_size, input_length, length), Resources(decoder))
        self._steps = make_engine("eager", decoder, batch_size, input_length, length)
        self._token_fault, self._logit_fault = token_fault, logit_fault

    def generate(self, prompts: TokenIds, output_length: int) -> Stream:
        engine = self._steps
        engine.prefill(torch.tensor(prompts))
        for _ in range(output_length - 1):
            engine.decode()
        start = len(prompts[0])
        tokens = engine.tokens[:, start : start + output_length].tolist()
        self._token_fault(tokens)
        return Stream(tokens, [0.001 * (step + 1) for step in range(output_length)])

    def logits_of(self, prompts: TokenIds, forced: TokenIds) -> torch.Tensor:
        engine, prompt = self._steps, torch.tensor(prompts)
        engine.prefill(prompt)
        logits = [engine.logits.clone()]
        for step, token in enumerate(torch.tensor(forced).unbind(1)):
            engine.force(token[:, None], prompt.shape[1] + step)
            engine.decode()
            logits.append(engine.logits.clone())
        return self._logit_fault(torch.stack(logits, dim=1))
