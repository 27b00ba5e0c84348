"""How a part of a layer can be computed: a table of implementations for each part. No torch.

An implementation stands in a session's cells where a mode stands otherwise: `--workload attention
--mode flash cudnn`. To add one, write a function make(problem, plan, resources) -> Step (step.py)
and one entry here. The feed-forward network and the whole layer are computed by the engines
themselves, in their own modes; what other packages bring stands beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from inference_benchmark.engines import ENGINES, PLAIN, EngineEntry
from inference_benchmark.model.layer_part import LayerPart

_ENGINE = "inference_benchmark.engines.parts.engine:PartEngine"
_ATTENTION = "inference_benchmark.engines.parts.attention"
_FEED_FORWARD = "inference_benchmark.engines.parts.feed_forward"
_COMPILED = "inference_benchmark.engines.parts.compiled"
_HALF = frozenset({"bf16", "fp16"})
_ANY = frozenset({"bf16", "fp16", "fp32"})
_BOTH = frozenset({"prompt", "decode"})


@dataclass(frozen=True)
class Implementation(EngineEntry):
    """
    function: "module:function", make(problem, plan, resources) -> Step.
    serves: of "prompt" and "decode".
    only: of the kinds of feed-forward networks the one that it computes; None: all.
    by_default: whether it is timed where no --mode is given, if it can be used.
    """

    function: str = ""
    serves: frozenset[str] = _BOTH
    has_backward: bool = True
    precisions: frozenset[str] = _ANY
    gpu_for: frozenset[str] = frozenset()  # of what it serves
    only: str | None = None
    by_default: bool = True

    def load_function(self):
        module, name = self.function.split(":")
        return getattr(import_module(module), name)

    def refusal(self, part: LayerPart, precision: str, device: str) -> str | None:
        """Why it can't compute this part; None where it can, as far as can be known so far."""
        wanted = "decode" if part.decode else "prompt"
        if wanted not in self.serves:
            return f"serves {' and '.join(self.serves)} only"
        if part.backward and not self.has_backward:
            return "has no backward pass"
        if precision not in self.precisions:
            return f"has no {precision}, only {', '.join(sorted(self.precisions))}"
        if wanted in self.gpu_for and device == "cpu":
            return "needs a CUDA GPU"
        if self.only is not None and part.feed_forward != self.only:
            return f"computes {self.only} only"
        return None


def _entry(name: str, function: str, description: str, **fields) -> Implementation:
    return Implementation(
        name, _ENGINE, description, graphs_by_default=False, function=function, **fields
    )


def _mode(name: str, function: str, **fields) -> Implementation:
    """An engine of the table, which compiles the part alone."""
    engine = ENGINES[name]
    kept = (
        *("packages", "install", "is_plain", "takes_executors", "takes_kernels"),
        *("takes_compile_mode", "compiles_flex", "shipped_attention", "prefers_executor"),
    )
    return _entry(
        name,
        f"{_COMPILED}:{function}",
        engine.description,
        **{field: getattr(engine, field) for field in kept},
        **fields,
    )


def _modes(function: str) -> tuple[Implementation, ...]:
    return tuple(_mode(name, function) for name in (PLAIN.name, "inductor", "thunder"))


# fmt: off
_TABLE: dict[str, tuple[Implementation, ...]] = {
    "attention": (
        _entry("reference", f"{_ATTENTION}:reference", "softmax of scores that lie in memory",
               is_plain=True),
        _entry("math", f"{_ATTENTION}:math", "PyTorch's SDPA, operation by operation"),
        _entry("flash", f"{_ATTENTION}:flash", "PyTorch's SDPA, flash attention"),
        _entry("efficient", f"{_ATTENTION}:efficient", "PyTorch's SDPA, memory-efficient attention",
               gpu_for=_BOTH),
        _entry("cudnn", f"{_ATTENTION}:cudnn", "PyTorch's SDPA, cuDNN", precisions=_HALF,
               gpu_for=_BOTH),
        _entry("flex", f"{_ATTENTION}:flex", "PyTorch's FlexAttention, compiled", gpu_for=_BOTH),
        _entry("flash-attn", f"{_ATTENTION}:flash_attn", "the package flash-attn", precisions=_HALF,
               gpu_for=_BOTH, packages=("flash_attn",), install="pip install flash-attn"),
        _entry("flashinfer", f"{_ATTENTION}:flashinfer", "the package FlashInfer, batch 1",
               precisions=_HALF, gpu_for=_BOTH, has_backward=False, packages=("flashinfer",),
               install="pip install flashinfer-python"),
        _entry("ours", f"{_ATTENTION}:ours", "what this project's decoder uses",
               gpu_for=frozenset({"decode"})),
    ),
    "ffn": (
        *_modes("feed_forward"),
        _entry("liger", f"{_FEED_FORWARD}:liger", "the package Liger, SwiGLU", gpu_for=_BOTH,
               only="swiglu", packages=("liger_kernel",), install="pip install liger-kernel"),
    ),
    "layer": _modes("layer"),
}
# fmt: on

IMPLEMENTATIONS: dict[str, dict[str, Implementation]] = {
    part: {entry.name: entry for entry in entries} for part, entries in _TABLE.items()
}


def entries_of(workload: str) -> Mapping[str, EngineEntry]:
    """What --mode may name for a workload."""
    return IMPLEMENTATIONS.get(workload, ENGINES)


def plain_of(workload: str) -> EngineEntry:
    """What stands for unmodified PyTorch, and is the baseline."""
    return next(entry for entry in entries_of(workload).values() if entry.is_plain)


def listed_of(workload: str) -> list[str]:
    return [entry.name for entry in entries_of(workload).values() if entry.is_listed]
