"""The seam between what executes a model and what times it.

A mode turns a decoder into a forward function: eager leaves it as it is, a compiler's mode compiles
it. Everything else is shared and lives in `StepEngine`: static buffers on the device, the greedy
choice fed back without the host, and the CUDA graph of a decode step. To add a mode, write one file
with a class `Mode` and one entry in modes/__init__.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inference_benchmark.model.cache import allocate_cache
from inference_benchmark.model.decoder import Decoder, Forward
from inference_benchmark.model.kernel_choice import KernelConfig

_CAPTURE_WARMUP_STEPS = 3


@dataclass(frozen=True)
class ModeOptions:
    """What a mode may be told; each mode reads what concerns it."""

    kernels: KernelConfig = KernelConfig()
    executors: tuple[str, ...] = ()
    compile_mode: str = "default"
    compile_scope: str = "layer"


class Mode:
    """Base of all modes that execute a decoder of ours; as it stands, eager PyTorch.

    `timer` names the clock that times the mode, `capturable` says whether its decode step may be
    captured in a CUDA graph.
    """

    timer = "cuda_event"
    capturable = True

    def __init__(self, decoder: Decoder, options: ModeOptions) -> None:
        self.options = options
        self.forward = Forward(decoder, options.kernels)

    def compile_count(self) -> int:
        """How often this mode has compiled something so far; 0 where nothing is compiled."""
        return 0

    def details(self) -> dict:
        """What of its compilers the mode used, for the result file; known after both steps ran.

        Raises:
            CannotRun: something that was asked for does nothing in this model.
        """
        return {}


class StepEngine:
    """Runs a mode's forward step by step: prefill, then decode steps that feed themselves.

    `logits` [batch, vocab] holds the newest step's logits, `token` [batch, 1] its greedy choice,
    `position` [1] where that token will stand; all stay on the device. With CUDA graphs the decode
    step is one graph, and `logits` is the memory it writes. So it is with `choices`, which experts
    each mixture of experts chose for the newest step; `replayed` are choices it has to use instead.

    `tokens` [batch, cache_length + 1] holds what each step chose, at the position where it stands:
    a prefill writes slot input_length, a decode step, inside its graph, slot position + 1; -1 where
    nothing was chosen since the last reset. After a run of output_length tokens they lie in
    [input_length, input_length + output_length), and `position` is that of the last one.
    """

    def __init__(
        self, mode: Mode, decoder: Decoder, batch_size: int, input_length: int, cache_length: int
    ) -> None:
        self.mode = mode
        weight = decoder.norm.weight
        self.device = weight.device
        self._num_ranks = decoder.config.tensor_parallel
        self.input_length = input_length
        self.caches = allocate_cache(
            decoder.config, batch_size, cache_length, weight.dtype, self.device
        )
        self.token = torch.zeros(batch_size, 1, dtype=torch.int64, device=self.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=self.device)
        # One slot more than the cache: the last token is chosen, but never goes in.
        shape = (batch_size, cache_length + 1)
        self.tokens = torch.full(shape, -1, dtype=torch.int64, device=self.device)
        self.logits: Tensor | None = None
        self.choices: list[Tensor] = []
        self.replayed: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graph_logits: Tensor | None = None
        self._graph_choices: list[Tensor] = []

    @torch.inference_mode()
    def prefill(self, input_ids: Tensor) -> None:
        """input_ids [batch, input_length]: fills the cache from slot 0, leaves the first token."""
        length = input_ids.shape[1]
        self.position.zero_()
        self._forward(input_ids)
        self.position.fill_(length)
        self.tokens[:, length : length + 1].copy_(self.token)

    @torch.inference_mode()
    def decode(self) -> None:
        """One step: `token` at `position` goes in, the next token and position come out."""
        if self._graph is None:
            self._decode_step()
        else:
            self._graph.replay()
            self.logits, self.choices = self._graph_logits, self._graph_choices

    def _decode_step(self) -> None:
        self._forward(self.token)
        self.position.add_(1)
        self.tokens.index_copy_(1, self.position, self.token)

    def _forward(self, tokens: Tensor) -> None:
        replayed = (self.replayed,) if self.replayed else ()
        self.logits, token, *self.choices = self.mode.forward(
            tokens, self.position, self.caches, *replayed
        )
        self.token.copy_(token)

    @torch.inference_mode()
    def force(self, token: Tensor, position: int) -> None:
        """Make the next decode step take this token [batch, 1] at this position."""
        self.token.copy_(token)
        self.position.fill_(position)

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture the decode step in a CUDA graph; leaves the engine reset."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        self.reset()
        with torch.cuda.stream(stream):
            for _ in range(_CAPTURE_WARMUP_STEPS):
                self.position.zero_()  # the least cache has two slots
                self._decode_step()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # NCCL's watchdog thread may ask for its events meanwhile.
        mode = "global" if self._num_ranks == 1 else "thread_local"
        with torch.cuda.graph(self._graph, capture_error_mode=mode):
            self._decode_step()
        self._graph_logits, self._graph_choices = self.logits, self.choices
        self.reset()

    @torch.inference_mode()
    def reset(self, fill: float = 0.0) -> None:
        """A cache that holds `fill` in every slot, position 0, no tokens."""
        for cache in self.caches:
            for tensor in cache:
                tensor.fill_(fill)
        self.token.zero_()
        self.position.zero_()
        self.tokens.fill_(-1)

    def graph_pool_bytes(self) -> int | None:
        """Memory that belongs to the captured graph alone; None without one."""
        if self._graph is None:
            return None
        pool = self._graph.pool()
        segments = torch.cuda.memory_snapshot()
        return sum(s["total_size"] for s in segments if tuple(s["segment_pool_id"]) == tuple(pool))

    def close(self) -> None:
        """Give back the memory; the engine can't be used afterwards."""
        self._graph = self._graph_logits = self.logits = None
        self.choices = self.replayed = self._graph_choices = []
        self.caches = []
