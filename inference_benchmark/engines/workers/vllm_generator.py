"""vLLM in this process, step by step: all prompts of a batch are added, then its engine is stepped.

As shipped, but for what a fixed batch asks: no prefix cache, a whole prefill in one step, CUDA graphs
at the batch's size, a KV cache of the size that is needed instead of most of the GPU. Its asynchronous
scheduling hands a token over while the next step is being computed: times are those at which it does.
"""

import importlib.util
import json
import os
import time
from pathlib import Path

if importlib.util.find_spec("flashinfer") is None:
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")

import torch
import vllm
from vllm import LLM, SamplingParams
from vllm.sampling_params import RequestOutputKind

BLOCK = 16  # tokens
SPARE_BLOCKS = 64
SPARE_BYTES = 6_000_000_000  # activations, graphs, the runtime


class Generator:
    def __init__(self, settings):
        self.settings = settings
        self.arguments = self._arguments(Path(settings["folder"]))
        self.llm = LLM(**self.arguments)
        self.engine = self.llm.llm_engine
        self.requests = 0

    def _arguments(self, folder):
        settings = self.settings
        batch, prompt = settings["batch_size"], settings["input_length"]
        arguments = {
            "model": str(folder),
            "skip_tokenizer_init": True,
            "load_format": settings["load_format"],
            "dtype": settings["dtype"],
            "seed": 0,
            "enable_prefix_caching": False,
            "max_model_len": settings["cache_length"],
            "max_num_seqs": batch,
            "max_num_batched_tokens": max(batch * prompt, settings["cache_length"]),
            "kv_cache_memory_bytes": self._cache_bytes(folder),
            "logprobs_mode": "raw_logits",
            "max_logprobs": -1,
        }
        if settings["device"] == "cuda":
            arguments["compilation_config"] = {"cudagraph_capture_sizes": [batch]}
            arguments["gpu_memory_utilization"] = self._share(arguments)
        else:
            arguments["enforce_eager"] = True  # compiling serves tests there, and takes minutes
        return arguments

    def _cache_bytes(self, folder):
        config = json.loads((folder / "config.json").read_text())
        values = 2 * config["num_key_value_heads"] * config["head_dim"]
        size = 4 if self.settings["dtype"] == "float32" else 2
        token_bytes = config["num_hidden_layers"] * values * size
        blocks = self.settings["batch_size"] * (-(-self.settings["cache_length"] // BLOCK) + 2)
        return (blocks + SPARE_BLOCKS) * BLOCK * token_bytes

    def _share(self, arguments):
        """Of the GPU's memory, which has to be free: what the weights and the cache take, and some."""
        wanted = self.settings["weight_bytes"] + arguments["kv_cache_memory_bytes"] + SPARE_BYTES
        free, total = torch.cuda.mem_get_info()
        return min(wanted, 0.95 * free) / total

    def _add(self, prompt, **sampling):
        self.requests += 1
        parameters = SamplingParams(
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            **sampling,
        )
        self.engine.add_request(str(self.requests), {"prompt_token_ids": prompt}, parameters)
        return str(self.requests)

    def _outputs(self):
        """(request, completion, when this process had it) of each step until all are done."""
        while self.engine.has_unfinished_requests():
            outputs = self.engine.step()
            now = time.perf_counter()
            for output in outputs:
                yield output.request_id, output.outputs[0], now

    def generate(self, prompts, output_length):
        started = time.perf_counter()
        names = [self._add(prompt, max_tokens=output_length) for prompt in prompts]
        tokens, times = {name: [] for name in names}, {name: [] for name in names}
        for name, completion, now in self._outputs():
            tokens[name] += completion.token_ids
            times[name] += [now - started] * len(completion.token_ids)
        last = [max(of_token) for of_token in zip(*times.values(), strict=True)]
        return [list(tokens[name]) for name in names], last

    def logits(self, prompts, forced):
        """Each position is asked for as a prompt of its own: a sampled token has logits, a forced one
        none."""
        count = len(forced[0])
        shape = None
        rows = []
        for prompt, following in zip(prompts, forced, strict=True):
            for length in range(count + 1):
                self._add(prompt + following[:length], max_tokens=1, logprobs=-1)
                (seen,) = [c.logprobs[0] for _, c, _ in self._outputs() if c.logprobs]
                row = torch.empty(len(seen), dtype=torch.float32)
                row[list(seen)] = torch.tensor([value.logprob for value in seen.values()])
                rows.append(row)
                shape = (len(prompts), count + 1, len(seen))
        return shape, torch.stack(rows).numpy().tobytes()

    def memory(self):
        return {"kv_pool_bytes": self.arguments["kv_cache_memory_bytes"]}

    def facts(self):
        config = self.engine.vllm_config
        scheduler, graphs = config.scheduler_config, config.compilation_config
        return {
            "version": vllm.__version__,
            "arguments": {name: value for name, value in self.arguments.items() if name != "model"},
            "attention": _attention(graphs),
            "cuda_graphs": str(graphs.cudagraph_mode),
            "kv_cache_dtype": self._cache_type(config.cache_config.cache_dtype),
            "kv_pool_bytes": self.arguments["kv_cache_memory_bytes"],
            "asynchronous": bool(scheduler.async_scheduling),
            "scheduling": "add_request and step in this process",
        }

    def _cache_type(self, name):
        return self.settings["dtype"] if name == "auto" else str(name)


def _attention(compilation):
    """The backend that vLLM chose, by its name."""
    layers = compilation.static_forward_context.values()
    names = {layer.attn_backend.get_name() for layer in layers if hasattr(layer, "attn_backend")}
    return ", ".join(sorted(names)) or None
