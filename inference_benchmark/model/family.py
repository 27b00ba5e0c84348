"""What makes a model family: its presets, how its config.json is read, what its checkpoints call
their tensors. No torch.

To add a family, write a file with a `Family` like those in model/families and list it in
families/__init__.py, and its presets in models.py; or, from outside, call models.register_family
(examples/model_family.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inference_benchmark.model.config import ModelConfig

# (the model's name, config.json) -> the model; see config_json.py for what it may use and raise.
ConfigReader = Callable[[str, dict], ModelConfig]
ConfigWriter = Callable[[ModelConfig], dict]


@dataclass(frozen=True)
class Family:
    """
    name: as ModelConfig.family has it.
    presets: its models by name, dimensions as in the published config.json of each.
    readers: by what `architectures` in config.json names.
    tensor_names: where checkpoints call a part of a layer otherwise than Llama's do, {Llama's path
        within the layer: theirs}. A mixture is `mlp.router`, `mlp.shared_expert`, `mlp.experts`.
    experts_input_first: experts' matrices are stored as [expert, in, out].
    write: the other way round, a config.json of a model, where weights can be handed to other
        programs.
    extra_layer_tensor: a tensor by which layers that are no part of the decoder are known (those
        for multi-token prediction); they are not read.
    """

    name: str
    presets: Mapping[str, ModelConfig]
    readers: Mapping[str, ConfigReader]
    tensor_names: Mapping[str, str] = field(default_factory=dict)
    experts_input_first: bool = False
    extra_layer_tensor: str | None = None
    write: ConfigWriter | None = None


def by_name(*models: ModelConfig) -> dict[str, ModelConfig]:
    return {model.name: model for model in models}
