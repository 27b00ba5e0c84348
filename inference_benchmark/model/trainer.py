"""A training step: forward, loss, backward and the optimiser, on a copy of a model's weights."""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from inference_benchmark.model.training_config import TrainingConfig

MakeLoss = Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]


class Trainer:
    """Trains a copy of the weights of a decoder or of another model, which stays as it is.

    make_loss(copy) -> (tokens, targets) -> loss: the forward, as a mode executes it.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, make_loss: MakeLoss) -> None:
        self.config = config
        self._initial = model
        self.model = trainable_copy(model, config)
        self._narrow = next(model.parameters()).dtype
        self._forward = make_loss(self.model)
        self.weights = dict(_unique_parameters(self.model))
        self._optimizer = _OPTIMIZERS[config.optimizer](list(self.weights.values()), config)
        self.loss: Tensor | None = None  # of the newest step, a scalar in fp32

    def step(self, token_ids: Tensor) -> None:
        """token_ids [batch, length + 1]: each but the last predicts the next one. Leaves `loss`
        and the gradients, until the next step."""
        self.forget_gradients()
        with torch.inference_mode(False), torch.enable_grad():
            with self._autocast(token_ids.device.type):
                loss = self._forward(token_ids[:, :-1].contiguous(), token_ids[:, 1:].contiguous())
            loss.backward()
        self._optimizer.step()
        self.loss = loss.detach()

    def _autocast(self, device_type: str):
        if not self.config.is_autocast:
            return nullcontext()
        return torch.autocast(device_type, self._narrow)

    def forget_gradients(self) -> None:
        for weight in self.weights.values():
            weight.grad = None

    def gradient_norms(self) -> dict[str, Tensor]:
        """Of the newest step, by weight; fp32 scalars on the device, 0 where there is none."""
        return {
            name: torch.linalg.vector_norm(weight.grad, dtype=torch.float32)
            if weight.grad is not None
            else torch.zeros((), device=weight.device)
            for name, weight in self.weights.items()
        }

    @torch.no_grad()
    def reset(self) -> None:
        """The initial weights, and an optimiser that has seen no step."""
        self.forget_gradients()
        initial = dict(_unique_parameters(self._initial))
        for name, weight in self.weights.items():
            weight.copy_(initial[name])
        self._optimizer.reset()
        self.loss = None


def trainable_copy(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """With gradients, in fp32 unless there are master weights; tables keep their type."""
    trainable = copy.deepcopy(model)
    if not config.has_master_weights:
        cast_parameters(trainable, torch.float32)
    return trainable.requires_grad_(True).train()


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Buffers keep the type that they have."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _unique_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """A tied head once."""
    return model.named_parameters(remove_duplicate=True)


class _AdamW:
    """PyTorch's, in one kernel over all weights; of narrower weights an fp32 copy is updated."""

    def __init__(self, weights: list[nn.Parameter], config: TrainingConfig) -> None:
        self._weights = weights
        self._updated = weights
        self._has_masters = config.has_master_weights
        if self._has_masters:
            self._updated = [weight.detach().float().clone() for weight in weights]
        self._adamw = torch.optim.AdamW(self._updated, lr=config.learning_rate, fused=True)

    @torch.no_grad()
    def step(self) -> None:
        if not self._has_masters:
            self._adamw.step()
            return
        for master, weight in zip(self._updated, self._weights, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
        self._adamw.step()
        for master in self._updated:
            master.grad = None
        torch._foreach_copy_(self._weights, self._updated)

    def reset(self) -> None:
        for state in self._adamw.state.values():
            for value in state.values():
                value.zero_()
        if self._has_masters:
            torch._foreach_copy_(self._updated, self._weights)


class _NoOptimizer:
    def __init__(self, weights: list[nn.Parameter], config: TrainingConfig) -> None:
        pass

    def step(self) -> None:
        pass

    def reset(self) -> None:
        pass


_OPTIMIZERS = {"adamw": _AdamW, "none": _NoOptimizer}
