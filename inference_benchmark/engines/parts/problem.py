"""What the parts compute: random tensors of the true shapes, and a plain function of them.

The plain function is the reference: in the tensors' own type it shows how much rounding is normal,
in the next wider one (fp32 for bf16, with TF32 off as is PyTorch's default; fp64 for fp32) it is as
good as exact. Tensors stay where they are and are drawn anew for each run, so that a CUDA graph reads
them too.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.engines.base import EnginePlan
from inference_benchmark.model.decoder import Decoder, make_layer
from inference_benchmark.model.feed_forward.dense import swiglu
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.linear import Linear

Tensors = dict[str, Tensor]


class Problem(ABC):
    """One part at one batch size and length.

    inputs: by name, drawn for each run. weights: by name; they stay.
    """

    outputs: tuple[str, ...] = ("output",)

    def __init__(self, plan: EnginePlan, decoder: Decoder) -> None:
        self.part = plan.part
        self.batch = plan.batch_size
        self.config = decoder.config
        self.layer = decoder.config.layers[0]
        self.device = decoder.norm.weight.device
        self.dtype = decoder.norm.weight.dtype
        self.inputs: Tensors = {
            name: torch.empty(shape, dtype=self.dtype, device=self.device)
            for name, shape in self.input_shapes().items()
        }
        self.weights: Tensors = self.make_weights(decoder)
        self.output_gradients: Tensors = {}
        if self.part.backward:
            for name in self.outputs:
                self.output_gradients[name] = torch.empty(
                    self.output_shape(), dtype=self.dtype, device=self.device
                )
            for tensor in self.differentiable().values():
                tensor.requires_grad_(True)
        self.draw(0)

    @abstractmethod
    def input_shapes(self) -> dict[str, tuple[int, ...]]: ...

    @abstractmethod
    def output_shape(self) -> tuple[int, ...]: ...

    def make_weights(self, decoder: Decoder) -> Tensors:
        return {}

    @abstractmethod
    def reference(self, tensors: Tensors) -> tuple[Tensor, ...]:
        """The plain function, of tensors by name in any type: its outputs."""

    def tensors(self) -> Tensors:
        return self.inputs | self.weights

    def differentiable(self) -> Tensors:
        """Whose gradients a backward pass gives."""
        return self.tensors()

    @torch.no_grad()
    def draw(self, number: int) -> None:
        """Standard normal values, the same for every implementation."""
        generator = torch.Generator(self.device).manual_seed(number)
        for tensor in (*self.inputs.values(), *self.output_gradients.values()):
            tensor.normal_(generator=generator)

    def backward(self, outputs: Sequence[Tensor], tensors: Tensors) -> tuple[Tensor, ...]:
        """Gradients of what is differentiable, among these tensors."""
        given = [
            gradient.to(output.dtype)
            for gradient, output in zip(self.output_gradients.values(), outputs, strict=True)
        ]
        return torch.autograd.grad(outputs, [tensors[n] for n in self.differentiable()], given)

    def named(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensors:
        """What a step left, by name."""
        found = dict(zip(self.outputs, outputs, strict=True))
        names = [f"gradient of {name}" for name in self.differentiable()]
        return found | dict(zip(names, gradients, strict=bool(gradients)))

    def results(self, dtype: torch.dtype | None = None) -> Tensors:
        """Of the plain function in this type (None: the tensors' own): its outputs, and gradients
        with a backward pass."""
        wanted = dtype or self.dtype
        tensors = {
            name: tensor.detach().to(wanted).requires_grad_(tensor.requires_grad)
            for name, tensor in self.tensors().items()
        }
        with torch.set_grad_enabled(self.part.backward):
            outputs = self.reference(tensors)
            gradients = self.backward(outputs, tensors) if self.part.backward else ()
        return self.named([output.detach() for output in outputs], gradients)


class AttentionProblem(Problem):
    """Queries [batch, heads, tokens, head_dim], keys and values [batch, kv_heads, length, head_dim]
    -> as queries. A prompt's tokens attend to those before them, a single one to all."""

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        attention = self.layer.attention
        kv = (self.batch, attention.num_kv_heads, self.part.length, attention.head_dim)
        return {"queries": self.output_shape(), "keys": kv, "values": kv}

    def output_shape(self) -> tuple[int, ...]:
        attention = self.layer.attention
        return (self.batch, attention.num_heads, self.part.tokens, attention.head_dim)

    @property
    def is_causal(self) -> bool:
        return not self.part.decode

    @property
    def shares_heads(self) -> bool:
        return self.layer.attention.group_size > 1

    def reference(self, tensors: Tensors) -> tuple[Tensor, ...]:
        return (self.plain(tensors["queries"], tensors["keys"], tensors["values"]),)

    def plain(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """With scores that lie in memory."""
        batch, heads, tokens, head_dim = q.shape
        grouped = q.reshape(batch, k.shape[1], -1, tokens, head_dim)
        scores = grouped @ k[:, :, None].mT / math.sqrt(head_dim)
        if self.is_causal:
            later = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        return (scores.softmax(dim=-1) @ v[:, :, None]).reshape(q.shape)


class FeedForwardProblem(Problem):
    """hidden [batch, tokens, hidden_size] -> the same shape."""

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"hidden": self.output_shape()}

    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.part.tokens, self.config.hidden_size)

    def make_weights(self, decoder: Decoder) -> Tensors:
        """Of SwiGLU the layer's own; of the classic network random ones, scaled alike."""
        if self.part.feed_forward == "swiglu":
            gate_up, down = decoder.layers[0].weights()[2]
            return {"gate and up": gate_up.detach(), "down": down.detach()}
        generator = torch.Generator(self.device).manual_seed(1)
        up, down = (
            torch.empty(matrix.rows, matrix.columns, dtype=self.dtype, device=self.device).normal_(
                0.0, 1 / math.sqrt(matrix.columns), generator=generator
            )
            for matrix in self.part.matrices(self.config)
        )
        return {"up": up, "down": down}

    def reference(self, tensors: Tensors) -> tuple[Tensor, ...]:
        hidden, *weights = tensors.values()
        return (self.function(F.linear)(hidden, tuple(weights)),)

    def function(self, linear: Linear) -> Callable[[Tensor, tuple[Tensor, ...]], Tensor]:
        """(hidden, weights) -> output, with this function for linear layers."""
        network = gelu_network if self.part.feed_forward == "gelu" else swiglu
        return lambda hidden, weights: network(hidden, weights, linear)


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
        return () if self.part.backward else ("cached keys", "cached values")

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

    def differentiable(self) -> Tensors:
        return {name: self.inputs[name] for name in ("update", "residual")} | self.weights

    def arguments(self, tensors: Tensors) -> tuple:
        """Of a layer's function, as model.decoder.make_layer has them."""
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
        function = make_layer(self.layer, self.config.norm_eps, KernelConfig(shared_heads=False))
        update, residual = function(*self.arguments(copied))
        return (update, residual, *(copied[name] for name in self.cache_names))


_PROBLEMS = {"attention": AttentionProblem, "ffn": FeedForwardProblem, "layer": LayerProblem}


def make_problem(plan: EnginePlan, decoder: Decoder) -> Problem:
    return _PROBLEMS[plan.part.kind](plan, decoder)
