"""llama.cpp, in a process of its own: a GGUF file of the session's weights, several sequences a batch.

`llama.cpp` is given them in their own type, `+q8_0` and `+q4_0` in those of llama.cpp's: a file of
--model-path that is stored so, or one that is written. `+stored` has it read the file of --model-path,
whatever types are in it. Its products of quantised matrices round activations to 8 bits. The reference
has the weights of that file, so what is checked is that llama.cpp multiplies them.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from inference_benchmark.engines.worker_engine import WorkerEngine
from inference_benchmark.model.gguf.file_format import is_quantized


class LlamaCppEngine(WorkerEngine):
    generator = "llama_cpp_generator.py"
    capabilities = replace(
        WorkerEngine.capabilities,
        weight_formats=WorkerEngine.capabilities.weight_formats | {"q8_0+head", "q4_0+head"},
    )

    def settings(self) -> dict:
        return super().settings() | {"file": str(self._file)}

    @property
    def _option(self) -> str | None:
        return next(iter(self.plan.options), None)

    @property
    def _file(self) -> Path:
        files = self.resources.files
        if self._option == "stored":
            return files.stored_gguf()
        return files.gguf(file_type=self._option)

    @property
    def products(self) -> str | None:
        return "q8" if is_quantized(self._file) else None

    @cached_property
    def decoder(self):
        """The weights that the file holds, rows in its order, where these are not the session's."""
        if self._option in (None, "stored"):
            return None
        from inference_benchmark.model.checkpoint import load_checkpoint
        from inference_benchmark.model.checkpoint_config import read_model
        from inference_benchmark.model.weights import base_type, empty_decoder

        precision = base_type(self.resources.decoder)
        decoder = empty_decoder(read_model(self._file), precision, self.resources.device)
        decoder.set_context_length(self.plan.cache_length)
        load_checkpoint(decoder, self._file)
        return decoder

    def close(self) -> None:
        self.__dict__.pop("decoder", None)
        super().close()
