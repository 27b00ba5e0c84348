"""Sessions of the real command line with an engine that has a fault, or none."""

import contextlib
import gc
import io
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from audit.faults import injected  # noqa: E402
from inference_benchmark import models  # noqa: E402
from inference_benchmark.benchmark_inference import main  # noqa: E402
from inference_benchmark.model.config import ModelConfig  # noqa: E402
from inference_benchmark.model.parts import (  # noqa: E402
    AttentionTemperature,
    DenseFeedForward,
    GroupedQueryAttention,
    GroupLimitedRouter,
    InputRouter,
    LatentAttention,
    MixtureOfExperts,
    Rope,
)

VOCAB = 1000
_CHUNKED = GroupedQueryAttention(8, 2, 32, normalizes_qk=True, chunk_size=48)
_NOPE = GroupedQueryAttention(8, 2, 32, uses_rope=False, temperature=AttentionTemperature(32, 0.3))
_TOP1 = MixtureOfExperts(8, 1, 256, 256, InputRouter())


def _model(name: str, layers: int, attention, feed_forward, hidden: int = 256) -> ModelConfig:
    return ModelConfig(name, VOCAB, hidden, layers, attention, feed_forward, 8192, Rope(10000.0))


# Of each kind of attention and feed-forward one, small enough for a CPU.
AUDITED = {
    model.name: model
    for model in (
        _model("audit-gqa", 3, GroupedQueryAttention(8, 2, 32), DenseFeedForward(688)),
        _model(
            "audit-mla",
            3,
            LatentAttention(8, 96, 64, 32, 16, 32),
            (DenseFeedForward(512),)
            + (MixtureOfExperts(8, 2, 128, 128, GroupLimitedRouter(4, 2, scale=2.5)),) * 2,
        ),
        _model(
            "audit-chunked",
            4,
            (_CHUNKED, _CHUNKED, _CHUNKED, _NOPE),
            (DenseFeedForward(512), _TOP1, DenseFeedForward(512), _TOP1),
        ),
        _model("audit-deep-mixture", 16, GroupedQueryAttention(8, 2, 32), _TOP1),
    )
}


@dataclass(frozen=True)
class Setting:
    """What a session is asked for."""

    model: str = "audit-gqa"
    mode: str = "eager"
    precision: str = "bf16"
    input_length: int = 48
    output_length: int = 112  # beyond step 100
    batch_size: int = 2
    seed: int = 0
    device: str = "cpu"
    layers: int | None = None
    iterations: int = 2
    attention: str = "auto"

    def arguments(self) -> list[str]:
        layers = [] if self.layers is None else ["--num-layers", str(self.layers)]
        return [
            *("--model-name", self.model, "--mode", *self.mode.split(), *layers),
            *("--precision", self.precision, "--device", self.device),
            *("--input-length", str(self.input_length)),
            *("--output-length", str(self.output_length)),
            *("--batch-size", str(self.batch_size), "--seed", str(self.seed)),
            *("--num-iterations", str(self.iterations), "--warmup-iterations", "1"),
            *("--attention", self.attention, "--quiet", "--json"),
        ]


def run_session(setting: Setting, fault: str | None = None) -> tuple[int, list[dict]]:
    """(exit code, cells of the result) of a session whose engines have this fault."""
    out, err = io.StringIO(), io.StringIO()
    everything = {**models.MODELS, **AUDITED}
    with (
        mock.patch.dict(models.MODELS, everything),
        injected(fault),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(setting.arguments())
    _free(setting.device)
    lines = out.getvalue().strip().splitlines()
    if not lines:
        raise RuntimeError(f"no result (exit code {code}): {err.getvalue()[-500:]}")
    return code, json.loads(lines[-1])["cells"]


def _free(device: str) -> None:
    """What one session allocated must not count as taken in the next."""
    if device == "cuda":
        import torch

        gc.collect()
        torch.cuda.empty_cache()


def check_of(cell: dict) -> dict:
    """The cell's output check; of a session that failed before, an error."""
    check = cell.get("output_check") or cell.get("agreement")
    if check is None:
        raise RuntimeError(f"{cell['label']}: {cell['status']}: {cell['error']}")
    return check


def ratio(entry: dict) -> float:
    if entry["error"] is None:
        return math.inf
    return entry["error"] / entry["limit"] if entry["limit"] else (entry["error"] and math.inf)


def caught_by(check: dict) -> list[str]:
    """The parts of the check that saw it, the farthest over its limit first, then exact ones."""
    over = {
        measure: ratio(entry) for measure, entry in check["measured"].items() if ratio(entry) > 1
    }
    parts = sorted(over, key=over.get, reverse=True)
    exact = [text for text in check["failures"] if " over " not in text]
    return parts + exact
