"""Engines in a process of their own: another Python, other versions of packages, a crash of their own.

Ids go over a pipe, times are taken in the worker, so that the pipe costs nothing that is timed. To add
one: a generator file in workers/, and a subclass here or in a file of its own that names it and says
what the generator is opened with.
"""

import base64
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.stream_engine import Stream, StreamEngine, TokenIds
from inference_benchmark.engines.worker_process import WorkerProcess

_GENERATORS = Path(__file__).parent / "workers"


class WorkerEngine(StreamEngine):
    capabilities = replace(
        StreamEngine.capabilities,
        process="workers",
        evidence=frozenset({"tokens", "logits"}),
    )
    generator: ClassVar[str]  # the name of its file in workers/, or a path

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        super().__init__(plan, resources)
        settings = self.settings()  # weights are written here
        started = time.perf_counter()
        self._worker = WorkerProcess(
            plan.python or sys.executable,
            _GENERATORS / self.generator,
            self.environment(),
            plan.timeout_s,
        )
        try:
            self._facts = self._worker.call("open", settings=settings)
        except BaseException:
            self._worker.close()
            raise
        self.load_s = time.perf_counter() - started

    def settings(self) -> dict[str, Any]:
        """What the generator is opened with, plain enough for JSON."""
        weight = self.resources.decoder.norm.weight
        return {
            "device": weight.device.type,
            "dtype": str(weight.dtype).removeprefix("torch."),
            "batch_size": self.plan.batch_size,
            "input_length": self.plan.input_length,
            "cache_length": self.plan.cache_length,
            "options": list(self.plan.options),
        }

    def environment(self) -> dict[str, str]:
        """Variables of the worker that have to be set before it starts."""
        return {}

    def generate(self, prompts: TokenIds, output_length: int) -> Stream:
        return Stream(**self._worker.call("generate", prompts=prompts, output_length=output_length))

    def logits_of(self, prompts: TokenIds, forced: TokenIds) -> Tensor:
        reply = self._worker.call("logits", prompts=prompts, forced=forced)
        values = bytearray(base64.b64decode(reply["float32"]))
        return torch.frombuffer(values, dtype=torch.float32).view(reply["shape"])

    def facts(self) -> dict:
        return self._facts | {
            "python": self.plan.python or "this one",
            "environment": self._worker.call("environment"),
        }

    def reported_memory(self) -> dict[str, int]:
        return self._worker.call("memory")

    def close(self) -> None:
        self._worker.close()
