"""What the parts compute: random tensors of the true shapes, and a plain function of them.

The plain function is the reference: in the tensors' own type it shows how much rounding is normal,
in the next wider one (fp32 for bf16, with TF32 off as is PyTorch's default; fp64 for fp32) it is as
good as exact. Tensors stay where they are and are drawn anew for each run, so that a CUDA graph reads
them too.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from inference_benchmark.engines.base import EnginePlan
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.parts import MixtureOfExperts

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
        # Of a mixture the experts that a step chose [tokens, k], which the plain function has to use,
        # and those that it would have chosen itself.
        self.choice: Tensor | None = None
        self.own_choice: Tensor | None = None
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

    @property
    def is_mixture(self) -> bool:
        """Whether experts are chosen in it."""
        return isinstance(self.layer.feed_forward, MixtureOfExperts)

    @property
    def kept(self) -> set[str]:
        """Weights that stay in their type whatever the arithmetic's: of routers in fp32."""
        return set()

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
        output_gradients = [
            gradient.to(output.dtype)
            for gradient, output in zip(self.output_gradients.values(), outputs, strict=True)
        ]
        return torch.autograd.grad(
            outputs, [tensors[n] for n in self.differentiable()], output_gradients
        )

    def named(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensors:
        """What a step left, by name."""
        results = dict(zip(self.outputs, outputs, strict=True))
        names = [f"gradient of {name}" for name in self.differentiable()]
        return results | dict(zip(names, gradients, strict=bool(gradients)))

    def results(self, dtype: torch.dtype | None = None) -> Tensors:
        """Of the plain function in this type (None: the tensors' own): its outputs, and gradients
        with a backward pass."""
        wanted = dtype or self.dtype
        tensors = {
            name: (tensor if name in self.kept else tensor.detach().to(wanted)).requires_grad_(
                tensor.requires_grad
            )
            for name, tensor in self.tensors().items()
        }
        with torch.set_grad_enabled(self.part.backward):
            outputs = self.reference(tensors)
            gradients = self.backward(outputs, tensors) if self.part.backward else ()
        return self.named([output.detach() for output in outputs], gradients)
