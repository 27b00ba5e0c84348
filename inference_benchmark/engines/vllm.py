"""vLLM, in a process of its own, and often in a Python of its own: it pins torch's version.

A temporary safetensors folder hands it the session's weights. Where that has no room on any disk, vLLM
makes random ones of its own, and nothing of its output can be checked. Logits come as Python objects, a
hundred thousand per position, so they are asked of two sequences alone.
"""

from dataclasses import replace

from inference_benchmark.engines.worker_engine import WorkerEngine
from inference_benchmark.errors import NoRoom


class VllmEngine(WorkerEngine):
    generator = "vllm_generator.py"
    most_logit_sequences = 2

    def settings(self) -> dict:
        files = self.resources.files
        try:
            folder, load_format = files.safetensors(), "auto"
        except NoRoom:
            folder, load_format = files.configuration(), "dummy"
            nothing = frozenset()
            self.capabilities = replace(self.capabilities, takes_weights=False, evidence=nothing)
        return super().settings() | {
            "folder": str(folder),
            "load_format": load_format,
            "weight_bytes": files.num_bytes,
        }

    def environment(self) -> dict[str, str]:
        return {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
        }
