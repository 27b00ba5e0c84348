"""A checkpoint of an architecture that is not ours, loaded by the transformers library."""

import copy
from pathlib import Path

import torch
from torch import nn

from inference_benchmark.errors import CannotRun, printable
from inference_benchmark.model.foreign_config import ForeignModelConfig


class ForeignDecoder(nn.Module):
    """Stands where the session's decoder does. model: transformers' own."""

    weight_format = None

    def __init__(self, config: ForeignModelConfig, model: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.model = model

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def in_type(self, dtype: torch.dtype) -> nn.Module:
        """The model itself, or a copy in another type."""
        if dtype == self.dtype:
            return self.model
        compiled = self.model.__dict__.pop("_compiled_call", None)  # can't be copied, and need not
        try:
            return _without_grouped_products(copy.deepcopy(self.model).to(dtype))
        finally:
            if compiled is not None:
                self.model.__dict__["_compiled_call"] = compiled


def _without_grouped_products(model: nn.Module) -> nn.Module:
    """Experts one by one: PyTorch's product of all at once takes no fp64. Older versions of
    transformers have no other."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return model


def load_foreign(
    config: ForeignModelConfig, folder: Path, dtype: torch.dtype, device: torch.device
) -> ForeignDecoder:
    """From safetensors files alone; code that lies in the folder is never run.

    Raises:
        CannotRun: transformers can't build the model, or weights are missing.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CannotRun(f"--model-path: transformers can't load it: {printable(first)}") from None
    missing = sorted(map(str, loading["missing_keys"]))
    if missing:
        raise CannotRun(f"--model-path: {folder} lacks {missing[0]} and so {len(missing)} tensors")
    # What a checkpoint says of sampling, penalties and ends is no part of what is timed.
    model.generation_config = GenerationConfig()
    return ForeignDecoder(config, model.requires_grad_(False).eval().to(device))
