"""llama.cpp, in a process of its own: a GGUF file of the session's weights, several sequences a batch."""

from inference_benchmark.engines.worker_engine import WorkerEngine


class LlamaCppEngine(WorkerEngine):
    generator = "llama_cpp_generator.py"

    def settings(self) -> dict:
        return super().settings() | {"file": str(self.resources.files.gguf())}
