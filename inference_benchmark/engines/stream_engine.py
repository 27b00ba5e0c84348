"""What all engines share that bring their own loop: prompts go in, tokens and their times come out.

An engine of another project chooses, caches and feeds back by itself, so all we see is when it had
which token. `generate` returns both; `run`, which the workload calls, keeps conversions and checks
out of the timed span. Ids go in and out, so no tokenizer takes part. The choice is greedy, the end of
sequence is ignored, no prefix of an earlier prompt may be reused.

To add one: a subclass with `generate`, its `capabilities`, and what it can say about itself in
`facts`; an entry in the table of engines/__init__.py. An engine in a process of its own builds on
`WorkerEngine` (worker_engine.py).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from inference_benchmark.engines.base import Capabilities, Engine

TokenIds = list[list[int]]  # [sequences][tokens]


@dataclass(frozen=True)
class Stream:
    """What one call of `generate` gave.

    tokens: [batch][output_length], the ids that were chosen.
    token_times_s: seconds from the start of the call until this process (or the engine's worker) had
        the k-th token of every sequence, for each k. An engine of granularity "total" has one entry:
        when the last token was there.
    """

    tokens: TokenIds
    token_times_s: list[float]


class WrongCount(RuntimeError):
    """An engine made another number of tokens than it was asked for."""


class StreamEngine(Engine):
    """Generates by a loop of its own; the wall clock times it.

    `newest` is what the last run left, with the prompts it was given.
    """

    capabilities = Capabilities(
        clock="wall",
        granularity="stream",
        capturable=False,
        evidence=frozenset({"tokens"}),
        owns_weights=True,
        takes_weights=True,
        steps=frozenset({"generate"}),
    )
    newest: Stream | None = None
    # Of how many sequences logits may be asked for; None: of any number.
    most_logit_sequences: ClassVar[int | None] = None

    @abstractmethod
    def generate(self, prompts: TokenIds, output_length: int) -> Stream:
        """output_length tokens after each prompt, greedily, whatever they are."""

    def logits_of(self, prompts: TokenIds, forced: TokenIds) -> Tensor:
        """Logits [sequences, 1 + forced tokens, vocab] after each prompt and after each of the
        tokens [sequences][tokens] that follow it, whatever the engine would have chosen; on any
        device. For engines with "logits" in their evidence."""
        raise NotImplementedError

    def facts(self) -> dict:
        """Version, arguments, backend, precision of the KV cache, scheduling: for the result file."""
        return {}

    def compiler_stats(self) -> dict:
        return self.facts()

    def reported_memory(self) -> dict[str, int]:
        """What the engine itself says of its memory, in bytes by name: pools that it reserved stand
        apart there from what the driver counts."""
        return {}

    def run(self, input_ids: Tensor, output_length: int) -> Stream:
        """One run over prompts [batch, input_length].

        Raises:
            WrongCount: not every sequence got output_length tokens, or not every token has a time.
        """
        prompts = input_ids.tolist()
        stream = self.generate(prompts, output_length)
        self._check_counts(stream, len(prompts), output_length)
        self.newest = stream
        return stream

    def _check_counts(self, stream: Stream, batch_size: int, output_length: int) -> None:
        counts = [len(tokens) for tokens in stream.tokens]
        if counts != [output_length] * batch_size:
            raise WrongCount(
                f"{output_length} tokens were asked for of each of {batch_size} sequences, the engine "
                f"made {_shown(counts)}"
            )
        expected = 1 if self.capabilities.granularity == "total" else output_length
        times_s = stream.token_times_s
        if len(times_s) != expected or sorted(times_s) != list(times_s) or min(times_s) < 0:
            raise WrongCount(f"{len(times_s)} ascending times were given, {expected} are needed")


def _shown(counts: Sequence[int]) -> str:
    return str(counts) if len(counts) <= 8 else f"{counts[:8]} ..."
