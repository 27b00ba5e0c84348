"""The check before the timing of an engine with a loop of its own: its tokens, and logits if it has any.

Nothing is known of its cache and no step of it can be forced, so less is compared than of engines
that run step by step (before.py): a generation over a fresh prompt, replayed through the reference as
timed runs are, and, where the engine gives logits, those after a prompt and after each of a few tokens
that follow it whatever the engine would have chosen.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from inference_benchmark.model.decoder import Decoder
from inference_benchmark.output_check.context import Context
from inference_benchmark.output_check.errors import Finding, LogitErrors, finite
from inference_benchmark.output_check.floors import free_floor
from inference_benchmark.output_check.parts import EXACT_TOKENS, Part, logits_of
from inference_benchmark.output_check.reference import Reference
from inference_benchmark.output_check.references import references_of
from inference_benchmark.output_check.timed import Floor, TimedRun, replay, slices
from inference_benchmark.output_check.tolerances import FACTORS, ROUTING_LIMITS

FREE_TOKENS = 130  # over 100: what stops after so many tokens shows
FORCED_TOKENS = 4
_MOST_LOGITS = 32_000_000  # values that an engine is asked for at once
_FLOOR_POSITIONS = 64
# Of a model that is its own reference: farther apart, relative, its logits in two types are not the
# same model's. Rounding to bf16 moves them by about 0.01.
_MOST_APART = 0.1


@torch.inference_mode()
def check_stream_before(
    engine, decoder: Decoder, prompts: Sequence[Tensor], precision: str, output_length: int
) -> dict:
    """Compare an engine with the reference.

    Args:
        engine: as engines.stream_engine.StreamEngine.
        decoder: the weights that the engine was given, for the very layers that it runs.
        prompts: two of [batch, input_length] that the engine has not seen.
        precision: see tolerances.FACTORS.
        output_length: the most tokens that the engine has room for.

    Returns:
        As check_before, without what it can't know.
    """
    started = time.perf_counter()
    references = references_of(decoder)
    eager, exact = references.eager, references.exact
    if precision == "q8":  # what PyTorch would compute in the engine's arithmetic
        eager = Reference(decoder, rounds_activations=True)
    floor = _floor(eager, exact, prompts[0], precision)
    length = min(FREE_TOKENS, output_length)
    run = TimedRun.of_stream(engine.run(prompts[1], length), prompts[1])
    context = Context(engine, 0, seed=0)  # its caches are its own
    findings, failures = replay(
        references.of_tokens, run, floor, precision, "free run", None, context
    )
    checked, error = ["tokens"], None
    if "logits" in engine.capabilities.evidence:
        checked.append("logits")
        first_prompts = prompts[0][: engine.most_logit_sequences]
        forced = min(FORCED_TOKENS, output_length - 1, _fitting(first_prompts, decoder))
        errors, problems = _compare_logits(engine, eager, exact, first_prompts, forced)
        failures += problems
        error = finite(errors.most())
        mean_and_most = (floor.logits, floor.most_logits)
        findings += errors.findings("logits", FACTORS[precision], mean_and_most)
    if references.name is not None:
        findings.append(Finding(references.name, floor.logits, _MOST_APART, None))
    failures += [finding.phrase for finding in findings if not finding.passed]
    return _result(findings, failures, checked, floor, precision, error) | {
        "reference": references.name,
        "seconds": time.perf_counter() - started,
    }


def _fitting(prompt: Tensor, decoder: Decoder) -> int:
    per_position = prompt.shape[0] * decoder.config.vocab_size
    return max(0, _MOST_LOGITS // per_position - 1)


def _floor(eager: Reference, exact: Reference, prompt: Tensor, precision: str) -> Floor:
    """How far eager's logits are from the exact ones, over the positions of a prompt."""
    if eager.config.num_experts is not None:
        return free_floor(eager, exact, prompt, ROUTING_LIMITS[precision], FACTORS[precision])
    tokens = prompt[:1, :EXACT_TOKENS]
    streams = [_through(reference, tokens) for reference in (eager, exact)]
    errors = LogitErrors()
    every = max(1, tokens.shape[1] // _FLOOR_POSITIONS)
    for position in range(tokens.shape[1] - 1, -1, -every):
        eager_logits, exact_logits = (logits_of(stream, position) for stream in streams)
        errors.add(eager_logits, eager_logits, exact_logits)
    mean, most = errors.floor()
    return Floor(mean, most, {})


def _through(reference: Reference, tokens: Tensor):
    """A forward over tokens [batch, length] that went through all layers."""
    stream = reference.stream(tokens)
    for index in range(reference.config.num_layers):
        stream.layer(index, reference.empty_cache(index, *tokens.shape))
    return stream


def _compare_logits(
    engine, eager: Reference, exact: Reference, prompt: Tensor, count: int
) -> tuple[LogitErrors, list[str]]:
    """After the prompt and after each of `count` forced tokens."""
    batch, length = prompt.shape
    vocab = eager.config.vocab_size
    generator = torch.Generator().manual_seed(length)
    forced = torch.randint(vocab, (batch, count), generator=generator)
    logits = engine.logits_of(prompt.tolist(), forced.tolist())
    part = Part.named("logits")
    if tuple(logits.shape) != (batch, count + 1, vocab):
        return part.logits, [
            f"logits of shape {tuple(logits.shape)}, not {batch, count + 1, vocab}"
        ]
    logits = logits.to(prompt.device)
    fed = torch.cat((prompt, forced.to(prompt.device)), dim=1)
    for rows in slices(batch, length, fed.shape[1]):
        stream = _through(eager, fed[rows])
        wide = None
        if rows.start == 0 and fed.shape[1] <= 2 * EXACT_TOKENS:
            wide = _through(exact, fed[:1])
        for step in range(count + 1):
            position = length - 1 + step
            other = None if wide is None else logits_of(wide, position)
            part.logits.add(logits[rows, step], logits_of(stream, position), other, rows.start)
    return part.logits, []


def _result(
    findings: list[Finding],
    failures: list[str],
    checked: list[str],
    floor: Floor,
    precision: str,
    logits_error: float | None,
) -> dict:
    factors = FACTORS[precision]
    return {
        "passed": not failures,
        "checked": checked,
        "tolerance": max(factors.most * floor.most_logits, 3 * factors.least),
        "floor": floor.logits,
        "logits_error": logits_error,
        "measured": {finding.measure: finding.as_dict() for finding in findings},
        "failures": failures,
        "floors": floor,
    }
