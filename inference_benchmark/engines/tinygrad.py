"""tinygrad: a Llama of ours in its terms (workers/tinygrad_generator.py), in a process of its own.

`tinygrad` is what it does by itself; `+beam` has it search each kernel's shape on the device when it
compiles it (BEAM=2), which takes minutes and is part of the cold start; found shapes stay in its cache
on disk.
"""

from inference_benchmark.engines.worker_engine import WorkerEngine

_DEVICES = {"cuda": "CUDA", "cpu": "CPU"}


class TinygradEngine(WorkerEngine):
    generator = "tinygrad_generator.py"

    def settings(self) -> dict:
        return super().settings() | {"folder": str(self.resources.files.safetensors())}

    def environment(self) -> dict[str, str]:
        device = _DEVICES[self.resources.device.type]
        return {"DEV": device, "BEAM": "2" if "beam" in self.plan.options else "0"}
