"""Hugging Face transformers, in this process, by its own `generate`: its model, its cache, its loop.

`transformers` is what a call of `generate` does: a cache that grows, operation by operation.
`+static` gives it a cache of fixed size, `+static+compile` has it compile decode steps, by its own
choice of mode. Its parameters are the session's own weights, without a copy. A streamer tells when
each token has reached the host, which `generate` waits for at every step. It alone runs checkpoints
of architectures that the decoder can't be (model/foreign.py).
"""

import time
from dataclasses import replace

import torch
from torch import Tensor

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.stream_engine import Stream, StreamEngine, TokenIds
from inference_benchmark.model.checkpoint_export import config_json
from inference_benchmark.model.checkpoint_names import tensors


class TransformersEngine(StreamEngine):
    capabilities = replace(
        StreamEngine.capabilities,
        evidence=frozenset({"tokens", "logits"}),
        owns_weights=False,
        takes_weights=False,
    )

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        super().__init__(plan, resources)
        import transformers

        transformers.logging.set_verbosity_error()
        self._version = transformers.__version__
        self._device = next(resources.decoder.parameters()).device
        self._is_static = "static" in plan.options
        self._is_compiled = "compile" in plan.options
        self._model = _build(resources.decoder)
        self._cache = self._make_cache()
        self._streamer = _make_streamer()

    def _make_cache(self):
        """None: `generate` makes one that grows, for each call."""
        if not self._is_static:
            return None
        from transformers import StaticCache

        return StaticCache(config=self._model.config, max_cache_len=self.plan.cache_length)

    def generate(self, prompts: TokenIds, output_length: int) -> Stream:
        input_ids = self._ids(prompts)
        self._synchronize()
        self._streamer.start()
        output = self._call(input_ids, output_length, streamer=self._streamer)
        tokens = output[:, input_ids.shape[1] :].tolist()
        return Stream(tokens, self._streamer.token_times_s())

    # Whoever calls may be in inference mode, in which `generate` would be compiled once more, and
    # whose tensors could not be written outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _call(self, input_ids: Tensor, output_length: int, **arguments) -> Tensor:
        """transformers' own loop; a static cache is emptied for it."""
        from transformers import GenerationConfig

        if self._cache is not None:
            self._cache.reset()
            arguments["past_key_values"] = self._cache
        config = GenerationConfig(
            max_new_tokens=output_length,
            do_sample=False,
            use_cache=True,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=None,
            disable_compile=not self._is_compiled,
            compile_config=self._compile_config(),
        )
        mask = torch.ones_like(input_ids)  # without one, it hides what it takes for padding
        return self._model.generate(
            input_ids, attention_mask=mask, generation_config=config, **arguments
        )

    def _compile_config(self):
        """transformers' own; on a CPU it has to be asked for."""
        if not self._is_compiled:
            return None
        from transformers import CompileConfig

        config = CompileConfig()
        config._compile_all_devices = True
        return config

    def logits_of(self, prompts: TokenIds, forced: TokenIds) -> Tensor:
        """Through the very loop that is timed: a logits processor sees them and forces the token."""
        from transformers import LogitsProcessorList

        forcing = _Forcing(self._ids(forced))
        input_ids = self._ids(prompts)
        length = len(forced[0]) + 1
        self._call(input_ids, length, logits_processor=LogitsProcessorList([forcing]))
        return torch.stack(forcing.logits, dim=1)

    def compile_count(self) -> int:
        if not self._is_compiled:
            return 0
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    def facts(self) -> dict:
        config = self._compile_config()
        return {
            "version": self._version,
            "model": type(self._model).__name__,
            "attention": self._model.config._attn_implementation,
            "cache": "static" if self._is_static else "dynamic",
            "kv_cache_dtype": str(self._model.dtype).removeprefix("torch."),
            "compile_mode": config.mode if config else None,
            "scheduling": "generate; a streamer waits for each token",
        }

    @torch.inference_mode(False)
    def _ids(self, tokens: TokenIds) -> Tensor:
        return torch.tensor(tokens, device=self._device)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def close(self) -> None:
        self._model = self._cache = self._streamer = None


def _build(decoder):
    """transformers' model whose parameters are views of the decoder's; of an architecture that is not
    ours, the very model that was loaded."""
    if decoder.config.is_foreign:
        return decoder.model
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = config_json(decoder)
    dtype = decoder.norm.weight.dtype
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    weights = {
        name: torch.nn.Parameter(weight, requires_grad=False)
        for name, weight in tensors(decoder).items()
    }
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    _rebuild_tables(model, decoder.norm.weight.device)
    left = [name for name, weight in model.named_parameters() if weight.device.type == "meta"]
    if left:
        raise RuntimeError(f"transformers' model has weights that ours has not: {left[0]}")
    return model.eval()


def _rebuild_tables(model, device) -> None:
    """RoPE's frequencies are no parameters: they are computed where the module is made."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            buffers = [buffer.device.type for buffer in child.buffers(recurse=False)]
            if "meta" in buffers:
                setattr(module, name, type(child)(config=child.config).to(device))


def _make_streamer():
    from transformers.generation.streamers import BaseStreamer

    class Times(BaseStreamer):
        """`generate` puts the prompt first, then each step's tokens, once they are on the host."""

        def start(self) -> None:
            self._times: list[float] = []
            self._started = time.perf_counter()

        def put(self, value) -> None:
            self._times.append(time.perf_counter() - self._started)

        def end(self) -> None:
            pass

        def token_times_s(self) -> list[float]:
            return self._times[1:]

    return Times()


class _Forcing:
    """A logits processor that keeps the logits, and lets the next token be the forced one."""

    def __init__(self, forced: Tensor) -> None:
        self._forced = forced
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = len(self.logits)
        self.logits.append(scores.clone())
        if step == self._forced.shape[1]:
            return scores
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter(1, self._forced[:, step : step + 1], 0.0)
