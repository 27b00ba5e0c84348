"""llama.cpp through llama-cpp-python's low-level API: ids in, logits on the host, the greedy choice there.

Several sequences go through one llama_decode. Settings are llama.cpp's own (n_ubatch 512, CUDA graphs
for single sequences), but for what is asked: flash attention, the type of the cache, all layers on
the GPU, which its log has to confirm.
"""

import os
import re
import time

import llama_cpp
import numpy as np

CACHE_TYPES = {"float32": 0, "float16": 1, "bfloat16": 30}  # ggml's numbers
SLOTS = 256  # a sequence's cache is a multiple of so many
EVERY_LAYER = 10_000
FLASH_ATTENTION = {
    True: llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    False: llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


def num_threads():
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))


class Generator:
    def __init__(self, settings):
        self.settings, self.log = settings, []
        self.on_gpu = settings["device"] == "cuda"
        self.has_flash = settings["dtype"] != "float32"  # its kernels round to fp16
        # Kept: the callback must outlive what calls it.
        self._keep_log = llama_cpp.llama_log_callback(self._logged)
        llama_cpp.llama_log_set(self._keep_log, None)
        llama_cpp.llama_backend_init()
        self.model = self._load(settings["file"])
        self.offloaded = self._check_layers()
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self.model)
        )
        self.batch_size, self.length = settings["batch_size"], settings["input_length"]
        self.context = self._open()
        self.cache = llama_cpp.llama_get_memory(self.context)
        self.prompts = llama_cpp.llama_batch_init(self.batch_size * self.length, 0, 1)
        self.step = llama_cpp.llama_batch_init(self.batch_size, 0, 1)
        self.newest = None

    def _logged(self, level, text, data):
        self.log.append(text.decode(errors="replace"))

    def _load(self, path):
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = EVERY_LAYER if self.on_gpu else 0
        model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not model:
            raise RuntimeError(f"llama.cpp can't load the model: {self._last_log()}")
        return model

    def _check_layers(self):
        """The layers on the GPU, which have to be all."""
        layer_counts = re.findall(r"offloaded (\d+)/(\d+) layers to GPU", "".join(self.log))
        if not self.on_gpu:
            return None
        if not layer_counts or layer_counts[-1][0] != layer_counts[-1][1]:
            raise RuntimeError(
                f"llama.cpp left layers on the CPU: {layer_counts or 'it has no GPU'}"
            )
        return int(layer_counts[-1][0])

    def _open(self):
        parameters = llama_cpp.llama_context_default_params()
        slots = -(-self.settings["cache_length"] // SLOTS) * SLOTS
        parameters.n_ctx = slots * self.batch_size
        parameters.n_seq_max = self.batch_size
        parameters.n_batch = max(parameters.n_batch, self.batch_size * self.length)
        parameters.flash_attn_type = FLASH_ATTENTION[self.has_flash]
        if not self.on_gpu:  # more threads than CPUs wait for each other
            parameters.n_threads = parameters.n_threads_batch = num_threads()
        cache_type = CACHE_TYPES[self.settings["dtype"]]
        parameters.type_k = parameters.type_v = cache_type
        parameters.no_perf = True
        self.ubatch = parameters.n_ubatch
        context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError(f"llama.cpp can't make a context: {self._last_log()}")
        return context

    def _last_log(self):
        return " ".join("".join(self.log).split()[-40:])

    def _fill(self, batch, tokens, start):
        """tokens [sequences][length] from position `start` on; logits of the last of each."""
        count, length = len(tokens), len(tokens[0])
        batch.n_tokens = total = count * length
        view = np.ctypeslib.as_array
        view(batch.token, (total,))[:] = np.asarray(tokens, dtype=np.int32).ravel()
        view(batch.pos, (total,))[:] = np.tile(np.arange(start, start + length), count)
        view(batch.n_seq_id, (total,))[:] = 1
        view(batch.logits, (total,))[:] = 0
        view(batch.logits, (total,))[length - 1 :: length] = 1
        for index in range(total):
            batch.seq_id[index][0] = index // length

    def _decode(self, batch, count, length):
        """Logits [sequences, vocab] of the last token of each, on the host."""
        code = llama_cpp.llama_decode(self.context, batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code}: {self._last_log()}")
        rows = []
        for sequence in range(count):
            place = sequence * length + length - 1
            row = llama_cpp.llama_get_logits_ith(self.context, place)  # waits for the device
            rows.append(np.ctypeslib.as_array(row, (self.vocab_size,)))
        return rows

    def _prompt(self, prompts):
        llama_cpp.llama_memory_clear(self.cache, False)
        self._fill(self.prompts, prompts, 0)

    def generate(self, prompts, output_length):
        self._prompt(prompts)
        count, length = len(prompts), len(prompts[0])
        self._fill(self.step, [[0]] * count, length)
        tokens = np.ctypeslib.as_array(self.step.token, (count,))
        positions = np.ctypeslib.as_array(self.step.pos, (count,))
        chosen = np.empty((output_length, count), dtype=np.int32)
        times, started = [], time.perf_counter()
        rows = self._decode(self.prompts, count, length)
        for step in range(output_length):
            if step > 0:
                rows = self._decode(self.step, count, 1)
                positions += 1
            chosen[step] = [row.argmax() for row in rows]
            tokens[:] = chosen[step]
            times.append(time.perf_counter() - started)
        return chosen.T.tolist(), times

    def logits(self, prompts, forced):
        self._prompt(prompts)
        count, length = len(prompts), len(prompts[0])
        seen = [np.stack(self._decode(self.prompts, count, length))]
        for step in range(len(forced[0])):
            self._fill(self.step, [[tokens[step]] for tokens in forced], length + step)
            seen.append(np.stack(self._decode(self.step, count, 1)))
        values = np.stack(seen, axis=1).astype(np.float32)
        return values.shape, values.tobytes()

    def facts(self):
        return {
            "version": llama_cpp.__version__,
            "system": llama_cpp.llama_print_system_info().decode().strip(),
            "layers_on_gpu": self.offloaded,
            "flash_attention": self.has_flash,
            "kv_cache_dtype": self.settings["dtype"],
            "n_ubatch": self.ubatch,
            "scheduling": "llama_decode; logits come to the host, which chooses",
        }
