"""A training step against transformers and against PyTorch's own optimiser on plain tensors."""

import copy

import pytest
import torch
from hugging_face import copied
from test_decoder import SMALL, TIED, llama

from inference_benchmark.model.trainer import Trainer
from inference_benchmark.model.training import LossForward
from inference_benchmark.model.training_config import TrainingConfig, learning_rate_for
from inference_benchmark.model.weights import build_decoder

FP32 = TrainingConfig(mixed_precision=None)


def tokens(length: int = 25) -> torch.Tensor:
    return torch.randint(97, (2, length), generator=torch.Generator().manual_seed(5))


def trainer(decoder, config=FP32, **settings) -> Trainer:
    return Trainer(decoder, config, lambda weights: LossForward(weights, **settings))


@pytest.mark.parametrize("config", [SMALL, TIED], ids=lambda config: config.name)
def test_loss_and_gradients_are_those_of_transformers(config):
    reference = llama(config)
    ids = tokens()
    ours = trainer(copied(config, reference.state_dict(), 64), TrainingConfig("none", None))
    ours.step(ids)
    reference.train()
    loss = reference(ids, labels=ids).loss
    loss.backward()
    assert ours.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    theirs = {name: weight.grad for name, weight in reference.named_parameters()}
    layer = ours.model.layers[1]
    attention = [theirs[f"model.layers.1.self_attn.{name}_proj.weight"] for name in "qkv"]
    torch.testing.assert_close(layer.qkv_proj.weight.grad, torch.cat(attention))
    torch.testing.assert_close(
        layer.down_proj.weight.grad, theirs["model.layers.1.mlp.down_proj.weight"]
    )
    torch.testing.assert_close(
        ours.model.embed_tokens.weight.grad, theirs["model.embed_tokens.weight"]
    )
    total = torch.stack(list(ours.gradient_norms().values())).norm()
    expected = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    torch.testing.assert_close(total, expected)


def test_checkpointing_and_repeated_heads_change_no_gradient():
    decoder = build_decoder(SMALL, "fp32", "cpu", 64)
    gradients = []
    for settings in ({}, {"checkpointing": True}, {"shared_heads": False}):
        ours = trainer(decoder, **settings)
        ours.step(tokens())
        gradients.append([weight.grad for weight in ours.weights.values()])
    for others in gradients[1:]:
        torch.testing.assert_close(others, gradients[0])


def test_the_sessions_weights_stay_and_reset_goes_back_to_them():
    decoder = build_decoder(SMALL, "bf16", "cpu", 64)
    before = copy.deepcopy(decoder.state_dict())
    ours = trainer(decoder, TrainingConfig())
    losses = []
    for _ in range(2):
        ours.reset()
        for _ in range(3):
            ours.step(tokens())
            losses.append(ours.loss.item())
    assert losses[3:] == losses[:3]
    assert losses[2] < losses[0]
    torch.testing.assert_close(decoder.state_dict(), before, rtol=0, atol=0)


def test_master_weights_take_updates_that_bf16_would_lose():
    decoder = build_decoder(SMALL, "bf16", "cpu", 64)
    ours = trainer(decoder, TrainingConfig())
    name = "layers.0.down_proj.weight"
    master = ours.weights[name].detach().float().requires_grad_()
    adamw = torch.optim.AdamW([master], lr=TrainingConfig().learning_rate)
    for _ in range(4):
        ours.step(tokens())
        master.grad = ours.weights[name].grad.float()
        adamw.step()
    torch.testing.assert_close(ours.weights[name], master.detach().bfloat16(), rtol=0, atol=0)
    assert ours.weights[name].dtype == torch.bfloat16


def test_autocast_keeps_weights_and_gradients_in_fp32():
    ours = trainer(
        build_decoder(SMALL, "bf16", "cpu", 64), TrainingConfig(mixed_precision="autocast")
    )
    ours.step(tokens())
    weight = ours.weights["layers.0.qkv_proj.weight"]
    assert weight.dtype == weight.grad.dtype == torch.float32
    assert ours.model.rope_cos.dtype == torch.bfloat16
    exact = trainer(build_decoder(SMALL, "bf16", "cpu", 64).float())
    exact.step(tokens())
    # products were in bf16: near the exact gradient, and not the same
    error = (
        weight.grad - exact.weights["layers.0.qkv_proj.weight"].grad
    ).norm() / weight.grad.norm()
    assert 1e-4 < error < 5e-2


def test_without_an_optimiser_nothing_changes():
    ours = trainer(build_decoder(SMALL, "fp32", "cpu", 64), TrainingConfig("none", None))
    losses = set()
    for _ in range(2):
        ours.step(tokens())
        losses.add(ours.loss.item())
    assert len(losses) == 1


def test_the_learning_rate_falls_with_the_width():
    assert learning_rate_for(512) == pytest.approx(1e-4)
    assert learning_rate_for(2048) == pytest.approx(2.5e-5)
    ours = trainer(build_decoder(SMALL, "bf16", "cpu", 64), TrainingConfig(learning_rate=3e-5))
    (group,) = ours._optimizer._adamw.param_groups
    assert group["lr"] == 3e-5
