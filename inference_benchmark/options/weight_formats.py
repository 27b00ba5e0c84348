"""Weights in several formats: a cell for each, and what can be quantised at all. No torch."""

import importlib.util
from dataclasses import replace

from inference_benchmark.engines.spec import (
    ModeSpec,
)
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.weight_format import BASE_TYPES, QUANTIZED
from inference_benchmark.options.flag import option


def in_formats(
    specs: list[ModeSpec],
    asked: tuple[ModeSpec, ...],
    baseline: str | None,
    arguments,
    model: ModelConfig,
) -> tuple[list[ModeSpec], str | None]:
    """Each mode that was asked for in each weight format; baselines that joined them as the model
    is, or in the first of the formats where it is not measured."""
    formats = tuple(dict.fromkeys(arguments.quantize))
    if formats == ("none",):
        for name in ("quantize_head", "max_kl", "accuracy_text"):
            if getattr(arguments, name):
                raise RequestError(f"{option(name)} does nothing without a format in --quantize")
        return specs, baseline
    _check_quantizable(specs, arguments, model)
    head = "+head" if arguments.quantize_head else ""
    stored = [None if name == "none" else f"{name}{head}" for name in formats]
    first = None if None in stored else stored[0]
    stored_specs = [
        replace(spec, quantize=name)
        for spec in specs
        for name in (stored if spec in asked else [first])
    ]
    if baseline is not None and first is not None:
        baseline = f"{baseline} {first}"
    return stored_specs, baseline


def _check_quantizable(specs: list[ModeSpec], arguments, model: ModelConfig) -> None:
    stored = [QUANTIZED[name] for name in arguments.quantize if name != "none"]
    other = next((entry for entry in stored if arguments.precision not in entry.base_types), None)
    if other is not None and arguments.precision in BASE_TYPES:
        plainer = other.name.split(":")[0].removesuffix("-dynamic")
        raise RequestError(
            f"--quantize {other.name} needs --precision {', '.join(other.base_types)}; {plainer} takes "
            "any"
        )
    if arguments.precision not in BASE_TYPES:
        raise RequestError(
            f"--precision {arguments.precision} stores the weights in a format of its own: leave out "
            "--quantize, or take --precision bf16"
        )
    quantising = next((spec for spec in specs if spec.weight_format), None)
    if quantising is not None:
        raise RequestError(
            f"mode '{quantising.label}' quantises the weights itself: leave out --quantize"
        )
    foreign = next((spec for spec in specs if not spec.engine.takes_quantized), None)
    if foreign is not None:
        raise RequestError(
            f"mode '{foreign.label}' brings weights of its own, which --quantize does not reach"
        )
    without = [name for name in arguments.quantize if not _stores_experts(name)]
    if without and model.num_experts is not None:
        names = ", ".join(name for name in QUANTIZED if _stores_experts(name))
        raise CannotRun(
            f"--quantize {without[0]} would leave the experts of {model.name} as they are: {names} "
            "store them"
        )


def check_format_packages(arguments, model: ModelConfig, ranks: int, device: str) -> None:
    """Formats of other packages.

    Raises:
        CannotRun: a package is missing, or it has no kernel for the device or for a matrix.
    """
    for name in arguments.quantize:
        stored = QUANTIZED.get(name)
        if stored is None or stored.package is None:
            continue
        for matrix in model.sharded(ranks).matrices_to_store(arguments.quantize_head):
            if matrix.rows % stored.rows_of or matrix.columns % stored.columns_of:
                rows = f"a multiple of {stored.rows_of} rows, " if stored.rows_of > 1 else ""
                raise CannotRun(
                    f"--quantize {name} needs {rows}rows of a multiple of {stored.columns_of} weights: "
                    f"{model.name} has a matrix of {matrix.rows} rows of {matrix.columns}"
                )
        if stored.needs_gpu and device == "cpu":
            raise CannotRun(f"--quantize {name} needs a CUDA GPU")
        if importlib.util.find_spec(stored.package) is None:
            raise CannotRun(
                f"--quantize {name} needs the package {stored.package}: pip install {stored.package}"
            )


def _stores_experts(name: str) -> bool:
    return name == "none" or QUANTIZED[name].experts is not None


def check_weight_formats(
    specs: list[ModeSpec], precision: str, model: ModelConfig, ranks: int
) -> None:
    """Quantised formats replace linear layers; experts and latent attention multiply otherwise."""
    quantised = [spec.label for spec in specs if spec.weight_format]
    if quantised and precision not in BASE_TYPES:
        raise RequestError(
            f"mode '{quantised[0]}' quantises the weights itself and can't start from {precision}: "
            f"--precision {', '.join(BASE_TYPES)}"
        )
    converting = [spec.label for spec in specs if spec.engine.precision is not None]
    if converting and (precision not in BASE_TYPES or ranks > 1):
        raise CannotRun(
            f"mode '{converting[0]}' converts weights of {', '.join(BASE_TYPES)} on one GPU alone"
        )
    if quantised and ranks > 1:
        raise CannotRun(f"mode '{quantised[0]}' quantises on one GPU only, not on {ranks} ranks")
    if precision not in BASE_TYPES:
        quantised.append(f"--precision {precision}")
    if quantised and not model.is_plain:
        raise CannotRun(
            f"'{quantised[0]}' would leave the experts and the attention of {model.name} "
            "unquantised: quantised weights are for dense models"
        )
