"""--prompt: the answer of a model as it comes, and how long its tokens took.

The engine is prepared as for a benchmark, output check included, so that nothing is compiled while
the answer is timed. Each token is waited for, as whoever reads along does: TBOT is a little longer
than in a benchmark, whose steps wait for nobody. Afterwards the answer's tokens go through the
reference as those of timed runs do.
"""

import sys
import time
from dataclasses import dataclass
from functools import partial

import torch

from inference_benchmark.command.fit import arrange
from inference_benchmark.errors import ExitCode
from inference_benchmark.options.question import Question
from inference_benchmark.options.request import Request
from inference_benchmark.output_check import TimedRun
from inference_benchmark.parallel.ranks import Ranks
from inference_benchmark.reporting.progress import Progress
from inference_benchmark.session.guard import guarded
from inference_benchmark.session.live import LiveCell
from inference_benchmark.session.planning import plan_cells
from inference_benchmark.session.prepare import Preparation
from inference_benchmark.session.weights import Weights
from inference_benchmark.system.host_load import free_host_bytes


@dataclass(frozen=True)
class Answer:
    """token_times_s: from the question until each token was here. pieces: what each added to the
    text. ended: whether the model ended it; otherwise it was cut."""

    tokens: list[int]
    token_times_s: list[float]
    pieces: list[str]
    ended: bool

    @property
    def ttft_s(self) -> float:
        return self.token_times_s[0]

    @property
    def tbot_s(self) -> float | None:
        steps = len(self.tokens) - 1
        return (self.token_times_s[-1] - self.ttft_s) / steps if steps else None

    @property
    def tokens_per_s(self) -> float:
        return len(self.tokens) / self.token_times_s[-1]


def run_prompt(request: Request) -> int:
    """Print the answer of each mode; returns the exit code.

    Raises:
        CannotRun: it does not fit, or the weights can't be read.
    """
    device, ranks = torch.device(request.device), Ranks()
    available = torch.cuda.mem_get_info()[0] if device.type == "cuda" else free_host_bytes()
    plan = arrange(request, plan_cells(request), available)
    progress, weights = Progress(request.quiet), Weights()
    length = request.input_length + request.output_length
    weights.build(request, length, device, ranks, progress.stage)
    preparation = Preparation(weights, device, request.seed, ranks, progress.stage)
    code = ExitCode.MEASURED
    for cell in map(LiveCell, plan.cells):
        started = time.perf_counter()
        preparation.prepare([cell])
        progress.close()
        if cell.is_running:
            ready_s = time.perf_counter() - started
            guarded(ranks, cell, partial(_ask, request, preparation, ready_s))
        if cell.record.error is not None:
            print(f"{cell.label}: {cell.record.error}", file=sys.stderr)
        if cell.record.status != "ok":
            code = ExitCode.GATE_FAILED
        cell.close()
        preparation.free()
    weights.close()
    return code


def _ask(request: Request, preparation: Preparation, ready_s: float, cell: LiveCell) -> None:
    """ready_s: how long the engine's preparation took."""
    question = request.question
    if len(request.specs) > 1:
        print(f"{cell.plan.variant}:", flush=True)
    inputs = torch.tensor([question.ids], device=request.device)
    if cell.has_steps:
        answer = generate(cell.engine, inputs, question, request.output_length)
        output = TimedRun.of(cell.engine, inputs, len(answer.tokens))
    else:
        answer = generate_whole(cell.engine, inputs, question, request.output_length)
        output = TimedRun.of_stream(cell.engine.newest, inputs)
    print(flush=True)
    cell.record.keep_output(output)
    preparation.check_timed(cell)
    if request.timing and cell.record.status == "ok":
        print(_token_lines(answer), flush=True)
    if not request.quiet:
        print(f"\n{_timing_line(cell, request, answer, ready_s)}", flush=True)


@torch.inference_mode()
def generate(engine, inputs: torch.Tensor, question: Question, most: int) -> Answer:
    """The answer to inputs [1, length], printed as it comes."""
    ends, text = question.tokenizer.end_ids, question.tokenizer.stream()
    tokens, times_s, pieces = [], [], []
    if inputs.device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    engine.prefill(inputs)
    while True:
        token = int(engine.token)  # waits for the step
        times_s.append(time.perf_counter() - started)
        tokens.append(token)
        ended = token in ends
        pieces.append("" if ended else text.add(token))
        print(pieces[-1], end="", flush=True)
        if ended or len(tokens) == most:
            return Answer(tokens, times_s, pieces, ended)
        engine.decode()


def generate_whole(engine, inputs: torch.Tensor, question: Question, most: int) -> Answer:
    """Of an engine with a loop of its own, which goes on after the end: what comes until then, printed
    when all is there."""
    stream = engine.run(inputs, most)
    (tokens,) = stream.tokens
    ends, text = question.tokenizer.end_ids, question.tokenizer.stream()
    ended = next((number for number, token in enumerate(tokens) if token in ends), None)
    count = most if ended is None else ended + 1
    pieces = ["" if token in ends else text.add(token) for token in tokens[:count]]
    print("".join(pieces), end="", flush=True)
    return Answer(tokens[:count], stream.token_times_s[:count], pieces, ended is not None)


def _timing_line(cell: LiveCell, request: Request, answer: Answer, ready_s: float) -> str:
    ending = "ended by itself" if answer.ended else "cut: --max-new-tokens"
    counts = f"{len(request.question.ids)} + {len(answer.tokens)} tokens, {ending}"
    if cell.record.status != "ok":
        (reason, *_) = cell.record.output_check["failures"]
        return f"[{cell.plan.variant}: {counts}; WRONG OUTPUT, so no times: {reason}]"
    tbot = "-" if answer.tbot_s is None else f"{answer.tbot_s * 1e3:.3f} ms"
    return (
        f"[{cell.plan.variant}: {counts}; TTFT {answer.ttft_s * 1e3:.2f} ms, TBOT {tbot}, "
        f"{answer.tokens_per_s:.1f} tokens/s; checked; ready in {ready_s:.1f} s]"
    )


def _token_lines(answer: Answer) -> str:
    """A line per token: its number, its time, the time since the one before, its text."""
    lines, before_s = [f"\n{'token':>5} {'at ms':>10} {'ms':>9}  text"], 0.0
    rows = zip(answer.token_times_s, answer.pieces, strict=True)
    for number, (time_s, piece) in enumerate(rows, start=1):
        gap_ms = (time_s - before_s) * 1e3
        lines.append(f"{number:>5} {time_s * 1e3:>10.2f} {gap_ms:>9.3f}  {piece!r}")
        before_s = time_s
    return "\n".join(lines)
