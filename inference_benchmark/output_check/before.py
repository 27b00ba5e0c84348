"""The check before the timing: an engine against the reference, on inputs of its own.

Through the very engine that is timed, its CUDA graph included:

- a fresh prompt and forced tokens after it: the cache of every layer, head and slot, the logits of
  the steps, slots that nothing should have written;
- forced tokens from an empty cache, where a fault of one slot weighs most;
- planted caches in which single slots dominate (needles.py); where a prompt stands behind a context,
  a prompt over these as well;
- a free run over another prompt, checked as timed runs are (timed.py).

In a mixture of experts two experts of nearly equal score may be chosen either way, and what follows
then differs by much more than rounding. So the reference uses the experts that the engine chose,
with its own scores, and what it would have chosen itself is compared apart: few may differ. In free
and timed runs it chooses itself, and how far eager is then from the exact forward is the floor.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from inference_benchmark.model.decoder import Decoder
from inference_benchmark.output_check.context import Context
from inference_benchmark.output_check.errors import Finding, finite
from inference_benchmark.output_check.floors import findings_of, floor_of, free_floor
from inference_benchmark.output_check.parts import EXACT_TOKENS, Part, Routing, logits_of
from inference_benchmark.output_check.planted import EXACT_SEQUENCES, Planted
from inference_benchmark.output_check.recording import Recording, evenly
from inference_benchmark.output_check.reference import Reference
from inference_benchmark.output_check.sequences import compared_blocks, compared_rows
from inference_benchmark.output_check.timed import Floor, TimedRun, replay, slices
from inference_benchmark.output_check.tolerances import FACTORS, ROUTING_LIMITS

FORCED_STEPS = 32
# Over 100, and more than are forced: whatever stops after so many steps or calls shows.
FREE_STEPS = 130


@torch.inference_mode()
def check_before(
    engine, decoder: Decoder, prompts: Sequence[Tensor], precision: str, seed: int
) -> dict:
    """Compare an engine with the reference; leaves the engine reset.

    Args:
        engine: has caches, tokens, position, token, logits, choices, reset, force, prefill, decode,
            as engines.base.StepEngine.
        decoder: the weights that the engine was made of, for the very layers that it runs.
        prompts: two of [batch, input_length] that the engine has not seen.
        precision: fp32, fp16, bf16 or fp8, see tolerances.FACTORS.
        seed: of the forced tokens and the planted caches.

    Returns:
        {"passed", "checked", "tolerance", "floor", "measured": {what: {"error", "limit", "floor",
        "at"}}, "routing_difference", "unwritten_slots_changed", "failures", "seconds", "floors"};
        tolerance, floor and errors are relative ones. "floors" is for check_timed_runs.
    """
    started = time.perf_counter()
    record = _Check(engine, decoder, precision, seed).run(prompts)
    return record | {"seconds": time.perf_counter() - started}


class _Check:
    def __init__(self, engine, decoder: Decoder, precision: str, seed: int) -> None:
        self.engine = engine
        self.decoder = decoder
        self.precision = precision
        self.factors = FACTORS[precision]
        self.seed = seed
        self.eager = Reference(decoder)
        self.exact = Reference.exact(decoder)
        self.capacity = engine.caches[0][0].shape[2]
        self.depth = engine.plan.context_depth
        self.context = Context(engine, self.depth, seed)
        self.nothing = Context(engine, 0, seed)
        self.routing = Routing()
        self.failures: list[str] = []
        self.unwritten_changed = 0

    def run(self, prompts: Sequence[Tensor]) -> dict:
        forced_prompt, free_prompt = prompts
        length = self.depth + forced_prompt.shape[1]
        after_prompt = min(FORCED_STEPS, self.capacity - length)
        prompt, decode = Part.named("prompt", self.depth), Part.named("decode", length)
        empty, needles = Part.named("empty cache"), Part.named("needles")
        self._after_prompt(forced_prompt, after_prompt, prompt, decode)
        if after_prompt:
            self._from_empty(forced_prompt.shape[0], min(FORCED_STEPS, self.capacity), empty)
        if after_prompt and self.capacity > 2:
            planted = Planted(self.engine, self.decoder, self.eager, self.exact, self.seed)
            planted.compare_steps(forced_prompt, needles, self.routing)
            if self.depth:
                planted.compare_prompt(forced_prompt, needles)
            self.unwritten_changed += planted.changed
        parts = [prompt, decode, empty, needles]
        findings, floor = findings_of(parts, self.factors), self._floor(parts, forced_prompt)
        free = self._free_run(free_prompt, floor)
        self.engine.reset()
        return self._result(parts, findings, floor, free, after_prompt)

    # Forced steps

    def _after_prompt(self, prompt: Tensor, count: int, of_prompt: Part, of_steps: Part) -> None:
        end = self.depth + prompt.shape[1]
        recording = self._recording(prompt.shape[1], count, self.depth)
        self.context.restore()
        recording.prefill(prompt)
        self._force(recording, prompt.shape[0], count)
        self.failures += recording.failures()
        slots = {of_prompt: slice(self.depth, end), of_steps: slice(end, None)}
        self._compare(recording, slots)
        self.unwritten_changed += self.context.changed(slice(self.depth, recording.length))

    def _from_empty(self, batch: int, count: int, part: Part) -> None:
        recording = self._recording(0, count)
        self.nothing.restore()
        self._force(recording, batch, count)
        self.failures += recording.failures()
        self._compare_steps(recording, part)
        self.unwritten_changed += self.nothing.changed(slice(recording.length))

    def _recording(self, prompt_length: int, steps: int, start: int = 0) -> Recording:
        """Keeps the logits of the prompt's last position, and of as many steps as there is room."""
        batch = self.engine.token.shape[0]
        vocab = self.decoder.config.vocab_size
        size = self.decoder.norm.weight.element_size()
        every = evenly(steps + 1, batch, vocab, size)
        end = start + prompt_length
        return Recording(self.engine, lambda at: (at + 1 - end) % every == 0, start)

    def _force(self, recording: Recording, batch: int, count: int) -> None:
        generator = torch.Generator().manual_seed(self.seed * 7 + recording.length)
        vocab = self.decoder.config.vocab_size
        tokens = torch.randint(vocab, (count, batch, 1), generator=generator)
        for token in tokens.to(self.engine.token.device):
            recording.force(token)

    def _compare(self, recording: Recording, parts: dict[Part, slice]) -> None:
        """With one forward over all tokens that went in."""
        tokens, choices = recording.tokens, recording.choices
        batch, length = tokens.shape
        exact_length = length if length <= 2 * EXACT_TOKENS else EXACT_TOKENS
        for rows in compared_blocks(batch) or slices(batch, self.engine.plan.input_length, length):
            eager = self.eager.stream(tokens[rows], self.depth)
            exact = None
            if rows.start == 0:
                exact = self.exact.stream(tokens[:1, :exact_length], self.depth)
            chosen = [choice[rows].flatten(0, 1) for choice in choices]
            exact_chosen = [choice[:1, :exact_length].flatten(0, 1) for choice in choices]
            for index in range(len(self.engine.caches)):
                eager_cache = self.context.reference_cache(
                    self.eager, index, range(batch)[rows], length
                )
                eager.layer(index, eager_cache, chosen)
                exact_cache = (None,) * len(eager_cache)
                if exact is not None:
                    exact_cache = self.context.reference_cache(
                        self.exact, index, range(1), exact_length
                    )
                    exact.layer(index, exact_cache, exact_chosen)
                engine_cache = [tensor[rows] for tensor in self.engine.caches[index]]
                for part, slots in parts.items():
                    part.add_cache(index, engine_cache, eager_cache, exact_cache, slots, rows.start)
            self.routing.add(eager.choices, chosen)
            of_prompt, of_steps = parts
            for position, logits, eager_logits in _logits(recording, eager, rows, self.depth):
                is_known = exact is not None and position < exact_length
                part = of_prompt if position == self.engine.plan.input_length - 1 else of_steps
                other = logits_of(exact, position) if is_known else None
                part.logits.add(logits, eager_logits, other, rows.start)

    def _compare_steps(self, recording: Recording, part: Part) -> None:
        """With eager steps, which round as steps do, and one exact forward over all tokens."""
        rows = compared_rows(recording.tokens.shape[0])
        tokens, choices = recording.tokens[rows], [choice[rows] for choice in recording.choices]
        batch, length = tokens.shape
        layers = range(len(self.engine.caches))
        caches = [self.eager.empty_cache(index, batch, length) for index in layers]
        num_exact = min(batch, EXACT_SEQUENCES)
        eager_logits = {}
        for position in range(length):
            token = tokens[:, position : position + 1]
            eager = self.eager.stream(token, position, length)
            chosen = [choice[:, position] for choice in choices]
            for index in layers:
                eager.layer(index, caches[index], chosen)
            self.routing.add(eager.choices, chosen)
            if position in recording.logits:
                eager_logits[position] = logits_of(eager, 0)
        exact = self.exact.stream(tokens[:num_exact], 0, length)
        exact_chosen = [choice[:num_exact].flatten(0, 1) for choice in choices]
        for index in layers:
            exact_cache = self.exact.empty_cache(index, num_exact, length)
            exact.layer(index, exact_cache, exact_chosen)
            engine_cache = [tensor[rows] for tensor in self.engine.caches[index]]
            part.add_cache(index, engine_cache, caches[index], exact_cache, slice(length))
        for position, logits in eager_logits.items():
            part.logits.add(recording.logits[position][rows], logits, logits_of(exact, position))

    # Free run

    def _free_run(self, prompt: Tensor, floor: Floor) -> list[Finding]:
        length = self.depth + prompt.shape[1]
        steps = min(FREE_STEPS, self.capacity - length)
        recording = Recording(self.engine, lambda position: False, self.depth)
        self.context.restore()
        recording.prefill(prompt)
        for _ in range(steps):
            recording.choose()
        self.failures += [f"free run: {text}" for text in recording.failures()]
        rows = compared_rows(prompt.shape[0])
        tokens = self.engine.tokens[rows, length : length + steps + 1]
        chosen = None if isinstance(rows, slice) else rows
        run = TimedRun(
            prompt[rows], tokens, length + steps, chosen, self.depth, fill_seed=self.seed
        )
        caches = [tuple(tensor[rows] for tensor in cache) for cache in self.engine.caches]
        findings, failures = replay(
            self.eager, run, floor, self.precision, "free run", caches, self.context
        )
        self.failures += failures
        self.unwritten_changed += self.context.changed(slice(self.depth, length + steps))
        return findings

    # What was found

    def _floor(self, parts: Sequence[Part], prompt: Tensor) -> Floor:
        """What free runs are held against: where the reference chooses experts itself, eager's own
        distance from an exact forward that does so too."""
        if self.decoder.config.num_experts is None:
            return floor_of(parts)
        difference = self.routing.difference() or 0.0
        return free_floor(self.eager, self.exact, prompt, difference, self.factors)

    def _result(
        self,
        parts: list[Part],
        findings: list[Finding],
        floor: Floor,
        free: list[Finding],
        steps: int,
    ) -> dict:
        findings = [*findings, *free]
        failures = [finding.phrase for finding in findings if not finding.passed]
        failures += self.failures
        share, limit = self.routing.difference(), ROUTING_LIMITS[self.precision]
        if share is not None and share > limit:
            failures.append(f"{share:.0%} of the experts chosen otherwise, over {limit:.0%}")
        if self.unwritten_changed:
            failures.append(f"{self.unwritten_changed} unwritten cache slots changed")
        prompt, decode, empty, _ = parts
        return {
            "passed": not failures,
            "checked": ["tokens", "logits", "cache"],
            "tolerance": max(self.factors.most * floor.most_logits, 3 * self.factors.least),
            "floor": floor.logits,
            "steps": steps,
            "prefill_error": finite(prompt.logits.most()),
            "decode_error": finite(decode.logits.most()),
            "empty_cache_error": finite(empty.logits.most()),
            "cache_error": finite(
                max(
                    finding.error
                    for finding in findings
                    if finding.measure.endswith("a cache slot")
                )
            ),
            "unwritten_slots_changed": self.unwritten_changed,
            "routing_difference": share,
            "measured": {finding.measure: finding.as_dict() for finding in findings},
            "failures": failures,
            "floors": floor,
        }


def _logits(recording: Recording, stream, rows: slice, start: int):
    """(position behind `start`, the engine's logits, the reference's), both [sequences, vocab]."""
    positions = [position - start for position in sorted(recording.logits)]
    for part, logits in stream.logits(positions):
        for number, position in enumerate(positions[part]):
            yield position, recording.logits[start + position][rows], logits[:, number]
