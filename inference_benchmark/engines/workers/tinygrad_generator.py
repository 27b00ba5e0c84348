"""A Llama in tinygrad, over a folder of safetensors files: Tensor, TinyJit, a bound position.

Prefill and decode are one function, jitted each: the first call runs its kernels, the second records
them, later ones replay them. The KV cache has a fixed size and a variable length. The token goes
through the host at every step, which is when this process has it.
"""

import json
import math
import time
from pathlib import Path

from tinygrad import Device, Tensor, TinyJit, Variable, dtypes
from tinygrad.helpers import GlobalCounters, getenv
from tinygrad.nn.state import safe_load

TYPES = {"bfloat16": dtypes.bfloat16, "float16": dtypes.float16, "float32": dtypes.float32}


class Generator:
    def __init__(self, settings):
        folder = Path(settings["folder"])
        self.config = json.loads((folder / "config.json").read_text())
        self.type_name = settings["dtype"]
        self.dtype = TYPES[self.type_name]
        self.slots, self.batch = settings["cache_length"], settings["batch_size"]
        self.weights = {}
        for path in sorted(folder.glob("*.safetensors")):
            for name, weight in safe_load(path).items():
                self.weights[name] = weight.to(Device.DEFAULT).contiguous().realize()
        embedding = self.weights["model.embed_tokens.weight"]
        self.head = self.weights.get("lm_head.weight", embedding)
        self.cos, self.sin = self._rope_tables()
        self.caches = [self._empty_cache() for _ in range(self.config["num_hidden_layers"])]
        self.prefill, self.decode = TinyJit(self._forward), TinyJit(self._forward)

    def _empty_cache(self):
        heads, size = self.config["num_key_value_heads"], self.config["head_dim"]
        shape = (2, self.batch, heads, self.slots, size)
        return Tensor.zeros(*shape, dtype=self.dtype).contiguous().realize()

    def _rope_tables(self):
        """[slots, head_dim], the frequencies stretched as Llama 3.1 does."""
        size, theta = self.config["head_dim"], self.config["rope_theta"]
        frequencies = [theta ** (-2 * i / size) for i in range(size // 2)]
        scaling = self.config.get("rope_scaling")
        if scaling:
            frequencies = [_stretched(frequency, scaling) for frequency in frequencies]
        angles = [[position * f for f in frequencies * 2] for position in range(self.slots)]
        tables = ([[f(a) for a in row] for row in angles] for f in (math.cos, math.sin))
        return [Tensor(table, dtype=dtypes.float32).cast(self.dtype).realize() for table in tables]

    def _forward(self, tokens, start):
        """tokens [batch, length] from position `start` on -> (logits [batch, vocab], token)."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        for index, cache in enumerate(self.caches):
            layer = f"model.layers.{index}."
            hidden = self._norm(x, layer + "input_layernorm")
            x = x + self._attention(hidden, layer + "self_attn.", cache, start)
            hidden = self._norm(x, layer + "post_attention_layernorm")
            gate = self._linear(hidden, layer + "mlp.gate_proj").silu()
            up = self._linear(hidden, layer + "mlp.up_proj")
            x = (x + self._linear(gate * up, layer + "mlp.down_proj")).contiguous()
        logits = (self._norm(x[:, -1], "model.norm") @ self.head.T).cast(dtypes.float32)
        return logits.realize(), logits.argmax(-1, keepdim=True).realize()

    def _linear(self, x, name):
        return x @ self.weights[name + ".weight"].T

    def _norm(self, x, name):
        wide = x.cast(dtypes.float32)
        scale = (wide.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"]).rsqrt()
        return (wide * scale).cast(x.dtype) * self.weights[name + ".weight"]

    def _attention(self, x, layer, cache, start):
        batch, length, _ = x.shape
        size = self.config["head_dim"]
        q, k, v = (
            self._linear(x, layer + name).reshape(batch, length, -1, size).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        if layer + "q_norm.weight" in self.weights:
            q, k = self._norm(q, layer + "q_norm"), self._norm(k, layer + "k_norm")
        rows = slice(start, start + length)
        cos, sin = self.cos[rows], self.sin[rows]
        q, k = (y * cos + _turned(y) * sin for y in (q, k))
        cache[:, :, :, rows, :].assign(Tensor.stack(k, v)).realize()
        keys, values = cache[0, :, :, : start + length], cache[1, :, :, : start + length]
        # Only a whole prompt has more than one token, and it starts at 0.
        y = q.scaled_dot_product_attention(keys, values, is_causal=length > 1, enable_gqa=True)
        return self._linear(y.transpose(1, 2).reshape(batch, length, -1), layer + "o_proj")

    def _step(self, tokens, position):
        """One forward; a prompt starts at 0, a single token at a bound position."""
        if position == 0:
            return self.prefill(Tensor(tokens, dtype=dtypes.int32), 0)
        bound = Variable("position", 1, self.slots - 1).bind(position)
        return self.decode(Tensor(tokens, dtype=dtypes.int32), bound)

    def generate(self, prompts, output_length):
        started, steps, times = time.perf_counter(), [], []
        tokens, position = prompts, 0
        for _ in range(output_length):
            _, token = self._step(tokens, position)
            position += len(tokens[0])
            tokens = token.tolist()
            times.append(time.perf_counter() - started)
            steps.append([row[0] for row in tokens])
        return [list(sequence) for sequence in zip(*steps, strict=True)], times

    def logits(self, prompts, forced):
        """After the prompt and after each forced token, by the functions that are timed."""
        logits, _ = self._step(prompts, 0)
        seen = [logits.numpy()]
        for step in range(len(forced[0])):
            position = len(prompts[0]) + step
            logits, _ = self._step([[tokens[step]] for tokens in forced], position)
            seen.append(logits.numpy())
        shape = (len(prompts), len(seen), seen[0].shape[-1])
        rows = (row[sequence].astype("float32") for sequence in range(shape[0]) for row in seen)
        return shape, b"".join(row.tobytes() for row in rows)

    def memory(self):
        return {"in_use_bytes": int(GlobalCounters.mem_used)}

    def facts(self):
        from importlib.metadata import version

        return {
            "version": version("tinygrad"),
            "backend": Device.DEFAULT,
            "kv_cache_dtype": self.type_name,
            "beam": getenv("BEAM", 0),
            "scheduling": "TinyJit; each token goes through the host",
        }


def _turned(x):
    first, second = x.chunk(2, dim=-1)
    return (-second).cat(first, dim=-1)


def _stretched(frequency, scaling):
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
    kept = min(1.0, max(0.0, (turns - low) / (high - low)))
    return frequency * (kept + (1 - kept) / scaling["factor"])
