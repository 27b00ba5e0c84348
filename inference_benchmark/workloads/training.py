"""Training, with lengths that stay or lengths that change. No torch here."""

from inference_benchmark.model.training_config import TrainingConfig, learning_rate_for
from inference_benchmark.workloads.dynamic_training import DynamicTraining
from inference_benchmark.workloads.training_step import TrainingStep

# A run of changing lengths that takes longer than this is given up, unless --max-seconds says when.
_PATIENCE_S = 600.0


class Training(TrainingStep):
    @classmethod
    def for_request(cls, request, length: int) -> TrainingStep:
        config = TrainingConfig(
            optimizer=request.optimizer,
            mixed_precision=request.mixed_precision,
            activation_checkpointing=request.activation_checkpointing,
            dynamic_shapes=request.dynamic_shapes is not None,
            learning_rate=learning_rate_for(request.model.hidden_size),
        )
        if request.dynamic_shapes is None:
            return cls(length, 0, config)
        return DynamicTraining(
            length,
            config,
            request.dynamic_shapes,
            request.seed,
            request.max_seconds or _PATIENCE_S,
        )
