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
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.layer_part import AttentionShape, LayerPart

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
    shared_heads, unequal_dims, most_dim: of attention, whether it is known to serve query heads that
        share KV heads, values of another width than keys, and keys of how many values at most; where
        it is not, it is timed if it is named only, and says itself whether it can.
    """

    function: str = ""
    serves: frozenset[str] = _BOTH
    has_backward: bool = True
    precisions: frozenset[str] = _ANY
    on_cpu: frozenset[str] = frozenset()  # further precisions there
    gpu_for: frozenset[str] = frozenset()  # of what it serves
    only: str | None = None
    shared_heads: bool = True
    unequal_dims: bool = True
    most_dim: int | None = None
    is_ours: bool = False  # a single token's attention is by our kernel, where the model suits it

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
        known = self.precisions if device == "cuda" else self.precisions | self.on_cpu
        if precision not in known:
            return f"has no {precision}, only {', '.join(sorted(known))}"
        if wanted in self.gpu_for and device == "cpu":
            return "needs a CUDA GPU"
        if self.only is not None and part.feed_forward != self.only:
            return f"computes {self.only} only"
        return None

    def suits(self, model: ModelConfig, part: LayerPart) -> bool:
        """Whether it is known to serve this part of the model, of one layer."""
        if part.name != "attention":
            return True
        if self.is_ours and part.decode and not model.supports_flash_decode:
            return False
        shape = AttentionShape.of(model.layers[0].attention, part.decode)
        return (
            (self.shared_heads or shape.num_heads == shape.num_kv_heads)
            and (self.unequal_dims or shape.key_dim == shape.value_dim)
            and shape.key_dim <= (self.most_dim or shape.key_dim)
        )


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
_FUSED = {"most_dim": 256}
_TABLE: dict[str, tuple[Implementation, ...]] = {
    "attention": (
        _entry("reference", f"{_ATTENTION}:reference", "softmax of scores that lie in memory",
               is_plain=True),
        _entry("math", f"{_ATTENTION}:math", "PyTorch's SDPA, operation by operation"),
        _entry("flash", f"{_ATTENTION}:flash", "PyTorch's SDPA, flash attention", precisions=_HALF,
               on_cpu=_ANY, unequal_dims=False, **_FUSED),
        _entry("efficient", f"{_ATTENTION}:efficient", "PyTorch's SDPA, memory-efficient attention",
               gpu_for=_BOTH, shared_heads=False, **_FUSED),
        _entry("cudnn", f"{_ATTENTION}:cudnn", "PyTorch's SDPA, cuDNN", precisions=_HALF,
               gpu_for=_BOTH, **_FUSED),
        _entry("flex", f"{_ATTENTION}:flex", "PyTorch's FlexAttention, compiled", gpu_for=_BOTH,
               **_FUSED),
        _entry("flash-attn", f"{_ATTENTION}:flash_attn", "the package flash-attn", precisions=_HALF,
               gpu_for=_BOTH, packages=("flash_attn",), install="pip install flash-attn",
               unequal_dims=False, **_FUSED),
        _entry("flashinfer", f"{_ATTENTION}:flashinfer", "the package FlashInfer, batch 1",
               precisions=_HALF, gpu_for=_BOTH, has_backward=False, packages=("flashinfer",),
               install="pip install flashinfer-python", unequal_dims=False, **_FUSED),
        _entry("ours", f"{_ATTENTION}:ours", "what this project's decoder uses",
               gpu_for=frozenset({"decode"}), is_ours=True),
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
