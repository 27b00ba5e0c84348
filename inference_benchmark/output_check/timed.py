"""The check after the timing: the tokens of timed runs, replayed through the reference.

A run's prompt and the tokens that it chose go through the reference at once, as a prompt would: two
thousand tokens of an 8B model take 50 ms where choosing them took 4 s. Each token must then be the
best one of the reference's logits before it, or one that rounding may put there: its logit may lie
below the best by a few deviations of the difference of two logits, as rounding moves them. How often
that happens must agree with how often the reference's two best logits lie so close to each other.
Where the engine's cache still is the run's, it is compared as well, slot by slot: a slot that was
overwritten halfway changes hardly any token.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.sampling import Sampling
from inference_benchmark.output_check.choice import decide_steps, wrong_choices
from inference_benchmark.output_check.context import Context
from inference_benchmark.output_check.errors import CacheErrors, Finding
from inference_benchmark.output_check.memory import sequences_at_a_time
from inference_benchmark.output_check.reference import Reference
from inference_benchmark.output_check.references import references_of
from inference_benchmark.output_check.tolerances import (
    FACTORS,
    TIE_DEVIATIONS,
    TIPPED_DEVIATIONS,
    combined_noise,
    most_ties,
)


@dataclass(frozen=True)
class TimedRun:
    """What a run left: prompt [batch, input_length], tokens [batch, output_length], where the last
    token stands (None: not known any more).

    context_depth: slots that were filled before it, from fill_seed. overwritten: how many of its
    own slots something else has written since.
    """

    prompt: Tensor
    tokens: Tensor
    final_position: int | None
    rows: Sequence[int] | None = None  # which of the engine's sequences; None: all
    context_depth: int = 0
    fill_seed: int = 0
    overwritten: int = 0

    @classmethod
    def of(
        cls,
        engine,
        prompt: Tensor,
        output_length: int,
        context_depth: int = 0,
        fill_seed: int = 0,
    ) -> "TimedRun":
        """The run that the engine has just made; the tokens are copied to the host."""
        start = context_depth + prompt.shape[1]
        tokens = engine.tokens[:, start : start + output_length].to("cpu", copy=True)
        position = int(engine.position)
        return cls(prompt, tokens, position, context_depth=context_depth, fill_seed=fill_seed)

    @property
    def start(self) -> int:
        """Where the first of its tokens stands."""
        return self.context_depth + self.prompt.shape[1]

    @property
    def fed(self) -> int:
        """Tokens that went in: all but the last one."""
        return self.prompt.shape[1] + self.tokens.shape[1] - 1

    @classmethod
    def of_stream(cls, stream, prompt: Tensor) -> "TimedRun":
        """What an engine with a loop of its own returned; its last token stands where it should."""
        tokens = torch.tensor(stream.tokens, dtype=torch.int64)
        return cls(prompt, tokens, prompt.shape[1] + tokens.shape[1] - 1)


@dataclass(frozen=True)
class Floor:
    """Eager's own relative errors: mean and largest of rows of logits, and (mean, largest) of each
    layer's cache tensors by (layer, tensor).

    In a mixture of experts rounding tips some choices: `tipped_share` is the largest share of tokens
    for which it may have tipped any, `tipped_logits` how far logits move when all are.
    """

    logits: float
    most_logits: float
    caches: dict[tuple[int, int], tuple[float, float]]
    tipped_logits: float = 0.0
    tipped_share: float = 0.0


@torch.inference_mode()
def check_timed_runs(
    engine,
    decoder: Decoder,
    runs: Sequence[TimedRun],
    precision: str,
    before: dict,
    parts: int = 1,
) -> dict:
    """Replay timed runs; the engine's cache is compared where it still holds the last of them.

    Args:
        engine, decoder, precision: as for check_before, or as for check_stream_before.
        before: what check_before found.
        parts: how many of these in succession make up one run of the engine.

    Returns:
        {"passed", "replayed_runs", "replayed_cache", "measured", "failures", "seconds"}.
    """
    started = time.perf_counter()
    reference, floor = references_of(decoder).of_tokens, before["floors"]
    findings: dict[str, Finding] = {}
    failures: list[str] = []
    holds_last, sampling = _holds(engine, runs[-1]), engine.plan.sampling
    for number, run in enumerate(runs):
        name = f"timed run {number // parts + 1} of {len(runs) // parts}"
        is_last = number == len(runs) - 1
        caches = engine.caches if holds_last and number >= len(runs) - parts else None
        context = Context(engine, run.context_depth, run.fill_seed)
        run_findings, problems = replay(
            reference, run, floor, precision, "timed run", caches, context
        )
        if (
            is_last
            and holds_last
            and wrong_choices(engine.logits, engine.token, sampling, engine.position)
        ):
            problems.append("the last token is not that of its own logits")
        failures += [f"{name}: {text}" for text in problems]
        failures += [f"{name}: {finding.phrase}" for finding in run_findings if not finding.passed]
        for finding in run_findings:
            if finding.measure not in findings or finding.ratio > findings[finding.measure].ratio:
                findings[finding.measure] = finding
    if holds_last and (changed := _changed_context(engine, runs[-parts:])):
        failures.append(f"{changed} slots of the context changed in timed runs")
    return {
        "passed": not failures,
        "replayed_runs": len(runs) // parts,
        "replayed_cache": holds_last,
        "measured": {finding.measure: finding.as_dict() for finding in findings.values()},
        "failures": failures,
        "seconds": time.perf_counter() - started,
    }


def _holds(engine, run: TimedRun) -> bool:
    """Whether the engine's newest run is this one, and its cache can be looked at."""
    if "cache" not in engine.capabilities.evidence:
        return False
    tokens = engine.tokens[:, run.start : run.start + run.tokens.shape[1]]
    same = torch.equal(tokens, run.tokens.to(tokens.device))
    return same and int(engine.position) == run.final_position


