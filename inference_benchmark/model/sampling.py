"""How the next token is chosen where not the most likely one is taken. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """
    temperature: logits are divided by it; over 0.
    top_k: only so many largest logits take part; None: all.
    seed: of the random numbers, which follow from it, from the sequence and from the position of the
        token: a step that is made again chooses the same.
    """

    temperature: float
    top_k: int | None
    seed: int
