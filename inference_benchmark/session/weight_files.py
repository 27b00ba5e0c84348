"""The session's weights as files for engines that read their own: written once, removed at the end."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from inference_benchmark.errors import CannotRun, NoRoom
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.gguf.container import read_gguf
from inference_benchmark.model.weights import base_type

_GGUF_NAME = "model.gguf"


class WeightFiles:
    """Writes a form of the weights when the first engine asks for it.

    Files lie in a temporary folder (TMPDIR says where) until `close`. `write_s` tells how long each
    form took; it is no part of any engine's start. source: the GGUF file that all of the weights were
    read from, if they were.
    """

    def __init__(
        self,
        decoder: Decoder,
        on_stage: Callable[[str], None] = lambda stage: None,
        source: Path | None = None,
    ) -> None:
        self._source = source
        self._decoder = decoder
        self._on_stage = on_stage
        self._folder: Path | None = None
        self._written: dict[str, Path] = {}
        self.write_s: dict[str, float] = {}

    def safetensors(self) -> Path:
        """A Hugging Face folder: config.json and safetensors files.

        Raises:
            CannotRun: the weights can't be handed over, or there is no room for them (NoRoom).
        """
        from inference_benchmark.model.checkpoint_export import export_safetensors

        return self._once("safetensors", export_safetensors)

    def configuration(self) -> Path:
        """A folder with config.json alone, for engines that can make weights of their own."""
        from inference_benchmark.model.checkpoint_export import export_config

        return self._once("config", export_config, num_bytes=0)

    def gguf(self, vocabulary: str = "none", file_type: str | None = None) -> Path:
        """A GGUF file. vocabulary: as model.gguf.writer has it. file_type: of its matrices, the
        weights' own type if None; a file of that type from which the weights were read is kept.

        Raises:
            CannotRun: the weights can't be handed over, or there is no room for them.
        """
        from inference_benchmark.model.gguf.writer import FILE_TYPES, write_gguf

        type_name = file_type or base_type(self._decoder)
        if vocabulary == "none" and self._source_holds(FILE_TYPES[type_name]):
            return self._source

        def write(decoder: Decoder, folder: Path) -> None:
            write_gguf(decoder, folder / _GGUF_NAME, type_name, vocabulary)

        return self._once(f"gguf-{vocabulary}-{type_name}", write) / _GGUF_NAME

    def stored_gguf(self, vocabulary: str = "none") -> Path:
        """The GGUF file that the weights were read from, with another vocabulary a copy of it.

        Raises:
            CannotRun: there is none, or no room for the copy.
        """
        from inference_benchmark.model.gguf.rewriter import rewrite_gguf

        source = self._source
        if source is None:
            raise CannotRun("the weights were not read from a GGUF file, all of them")
        if vocabulary == "none":
            return source

        def write(_: Decoder, folder: Path) -> None:
            rewrite_gguf(source, folder / _GGUF_NAME, vocabulary)

        num_bytes = source.stat().st_size
        return self._once(f"gguf-{vocabulary}-stored", write, num_bytes) / _GGUF_NAME

    def _source_holds(self, type_name: str) -> bool:
        """Whether there is a source, with all matrices in that type of GGUF's."""
        if self._source is None:
            return False
        tensors = read_gguf(self._source).tensors.values()
        return {stored.type_name for stored in tensors if len(stored.shape) == 2} == {type_name}

    def _once(
        self, form: str, write: Callable[[Decoder, Path], None], num_bytes: int | None = None
    ) -> Path:
        """The folder of this form; write(decoder, folder) fills it. num_bytes: that it will need;
        None: those of the weights."""
        if form not in self._written:
            self._on_stage(f"writing weights as {form}")
            started = time.perf_counter()
            folder = self._root() / form
            folder.mkdir()
            try:
                self._check_room(folder, self.num_bytes if num_bytes is None else num_bytes)
                write(self._decoder, folder)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise CannotRun(f"weights can't be written to {folder}: {error}") from None
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self.write_s[form] = time.perf_counter() - started
            self._written[form] = folder
        return self._written[form]

    def _root(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="inference-benchmark-"))
        return self._folder

    @property
    def num_bytes(self) -> int:
        """Of the weights."""
        return sum(weight.nbytes for weight in self._decoder.parameters())

    def _check_room(self, folder: Path, needed: int) -> None:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise NoRoom(
                f"weights of {needed / 1e9:.1f} GB don't fit into {folder}, where {free / 1e9:.1f} GB "
                "are free: set TMPDIR to a larger place"
            )

    def close(self) -> None:
        """Remove everything that was written."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._written = None, {}
