"""vLLM, in a process of its own, and often in a Python of its own: it pins torch's version.

A temporary safetensors folder hands it the session's weights. Logits come as Python objects, a
hundred thousand per position, so they are asked of two sequences alone.
"""

from inference_benchmark.engines.worker_engine import WorkerEngine


class VllmEngine(WorkerEngine):
    generator = "vllm_generator.py"
    most_logit_sequences = 2

    def settings(self) -> dict:
        return super().settings() | {"folder": str(self.resources.files.safetensors())}

    def environment(self) -> dict[str, str]:
        return {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
        }
