"""The kernels of examples/fused_model.py against the plain operations they replace, with gradients."""

import sys
from types import SimpleNamespace

import pytest
import torch
from kernel_checks import (
    DEVICE,
    ROOT,
    interpreted_only,
    on_gpu,
    run_in_interpreter,
    starts_interpreter,
)
from torch.nn import functional as F

sys.path.insert(0, str(ROOT / "examples"))
import fused_model
import own_model

sys.path.pop(0)

SIZES = {"head_dim": 20, "hidden_size": 40, "num_attention_heads": 3, "num_key_value_heads": 1}
EPS = 1e-5


def norm(x, weight):
    module = own_model.RMSNorm(weight.numel(), EPS).to(DEVICE)
    return torch.func.functional_call(module, {"weight": weight}, (x,))


def angles() -> tuple[torch.Tensor, torch.Tensor]:
    turned = draw(7, 10).repeat(1, 2)
    return turned.cos(), turned.sin()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


def cases() -> dict:
    attention = own_model.Attention(SimpleNamespace(**SIZES))
    cos, sin = angles()
    return {
        "norm": (lambda x, w: fused_model.Norm.apply(x, w, EPS), norm, (draw(2, 7, 40), draw(40))),
        "swiglu": (
            fused_model.Swiglu.apply,
            lambda gate, up: F.silu(gate) * up,
            (draw(2, 7, 24), draw(2, 7, 25)[..., 1:].contiguous()),
        ),
        "rope": (
            lambda q: fused_model.Rope.apply(q.transpose(1, 2), cos, sin),
            lambda q: attention.rotate(q.transpose(1, 2), cos, sin),
            (draw(2, 7, 3, 20),),
        ),
    }


@pytest.mark.parametrize("name", ["norm", "swiglu", "rope"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("interpreted", marks=interpreted_only),
        pytest.param("native", marks=on_gpu),
    ],
)
def test_results_and_gradients(name, where):
    fused, plain, inputs = cases()[name]
    fused_inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    expected = [tensor.clone().requires_grad_() for tensor in inputs]
    result, reference = fused(*fused_inputs), plain(*expected)
    torch.testing.assert_close(result, reference)
    gradient = draw(*reference.shape)
    result.backward(gradient)
    reference.backward(gradient)
    for tensor, other in zip(fused_inputs, expected, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)
