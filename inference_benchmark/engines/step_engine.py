"""What all engines share that execute the session's decoder: buffers, steps, CUDA graphs.

A subclass says how a forward is compiled. Everything else is here: static buffers on the device, the
greedy choice fed back without the host, and the CUDA graph of the repeated step.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from inference_benchmark.engines.base import (
    MAX_CAPTURED_PROMPT_TOKENS,
    Capabilities,
    Engine,
    EnginePlan,
    Resources,
)
from inference_benchmark.engines.captured import CapturedStep
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.cache import LayerCache, allocate_cache, fill_cache
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.own_model import OwnForward, can_generate


class StepEngine(Engine):
    """Runs a decoder step by step: a prefill, then decode steps that feed themselves; or forwards.

    `logits` [batch, vocab] holds the newest step's logits, `token` [batch, 1] its choice,
    `position` [1] where that token will stand; all stay on the device. With CUDA graphs the decode
    step is one graph, and `logits` is the memory it writes; with `plan.captures_prompts` a prompt
    of up to MAX_CAPTURED_PROMPT_TOKENS in all sequences is another one. So it is with `choices`,
    which experts each mixture of experts chose for the newest step.

    `tokens` [batch, cache_length + 1] holds what each step chose, at the position where it stands:
    a prefill writes slot input_length, a decode step, inside its graph, slot position + 1; -1 where
    nothing was chosen since the last reset. After a run of output_length tokens they lie in
    [input_length, input_length + output_length), and `position` is that of the last one.

    Without a cache (`plan.cache_length` 0) the engine serves `forward` only, which leaves `logits`
    [batch, input_length, vocab]. With `plan.context_depth` a prompt stands behind that many slots,
    which `fill` has filled, and attends to them: all slots above are then later by as many.
    """

    capabilities = Capabilities(samples=True, steps=Capabilities().steps | {"fill"})

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        super().__init__(plan, resources)
        decoder = resources.decoder
        if plan.num_layers is not None and plan.num_layers < decoder.config.num_layers:
            decoder = decoder.prefix(plan.num_layers)
        self.has_cache = plan.cache_length > 0
        # With --compile-scope step: (token, position, tokens, caches), see DecodeStep.
        self.run_step: Callable | None = None
        weight = decoder.norm.weight
        self.device = weight.device
        self.run_decoder: Callable | None = None
        model = resources.model
        if self.has_cache and model is not None and not can_generate(model):
            raise CannotRun(
                "this implementation has no decode(input_ids, position, caches), which generation needs"
            )
        self.open_model(decoder, model)
        self._num_ranks = decoder.config.tensor_parallel
        self.caches: list[LayerCache] = []
        self.token = torch.zeros(plan.batch_size, 1, dtype=torch.int64, device=self.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=self.device)
        # One slot more than the cache: the last token is chosen, but never goes in.
        shape = (plan.batch_size, plan.cache_length + 1)
        self.tokens = torch.full(shape, -1, dtype=torch.int64, device=self.device)
        if self.has_cache:
            self.caches = allocate_cache(
                decoder.config, plan.batch_size, plan.cache_length, weight.dtype, self.device
            )
        self.logits: Tensor | None = None
        self.choices: list[Tensor] = []
        self._graph: CapturedStep | None = None  # of the decode step, or of the forward
        self._prompt_graph: CapturedStep | None = None

    def open_model(self, decoder: Decoder, model: nn.Module | None) -> None:
        """Compile the decoder, or the model of another implementation in its place."""
        if model is None:
            self.run_decoder = self.compile(decoder)
        else:
            self.run_decoder = self.compile_model(OwnForward(model))

    @property
    def forward_options(self) -> dict:
        """Of model.decoder.Forward, what follows from the plan in every engine."""
        return {
            "all_positions": not self.has_cache,
            "context_depth": self.plan.context_depth,
            "sampling": self.plan.sampling,
        }

    @abstractmethod
    def compile(self, decoder: Decoder) -> Callable:
        """(tokens, position, caches) -> (logits, next token, *choices), as
        model.decoder.Forward; without a cache (logits of all positions, *choices)."""

    def compile_function(self, function: Callable) -> Callable:
        """A pure function of tensors as this engine executes it, for what is a part of a model."""
        return function

    def compile_model(self, model: nn.Module) -> Callable:
        """A whole model of another implementation, as it is called."""
        raise CannotRun(f"mode '{self.plan.mode}' executes this project's build of the model only")

    @torch.inference_mode()
    def prefill(self, input_ids: Tensor) -> None:
        """input_ids [batch, input_length]: fills the cache from slot context_depth on, leaves the
        first token."""
        start = self.plan.context_depth
        end = start + input_ids.shape[1]
        self.position.fill_(start)
        graph = self._prompt_graph
        if graph is None or input_ids.shape != graph.inputs.shape:
            self._step(input_ids)
        else:
            self.logits, self.choices = graph.replay(input_ids)
        self.position.fill_(end)
        self.tokens[:, end : end + 1].copy_(self.token)

    @torch.inference_mode()
    def decode(self) -> None:
        """One step: `token` at `position` goes in, the next token and position come out."""
        if self._graph is None:
            self._decode_step()
        else:
            self.logits, self.choices = self._graph.replay()

    def _decode_step(self) -> None:
        if self.run_step is not None:
            self.logits, *self.choices = self.run_step(
                self.token, self.position, self.tokens, self.caches
            )
            return
        self._step(self.token)
        self.position.add_(1)
        self.tokens.index_copy_(1, self.position, self.token)

    def _step(self, tokens: Tensor) -> None:
        self.logits, token, *self.choices = self.run_decoder(tokens, self.position, self.caches)
        self.token.copy_(token)

    @torch.inference_mode()
    def forward(self, input_ids: Tensor) -> None:
        """input_ids [batch, input_length]: leaves the logits of all positions."""
        if self._graph is None:
            self._forward_step(input_ids)
        else:
            self.logits, self.choices = self._graph.replay(input_ids)

    def _forward_step(self, input_ids: Tensor) -> None:
        self.logits = None  # the largest tensor there is: not two of them at once
        self.logits, *self.choices = self.run_decoder(input_ids, self.position, None)

    @torch.inference_mode()
    def force(self, token: Tensor, position: int) -> None:
        """Make the next decode step take this token [batch, 1] at this position."""
        self.token.copy_(token)
        self.position.fill_(position)

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture the decode step and a short prompt (without a cache: the forward); leaves the
        engine reset."""
        self.reset()
        if self.has_cache:
            # The least cache has two slots.
            self._graph = self._captured(self._decode_step, before=self.position.zero_)
            if self._captures_prompts():
                self.position.fill_(self.plan.context_depth)
                # It ran once, and a longer warm-up would be a part of the start-up.
                self._prompt_graph = self._captured(
                    self._step, self._input_memory(), warmup_steps=1
                )
        else:
            self._graph = self._captured(self._forward_step, self._input_memory())
        self.reset()

    def _captured(
        self, step: Callable, inputs: Tensor | None = None, **options: object
    ) -> CapturedStep:
        def run() -> tuple[Tensor, list[Tensor]]:
            self.logits = None
            step() if inputs is None else step(inputs)
            return self.logits, self.choices

        return CapturedStep(run, self.device, self._num_ranks, inputs, **options)

    def _captures_prompts(self) -> bool:
        tokens = self.plan.batch_size * self.plan.input_length
        return self.plan.captures_prompts and tokens <= MAX_CAPTURED_PROMPT_TOKENS

    def _input_memory(self) -> Tensor:
        shape = (self.plan.batch_size, self.plan.input_length)
        return torch.zeros(shape, dtype=torch.int64, device=self.device)

    @torch.inference_mode()
    def reset(self, fill: float = 0.0) -> None:
        """A cache that holds `fill` in every slot, position 0, no tokens."""
        for cache in self.caches:
            for tensor in cache:
                tensor.fill_(fill)
        self._forget_tokens()

    @torch.inference_mode()
    def fill(self, seed: int) -> None:
        """A cache of random values, position 0, no tokens."""
        for index, cache in enumerate(self.caches):
            fill_cache(cache, index, seed)
        self._forget_tokens()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _forget_tokens(self) -> None:
        self.token.zero_()
        self.position.zero_()
        self.tokens.fill_(-1)

    def graph_pool_bytes(self) -> int | None:
        graphs = [graph for graph in (self._graph, self._prompt_graph) if graph is not None]
        return sum(graph.pool_bytes() for graph in graphs) if graphs else None

    def close(self) -> None:
        self._graph = self._prompt_graph = self.logits = None
        self.choices = []
        self.caches = []
        self.run_decoder = self.run_step = None