def _changed_context(engine, parts: Sequence[TimedRun]) -> int:
    """Slots of the last run's context that hold something else by now."""
    last = parts[-1]
    if not last.context_depth:
        return 0
    written = slice(last.context_depth, last.context_depth + max(part.fed for part in parts))
    return Context(engine, last.context_depth, last.fill_seed).changed(written)


def replay(
    reference: Reference,
    run: TimedRun,
    floor: Floor,
    precision: str,
    name: str,
    caches: list | None,
    context: Context,
) -> tuple[list[Finding], list[str]]:
    """Findings about the tokens of a run, and about the caches that it left if given; and what is
    wrong in any number format.

    context: what the engine's caches held before the run.
    """
    batch, length = run.prompt.shape
    count = run.tokens.shape[1]
    failures = []
    end = run.start + count - 1
    if run.final_position not in (None, end):
        failures.append(f"{name}: ended at position {run.final_position}, not {end}")
    device = run.prompt.device
    tokens = run.tokens.to(device)
    invalid = (tokens < 0) | (tokens >= reference.config.vocab_size)
    if invalid.any():
        failures.append(f"{name}: {int(invalid.sum())} of {tokens.numel()} tokens are missing")
        return [], failures
    fed = torch.cat((run.prompt, tokens[:, :-1]), dim=1)
    sampling = context.engine.plan.sampling
    ties = _Ties(floor, precision, sampling, run)
    kept = slice(run.context_depth + run.overwritten, run.context_depth + run.fed)
    errors = CacheErrors(kept.start)
    sequences = run.rows or range(batch)
    at_a_time = max(length, context.engine.plan.input_length)
    for rows in slices(batch, at_a_time, fed.shape[1]):
        stream = reference.stream(fed[rows], run.context_depth, run.context_depth + run.fed)
        for index in range(reference.config.num_layers):
            eager_cache = context.reference_cache(reference, index, sequences[rows], run.fed)
            stream.layer(index, eager_cache)
            for tensor, value in enumerate(eager_cache if caches is not None else ()):
                slots = caches[index][tensor][rows, :, kept]
                errors.add(index, tensor, slots, value[:, :, kept], None, rows.start)
        positions = range(length - 1, length + count - 1)
        for part, logits in stream.logits(positions):
            ties.add(logits, tokens[rows, part], rows.start, part.start)
    slots = ties.findings(name)
    slots += errors.findings(name, FACTORS[precision], floor.caches)
    return slots, failures


class _Ties:
    """Chosen tokens that are not the reference's: how many, and how far below its best logit.

    sampling: how they were drawn, if they were.
    """

    def __init__(
        self, floor: Floor, precision: str, sampling: Sampling | None, run: TimedRun
    ) -> None:
        self._sampling, self._first_position = sampling, run.start
        self._sequences = torch.tensor(run.rows or range(run.prompt.shape[0]))
        self._noise = combined_noise(floor.logits, precision)
        self._most_noise = combined_noise(floor.most_logits, precision)
        self._limit = TIE_DEVIATIONS * math.sqrt(2) * self._most_noise
        self._floor = floor
        self._tokens = 0
        self._differing = 0
        self._far = 0
        self._expected = 0.0
        self._largest = -1.0
        self._at = ""

    def add(self, logits: Tensor, tokens: Tensor, first_row: int, first_step: int) -> None:
        """logits [sequences, steps, vocab] before tokens [sequences, steps]."""
        scale = logits.float().square().mean(dim=-1).sqrt()
        deciding = decide_steps(
            self._sampling,
            logits,
            tokens,
            self._first_position + first_step,
            self._sequences.to(logits.device)[first_row : first_row + len(tokens)],
            slack=self._limit * scale,
        )
        gap = (deciding.shortfall / scale).nan_to_num(nan=math.inf)
        margin = deciding.margin / scale
        # Two logits move independently, each by the noise: this much is their difference's.
        deviations = margin / (math.sqrt(2) * self._noise)
        self._expected += float((0.5 * torch.erfc(deviations / math.sqrt(2))).double().sum())
        self._tokens += gap.numel()
        self._differing += int((gap > 0).sum())
        self._far += int((gap > self._limit).sum())
        largest, place = gap.flatten().max(dim=0)
        if float(largest) > self._largest:
            row, step = divmod(int(place), gap.shape[1])
            self._largest = float(largest)
            self._at = f"sequence {first_row + row}, token {first_step + step}"

    def findings(self, name: str) -> list[Finding]:
        share = self._floor.tipped_share
        limit = max(self._limit, TIPPED_DEVIATIONS * math.sqrt(2) * self._floor.tipped_logits)
        differing = most_ties(self._expected) + share * self._tokens
        measure = f"{name}: a token below the best"
        findings = [
            Finding(measure, self._largest, limit, self._most_noise, self._at),
            Finding(
                f"{name}: tokens that are not the reference's",
                self._differing,
                differing,
                self._expected,
            ),
        ]
        if share:
            most = share * self._tokens + 2
            measure = f"{name}: tokens that only other experts explain"
            findings.append(Finding(measure, self._far, most, None))
        return findings


def slices(batch: int, input_length: int, length: int) -> list[slice]:
    """Sequences that go through the reference at a time: no more tokens than a prefill has."""
    count = sequences_at_a_time(batch, input_length, length)
    return [slice(start, min(start + count, batch)) for start in range(0, batch, count)]
