"""Whether a token is the one that its logits, or the reference's, decide for.

The most likely token is the largest logit. A drawn one is decided by random numbers that follow from
the seed, the sequence and the position (model/sampler.py), so that a choice can be made again at any
time: it is the largest of the logits after these numbers were added, among the top k. Either way a
choice has a shortfall, by how much its logit would have to be larger to be chosen; rounding explains
a small one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inference_benchmark.model.sampler import advantages
from inference_benchmark.model.sampling import Sampling

# Of random numbers that two compilers compute, in logits over the temperature.
_NOISE_ROUNDING = 1e-4


@dataclass(frozen=True)
class Deciding:
    """Of logits [sequences, vocab]: the shortfall of each chosen token, and how far the second best
    is from the best, both in logits [sequences]."""

    shortfall: Tensor
    margin: Tensor


def decide(
    sampling: Sampling | None,
    logits: Tensor,
    tokens: Tensor,
    position: Tensor | int,
    sequences: Tensor | None = None,
    slack: Tensor | float = 0.0,
) -> Deciding:
    """
    Args:
        logits: [sequences, vocab].
        tokens: [sequences], the choices.
        position: where these tokens stand.
        sequences: [sequences], which of the batch the rows are; None: all of them.
        slack: by so much, in logits, a token may miss the k largest, or be missing among them.
    """
    logits = logits.float()
    chosen = tokens[:, None]
    if sampling is None:
        best, second = logits.topk(2, dim=-1).values.unbind(-1)
        return Deciding(best - logits.gather(-1, chosen)[:, 0], best - second)
    at = torch.as_tensor(position, device=logits.device).reshape(1)
    state = torch.cat((torch.full_like(at, sampling.seed), at))
    scores = advantages(logits, sampling.temperature, state, sequences) * sampling.temperature
    of_chosen = scores.gather(-1, chosen)[:, 0]
    missing = torch.zeros_like(of_chosen)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        missing = (least - slack)[:, 0] - logits.gather(-1, chosen)[:, 0]
        scores = scores.masked_fill(logits < least + slack, float("-inf"))
    best, second = scores.topk(2, dim=-1).values.unbind(-1)
    shortfall = torch.where(missing > 0, torch.inf, best - of_chosen).clamp(min=0.0)
    return Deciding(shortfall, (best - second).nan_to_num(posinf=torch.inf))


def decide_steps(
    sampling: Sampling | None,
    logits: Tensor,
    tokens: Tensor,
    first_position: int,
    sequences: Tensor,
    slack: Tensor,
) -> Deciding:
    """The same for logits [sequences, steps, vocab] before tokens [sequences, steps], the first of
    which stand at first_position; slack and what is returned are [sequences, steps]."""
    if sampling is None:
        deciding = decide(None, logits.flatten(0, 1), tokens.flatten(), first_position)
        return Deciding(deciding.shortfall.view(tokens.shape), deciding.margin.view(tokens.shape))
    steps = [
        decide(
            sampling,
            logits[:, step],
            tokens[:, step],
            first_position + step,
            sequences,
            slack[:, step, None],
        )
        for step in range(tokens.shape[1])
    ]
    return Deciding(
        torch.stack([step.shortfall for step in steps], dim=1),
        torch.stack([step.margin for step in steps], dim=1),
    )


def wrong_choices(
    logits: Tensor, token: Tensor, sampling: Sampling | None, position: Tensor
) -> Tensor:
    """How many of the tokens [batch, 1] are not what the step's own logits [batch, vocab] decide for.

    Rounding the logits after the choice changes no order, so of the most likely token this is exact;
    a drawn one may have been drawn with logits that were rounded later.
    """
    token = token.clamp(0, logits.shape[-1] - 1)
    if sampling is None:
        chosen = logits.gather(-1, token)
        return (~(chosen >= logits.amax(dim=-1, keepdim=True))).sum()
    rounding = torch.finfo(logits.dtype).eps * logits.float().abs().amax()
    slack = rounding + _NOISE_ROUNDING * sampling.temperature
    deciding = decide(sampling, logits, token[:, 0], position, slack=slack)
    return (~(deciding.shortfall <= 2 * slack)).sum()
