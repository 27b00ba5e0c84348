"""The problems: attention, the feed-forward network, the whole layer."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.engines.base import EnginePlan
from inference_benchmark.engines.parts.problem import Problem, Tensors
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.feed_forward.dense import FeedForwardFunction
from inference_benchmark.model.functions import make_layer
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.layer_part import AttentionShape
from inference_benchmark.model.linear import Linear, make_linear
from inference_benchmark.model.part_modules import file_of


class AttentionProblem(Problem):
    """Queries, keys and values of a batch of sequences, as AttentionShape has them. A prompt's tokens
    attend to themselves and to those before them, a single one to all."""

    def __init__(self, plan: EnginePlan, decoder: Decoder) -> None:
        attention = decoder.config.layers[0].attention
        self.shape = AttentionShape.of(attention, plan.part.decode)
        super().__init__(plan, decoder)

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        shape, length = self.shape, self.part.length
        shapes = {
            "queries": (self.batch, shape.num_heads, self.part.tokens, shape.key_dim),
            "keys": (self.batch, shape.num_kv_heads, length, shape.key_dim),
        }
        if not shape.keys_hold_values:
            shapes["values"] = (self.batch, shape.num_kv_heads, length, shape.value_dim)
        return shapes

    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.shape.num_heads, self.part.tokens, self.shape.value_dim)

    @property
    def is_causal(self) -> bool:
        return not self.part.decode

    @property
    def shares_heads(self) -> bool:
        return self.shape.num_heads > self.shape.num_kv_heads

    def operands(self, tensors: Tensors | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values."""
        tensors = tensors or self.inputs
        keys = tensors["keys"]
        values = keys[..., : self.shape.value_dim] if self.shape.keys_hold_values else None
        return tensors["queries"], keys, tensors["values"] if values is None else values

    @property
    def is_mixture(self) -> bool:
        return False

    def reference(self, tensors: Tensors) -> tuple[Tensor, ...]:
        return (self.plain(*self.operands(tensors)),)

    def plain(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """With scores that lie in memory."""
        batch, heads, tokens, _ = q.shape
        grouped = q.reshape(batch, k.shape[1], -1, tokens, q.shape[-1])
        scores = grouped @ k[:, :, None].mT * (self.shape.scale or 1 / math.sqrt(q.shape[-1]))
        if self.is_causal:
            later = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        attended = scores.softmax(dim=-1) @ v[:, :, None]
        return attended.reshape(batch, heads, tokens, v.shape[-1])


class FeedForwardProblem(Problem):
    """hidden [batch, tokens, hidden_size] -> the same shape."""

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"hidden": self.output_shape()}

    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.part.tokens, self.config.hidden_size)

    def make_weights(self, decoder: Decoder) -> Tensors:
        """The layer's own; of the classic network random ones, scaled alike."""
        if not self.is_classic:
            weights = decoder.layers[0].weights()[2]
            return {f"weight {index}": weight.detach() for index, weight in enumerate(weights)}
        generator = torch.Generator(self.device).manual_seed(1)
        up, down = (
            torch.empty(matrix.rows, matrix.columns, dtype=self.dtype, device=self.device).normal_(
                0.0, 1 / math.sqrt(matrix.columns), generator=generator
            )
            for matrix in self.part.matrices(self.config)
        )
        return {"weight 0": up, "weight 1": down}

    @property
    def is_classic(self) -> bool:
        return self.part.feed_forward == "gelu"

    @property
    def is_mixture(self) -> bool:
        return not self.is_classic and super().is_mixture

    def reference(self, tensors: Tensors) -> tuple[Tensor, ...]:
        hidden, *weights = tensors.values()
        function = self.function(KernelConfig(experts="loop"))
        output, *choices = function(hidden, tuple(weights), self.choice)
        self.own_choice = choices[0] if choices else None
        return (output,)

    @property
    def kept(self) -> set[str]:
        return {f"weight {index}" for index in _kept(self)}

    def function(self, kernels: KernelConfig) -> FeedForwardFunction:
        """(hidden, weights, chosen experts) -> (output,) or (output, chosen experts)."""
        if self.is_classic:
            linear = make_linear(kernels.linear)
            return lambda hidden, weights, chosen=None: (gelu_network(hidden, weights, linear),)
        part = self.layer.feed_forward
        return file_of(part).make_function(part, kernels)


