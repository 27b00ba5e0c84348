"""The reference: ungraphed PyTorch with SDPA and no kernel of ours, one layer at a time.

Layer after layer, so that a comparison can look at each layer's cache as it is made and forget it:
the reference holds the cache of one layer only. In the decoder's own type it is plain eager. In the
next wider type (fp32 for bf16, fp64 for fp32) it is as good as exact: the weights are those of the
decoder, widened one matrix at a time, and how far eager is from it is the rounding that every
implementation in the narrow type has to be granted.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inference_benchmark.model.cache import LayerCache
from inference_benchmark.model.decoder import Decoder, Forward
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.output_check.memory import LOGITS_AT_A_TIME

WIDER = {
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float32: torch.float64,
}
BLOCK_SIZE = 32  # of activations that are rounded to 8 bits together
# These take operands of one type only; everything else promotes.
_NEED_ONE_TYPE = {"linear", "matmul", "__matmul__", "mm", "bmm", "rms_norm"}


class Reference:
    """The decoder's forward, for any number of positions at once. dtype: of the arithmetic, that of
    the weights if None. linear: of quantised weights, as KernelConfig.linear. rounds_activations:
    those of linear layers, to 8 bits."""

    def __init__(
        self,
        decoder: Decoder,
        dtype: torch.dtype | None = None,
        linear: str = "dequantized",
        rounds_activations: bool = False,
    ) -> None:
        self.decoder = decoder
        self.config = decoder.config
        self.dtype = dtype or decoder.norm.weight.dtype
        all_reduce = "none" if self.config.tensor_parallel == 1 else "nccl"
        # Repeated heads: in fp32 PyTorch's fast attention kernels know no shared ones.
        self._kernels = KernelConfig(
            linear=linear, experts="loop", all_reduce=all_reduce, shared_heads=self._is_own_type
        )
        self.forward = Forward(decoder, self._kernels)
        self._rounds_activations = rounds_activations

    def arithmetic(self) -> ExitStack:
        """To compute within, where it is another than PyTorch's of the weights' type."""
        stack = ExitStack()
        if self.dtype not in (torch.bfloat16, torch.float16):
            stack.enter_context(_Widened(self.dtype))
        if self._rounds_activations:
            stack.enter_context(_RoundedActivations())
        return stack

    @classmethod
    def exact(cls, decoder: Decoder) -> "Reference":
        return cls(decoder, WIDER[decoder.norm.weight.dtype])

    def forward_at(self, context_depth: int) -> Forward:
        """Of prompts that stand behind so many slots."""
        if not context_depth:
            return self.forward
        return Forward(self.decoder, self._kernels, context_depth=context_depth)

    @property
    def _is_own_type(self) -> bool:
        return self.dtype == self.decoder.norm.weight.dtype

    def empty_cache(self, layer: int, batch: int, length: int) -> LayerCache:
        shapes = self.config.layers[layer].attention.cache_shapes(length)
        device = self.decoder.norm.weight.device
        return tuple(
            torch.zeros((batch, *shape), dtype=self.dtype, device=device) for shape in shapes
        )

    def stream(self, tokens: Tensor, position: int = 0, cache_length: int | None = None):
        """Begin a forward over tokens [batch, length], of which the first stands at position; the
        slots before it are filled.

        cache_length: of the caches that a single token will be given.
        """
        return Stream(self, tokens, position, cache_length or tokens.shape[1])


class Stream:
    """A forward on its way through the layers, which it has to be taken through in their order."""

    def __init__(
        self, reference: Reference, tokens: Tensor, position: int, cache_length: int
    ) -> None:
        self._reference = reference
        self._batch, self._length = tokens.shape
        self._forward = reference.forward_at(position if self._length > 1 else 0)
        decoder, device = reference.decoder, tokens.device
        self._position = torch.full((1,), position, dtype=torch.int64, device=device)
        like_cache = torch.empty(1, 1, cache_length, 1, device="meta")  # only its length is read
        residual, update, cos, sin, self._mask = self._forward.begin(
            tokens,
            self._position,
            like_cache,
            decoder.embed_tokens.weight,
            decoder.rope_cos,
            decoder.rope_sin,
        )
        self.residual, self.update, self._cos, self._sin = (
            tensor.to(reference.dtype) for tensor in (residual, update, cos, sin)
        )
        self.choices: list[Tensor] = []

    def layer(self, index: int, cache: LayerCache, chosen: Sequence[Tensor] | None = None) -> None:
        """Go through one layer and fill its cache [batch, heads, slots, dim].

        chosen: of each mixture in the model the experts [batch * length, k] that it has to use.
        """
        reference = self._reference
        number = len(self.choices)
        with reference.arithmetic():
            self.update, self.residual, *choice = self._forward.layer_functions[index](
                self.update,
                self.residual,
                self._cos,
                self._sin,
                self._position,
                self._mask,
                reference.decoder.layers[index].weights(),
                cache,
                *(chosen or [])[number : number + 1],
            )
        self.choices += choice

    def logits(self, positions: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
        """(which of these positions, their logits [batch, positions, vocab]), a few at a time."""
        decoder = self._reference.decoder
        vocab = self._reference.config.vocab_size
        count = max(1, LOGITS_AT_A_TIME // (vocab * self._batch))
        for start in range(0, len(positions), count):
            part = slice(start, min(start + count, len(positions)))
            rows = torch.tensor(positions[part], device=self.update.device)
            update, residual = (
                tensor.index_select(1, rows).flatten(0, 1)[:, None]
                for tensor in (self.update, self.residual)
            )
            with self._reference.arithmetic():
                logits, _ = self._reference.forward.finish(
                    update, residual, decoder.norm.weight, decoder.lm_head.weight
                )
            yield part, logits.view(self._batch, len(rows), -1)


class _Widened(TorchFunctionMode):
    """Weights go into products in the type of what they are multiplied with."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _NEED_ONE_TYPE:
            types_ = {
                argument.dtype
                for argument in (*args, *kwargs.values())
                if isinstance(argument, Tensor)
            }
            if self._dtype in types_:
                args = [self._widen(argument) for argument in args]
                kwargs = {name: self._widen(argument) for name, argument in kwargs.items()}
        return func(*args, **kwargs)

    def _widen(self, argument):
        return argument.to(self._dtype) if isinstance(argument, Tensor) else argument


class _RoundedActivations(TorchFunctionMode):
    """Linear layers get them as llama.cpp's products of quantised matrices do: in blocks of
    BLOCK_SIZE that share a scale, each value a whole number of 127ths of the largest one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") == "linear":
            args = (rounded_to_8_bits(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


def rounded_to_8_bits(x: Tensor) -> Tensor:
    """x [..., columns], columns a multiple of BLOCK_SIZE -> the same."""
    blocks = x.double().unflatten(-1, (-1, BLOCK_SIZE))
    scales = blocks.abs().amax(dim=-1, keepdim=True) / 127
    rounded = (blocks / scales.clamp(min=torch.finfo(torch.float32).tiny)).round() * scales
    return rounded.flatten(-2).to(x.dtype)
