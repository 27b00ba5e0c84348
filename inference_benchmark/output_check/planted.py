"""An engine over planted caches (needles.py), step by step and, behind a context, over a prompt.

The reference goes over copies of the engine's own caches, so that a difference is the fault of the
step that was just made.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from inference_benchmark.model.decoder import Decoder
from inference_benchmark.output_check.needles import Plant, step_positions
from inference_benchmark.output_check.parts import EXACT_TOKENS, Part, Routing, logits_of
from inference_benchmark.output_check.reference import Reference
from inference_benchmark.output_check.sequences import compared_rows

EXACT_SEQUENCES = 4


class Planted:
    """`changed` counts the slots that hold something else although no step should have written
    them."""

    def __init__(
        self, engine, decoder: Decoder, eager: Reference, exact: Reference, seed: int
    ) -> None:
        self.engine = engine
        self.decoder = decoder
        self.eager = eager
        self.exact = exact
        self.seed = seed
        self.depth = engine.plan.context_depth
        self.capacity = engine.caches[0][0].shape[2]
        self.changed = 0

    def _plant(self, positions: Sequence[int], seed: int) -> Plant:
        plant = Plant(self.decoder.config.layers, self.capacity, positions, seed)
        self.engine.reset()
        for index, cache in enumerate(self.engine.caches):
            plant.fill(index, cache)
        return plant

    def compare_steps(self, prompt: Tensor, part: Part, routing: Routing) -> None:
        """Forced steps at some positions, the depth or the prompt's end among them."""
        engine, batch = self.engine, prompt.shape[0]
        positions = step_positions(self.depth or prompt.shape[1], self.capacity, self.seed)
        plant = self._plant(positions, self.seed)
        generator = torch.Generator().manual_seed(self.seed * 11 + 5)
        vocab = self.decoder.config.vocab_size
        tokens = torch.randint(vocab, (len(positions), batch, 1), generator=generator)
        for token, position in zip(tokens.to(engine.token.device), positions, strict=True):
            engine.force(token, position)
            engine.decode()
            self._compare_step(token, position, part, routing)
        self._count_changed(plant, list(positions))

    def _compare_step(self, token: Tensor, position: int, part: Part, routing: Routing) -> None:
        """One step of eager and of the exact forward on copies of the engine's own caches."""
        engine, rows = self.engine, compared_rows(token.shape[0])
        token = token[rows]
        num_exact = min(token.shape[0], EXACT_SEQUENCES)
        chosen = [choice[rows] for choice in engine.choices]
        exact_chosen = [choice[:num_exact] for choice in chosen]
        eager = self.eager.stream(token, position, self.capacity)
        exact = self.exact.stream(token[:num_exact], position, self.capacity)
        slot = slice(position, position + 1)
        for index, cache in enumerate(engine.caches):
            eager_cache = tuple(tensor[rows].clone() for tensor in cache)
            written = [tensor[:, :, slot].clone() for tensor in eager_cache]
            exact_cache = tuple(tensor[:num_exact].to(self.exact.dtype) for tensor in eager_cache)
            eager.layer(index, eager_cache, chosen)
            exact.layer(index, exact_cache, exact_chosen)
            eager_slot, exact_slot = (
                [tensor[:, :, slot] for tensor in tensors] for tensors in (eager_cache, exact_cache)
            )
            part.add_cache(index, written, eager_slot, exact_slot, slice(None))
        routing.add(eager.choices, chosen)
        part.logits.add(engine.logits[rows], logits_of(eager, 0), logits_of(exact, 0))

    def compare_prompt(self, prompt: Tensor, part: Part) -> None:
        """The prompt behind a context in which single slots decide what its tokens attend to."""
        engine, rows = self.engine, compared_rows(prompt.shape[0])
        plant = self._plant([self.depth], self.seed + 1)
        engine.prefill(prompt)
        length = min(prompt.shape[1], EXACT_TOKENS)
        end = self.depth + prompt.shape[1]
        eager = self.eager.stream(prompt[rows], self.depth, end)
        exact = self.exact.stream(prompt[:1, :length], self.depth, self.depth + length)
        chosen = [choice.view(*prompt.shape, -1)[rows] for choice in engine.choices]
        exact_chosen = [choice[0, :length] for choice in chosen]
        chosen = [choice.flatten(0, 1) for choice in chosen]
        for index, cache in enumerate(engine.caches):
            eager_cache = tuple(tensor[rows, :, :end].clone() for tensor in cache)
            written = [tensor[:, :, self.depth :].clone() for tensor in eager_cache]
            exact_cache = tuple(
                tensor[:1, :, : self.depth + length].to(self.exact.dtype) for tensor in eager_cache
            )
            eager.layer(index, eager_cache, chosen)
            exact.layer(index, exact_cache, exact_chosen)
            eager_slots, exact_slots = (
                [tensor[:, :, self.depth :] for tensor in tensors]
                for tensors in (eager_cache, exact_cache)
            )
            part.add_cache(index, written, eager_slots, exact_slots, slice(None))
        exact_last = logits_of(exact, length - 1) if length == prompt.shape[1] else None
        part.logits.add(engine.logits[rows], logits_of(eager, prompt.shape[1] - 1), exact_last)
        self._count_changed(plant, slice(self.depth, end))

    def _count_changed(self, plant: Plant, written: list[int] | slice) -> None:
        """Held against what was planted."""
        for index, cache in enumerate(self.engine.caches):
            planted = tuple(torch.empty_like(tensor) for tensor in cache)
            plant.fill(index, planted)
            for tensor, before in zip(cache, planted, strict=True):
                changed = (tensor != before).any(dim=3).any(dim=1)
                changed[:, written] = False
                self.changed += int(changed.sum())
