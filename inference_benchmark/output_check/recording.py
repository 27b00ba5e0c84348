"""Drive an engine step by step and keep what each step leaves, to be compared afterwards.

What can be told at once is told at once: whether the chosen token is the best of the step's own
logits, whether it stands in the buffer where it belongs, and whether the position advanced. These
are exact, in every number format.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from inference_benchmark.output_check.choice import wrong_choices
from inference_benchmark.output_check.memory import KEPT_LOGIT_BYTES


class Recording:
    """One sequence of steps of an engine from `start` on, with what went in and came out.

    `tokens` [batch, fed] went in; `logits` holds those of the positions for which keeps(position);
    `choices` of each mixture the experts [batch, fed, k].
    """

    def __init__(
        self, engine, keeps: Callable[[int], bool] = lambda position: True, start: int = 0
    ) -> None:
        self._engine = engine
        self._keeps = keeps
        self._fed: list[Tensor] = []
        self._choices: list[list[Tensor]] = []
        self.logits: dict[int, Tensor] = {}
        self._wrong_choices = torch.zeros((), dtype=torch.int64, device=engine.token.device)
        self._lost_tokens = self._wrong_choices.clone()
        self._wrong_positions = self._wrong_choices.clone()
        self.length = start  # of the context, what was there before included

    @property
    def tokens(self) -> Tensor:
        return torch.cat(self._fed, dim=1)

    @property
    def choices(self) -> list[Tensor]:
        return [torch.cat(steps, dim=1) for steps in self._choices]

    def prefill(self, prompt: Tensor) -> None:
        self._engine.prefill(prompt)
        self._keep(prompt)

    def force(self, token: Tensor) -> None:
        """One step that takes this token [batch, 1]."""
        self._engine.force(token, self.length)
        self._engine.decode()
        self._keep(token)

    def choose(self) -> None:
        """One step that takes the token that the engine chose."""
        token = self._engine.token.clone()
        self._engine.decode()
        self._keep(token)

    def _keep(self, fed: Tensor) -> None:
        engine = self._engine
        batch, count = fed.shape
        self._fed.append(fed)
        self.length += count
        if self._keeps(self.length - 1):
            self.logits[self.length - 1] = engine.logits.clone()
        for number, choice in enumerate(engine.choices):
            if number == len(self._choices):
                self._choices.append([])
            self._choices[number].append(choice.clone().view(batch, count, -1))
        self._wrong_choices += wrong_choices(
            engine.logits, engine.token, engine.plan.sampling, engine.position
        )
        self._lost_tokens += (engine.tokens[:, self.length : self.length + 1] != engine.token).sum()
        self._wrong_positions += (engine.position != self.length).sum()

    def failures(self) -> list[str]:
        counts = {
            "tokens chosen are not those of their own logits": self._wrong_choices,
            "tokens are not in the buffer": self._lost_tokens,
            "steps ended at a wrong position": self._wrong_positions,
        }
        return [f"{int(count)} {fault}" for fault, count in counts.items() if int(count)]


def evenly(count: int, batch: int, vocab_size: int, value_bytes: int) -> int:
    """Keep the logits of every n-th of so many steps: n."""
    fitting = max(2, KEPT_LOGIT_BYTES // (batch * vocab_size * value_bytes))
    return max(1, -(-count // fitting))
