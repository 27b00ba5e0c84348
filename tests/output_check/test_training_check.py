"""The check of training steps: what valid modes differ by passes, and each fault is caught."""

from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.eager import EagerEngine
from inference_benchmark.model.training import LossForward
from inference_benchmark.model.training_config import TrainingConfig
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check.training import (
    TOLERANCES,
    Steps,
    check_after_training,
    check_training_before,
    compare,
    follow_reference,
)

TINY = MODELS["llama-tiny"].with_layers(2)
LENGTH = 32


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(TINY, "bf16", "cpu", LENGTH)


@pytest.fixture(scope="module")
def batches():
    ids = torch.randint(1000, (2, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    return [ids] * 10


@pytest.fixture(scope="module")
def reference(decoder, batches):
    return follow_reference(decoder, TrainingConfig(), batches)


def engine_of(decoder, engine_type=EagerEngine, **training):
    plan = EnginePlan(2, LENGTH, 0, training=TrainingConfig(**training))
    return engine_type(plan, Resources(decoder))


def test_what_is_valid_passes_before_and_after_the_timing(decoder, batches, reference):
    engine = engine_of(decoder, activation_checkpointing=True)
    record = check_training_before(engine, reference, batches, "bf16")
    assert record["passed"], record["failures"]
    assert record["checked"] == ["losses", "gradients"]
    assert len(record["losses"]) == 10
    losses = [torch.tensor(7.0)] * 2
    assert check_after_training(engine, reference, batches, "bf16", losses)["passed"]
    broken = check_after_training(engine, reference, batches, "bf16", [torch.tensor(torch.nan)])
    assert broken["failures"] == ["timed run: its loss is nan"]


class SeesTheFuture(EagerEngine):
    """Attention that is not causal."""

    def train(self, token_ids):
        attend = F.scaled_dot_product_attention

        def to_everything(*arguments, is_causal, **settings):
            return attend(*arguments, **settings)

        with patch.object(F, "scaled_dot_product_attention", to_everything):
            super().train(token_ids)


class DetachesALayer(EagerEngine):
    def compile_training(self, decoder):
        forward = LossForward(decoder)
        first, *others = forward.layer_functions

        def detached(*arguments):
            return tuple(output.detach() for output in first(*arguments))

        forward.layer_functions = [detached, *others]
        return forward


class SumsTheLoss(EagerEngine):
    """Adam is blind to the scale of gradients; the losses as they are reported are right."""

    def compile_training(self, decoder):
        forward = LossForward(decoder)

        def scaled(tokens, targets):
            loss = forward(tokens, targets)
            return loss + (loss - loss.detach())

        return scaled


class UpdatesNothing(EagerEngine):
    def train(self, token_ids):
        super().train(token_ids)
        loss, self.trainer.loss = self.trainer.loss, None
        kept = {name: weight.grad for name, weight in self.trainer.weights.items()}
        self.trainer.reset()
        self.trainer.loss = loss
        for name, weight in self.trainer.weights.items():
            weight.grad = kept[name]


class ForgetsThePast(EagerEngine):
    """An optimiser that starts anew at each step."""

    def train(self, token_ids):
        super().train(token_ids)
        for state in self.trainer._optimizer._adamw.state.values():
            state["exp_avg"].zero_()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (SeesTheFuture, "training: loss"),
        (DetachesALayer, "a weight's gradient norm"),
        (SumsTheLoss, "training: gradient norm"),
        (UpdatesNothing, "it has to fall"),
        (ForgetsThePast, "training: loss"),
    ],
)
def test_a_fault_is_a_wrong_output(decoder, batches, reference, fault, words):
    record = check_training_before(engine_of(decoder, fault), reference, batches, "bf16")
    assert not record["passed"]
    assert words in " ".join(record["failures"])


def test_errors_of_a_batch_that_is_learned_by_heart_are_of_a_tenth_of_the_first_loss():
    reference = Steps([10.0, 2.0, 0.01], [6.0, 3.0, 0.1], {"w": 2.0})
    trained = Steps([10.0, 2.002, 0.012], [6.0, 3.0, 0.103], {"w": 2.02})
    measured = compare(trained, reference, TOLERANCES["bf16"], "training")
    loss, gradient, weight = measured.values()
    assert (loss["at"], loss["error"]) == ("step 3", pytest.approx(0.002 / 1.0))
    assert (gradient["at"], gradient["error"]) == ("step 3", pytest.approx(0.003 / 0.6))
    assert weight["error"] == pytest.approx(0.01)
    lost = Steps([10.0, 2.0, float("nan")], [6.0, 3.0, 0.1], {"w": 2.0})
    assert (
        compare(lost, reference, TOLERANCES["bf16"], "training")["training: loss"]["error"] is None
    )