def _kept(problem: Problem) -> range:
    """Of a mixture whose router is in fp32 the router's weights, which come first."""
    if not problem.is_mixture or not problem.layer.feed_forward.router.in_fp32:
        return range(0)
    return range(2)


def gelu_network(hidden: Tensor, weights: tuple[Tensor, Tensor], linear: Linear) -> Tensor:
    up_weight, down_weight = weights
    return linear(F.gelu(linear(hidden, up_weight)), down_weight)


class LayerProblem(Problem):
    """The residual stream and the update before it, [batch, tokens, hidden_size] each -> the same
    after the layer. Without a backward pass there is a cache, which the layer fills or adds to."""

    def __init__(self, plan: EnginePlan, decoder: Decoder) -> None:
        self._decoder = decoder
        super().__init__(plan, decoder)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("update", "residual", *self.cache_names)

    @property
    def cache_names(self) -> tuple[str, ...]:
        if self.part.backward:
            return ()
        count = len(self.layer.attention.cache_shapes(1))
        return ("cached keys", "cached values") if count == 2 else ("cached latents",)

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = self.layer.attention.cache_shapes(self.part.length)
        caches = [(self.batch, *shape) for shape in shapes]
        stream = {"update": self.output_shape(), "residual": self.output_shape()}
        return stream | dict(zip(self.cache_names, caches, strict=False))

    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.part.tokens, self.config.hidden_size)

    def make_weights(self, decoder: Decoder) -> Tensors:
        groups = zip(("norm", "attention", "ffn"), decoder.layers[0].weights(), strict=True)
        return {
            f"{group} weight {index}": weight.detach()
            for group, weights in groups
            for index, weight in enumerate(weights)
        }

    @property
    def kept(self) -> set[str]:
        return {f"ffn weight {index}" for index in _kept(self)}

    def differentiable(self) -> Tensors:
        return {name: self.inputs[name] for name in ("update", "residual")} | self.weights

    def arguments(self, tensors: Tensors) -> tuple:
        """Of a layer's function, as model.functions.make_layer has them."""
        length, decode = self.part.length, self.part.decode
        position = torch.tensor([length - 1 if decode else 0], device=self.device)
        rows = slice(length - 1, length) if decode else slice(length)
        dtype = tensors["residual"].dtype
        tables = (self._decoder.rope_cos, self._decoder.rope_sin)
        mask = torch.ones(1, 1, 1, length, dtype=torch.bool, device=self.device)
        weights = tuple(
            tuple(tensors[name] for name in self.weights if name.startswith(group))
            for group in ("norm", "attention", "ffn")
        )
        return (
            tensors["update"],
            tensors["residual"],
            *(table[rows].to(dtype) for table in tables),
            position,
            mask if decode else None,
            weights,
            tuple(tensors[name] for name in self.cache_names),
        )

    def reference(self, tensors: Tensors) -> tuple[Tensor, ...]:
        copied = tensors | {name: tensors[name].clone() for name in self.cache_names}
        kernels = KernelConfig(shared_heads=False, experts="loop")
        function = make_layer(self.layer, self.config.norm_eps, kernels)
        update, residual, *choices = function(*self.arguments(copied), self.choice)
        self.own_choice = choices[0] if choices else None
        return (update, residual, *(copied[name] for name in self.cache_names))


_PROBLEMS = {"attention": AttentionProblem, "ffn": FeedForwardProblem, "layer": LayerProblem}


def make_problem(plan: EnginePlan, decoder: Decoder) -> Problem:
    return _PROBLEMS[plan.part.name](plan, decoder)
