"""Choosing the next token at random, as part of a step: nothing waits for the host.

A race decides: token i, of probability p_i, arrives after a time that is exponentially distributed
with rate p_i, and the first to arrive is chosen, which happens with probability p_i. So with
independent standard exponential numbers E_i the choice is argmax(log p_i - log E_i), and log p_i may
be off by a constant: logits over the temperature will do. No sum, no sorting, no multinomial.

The numbers E_i are a hash of (seed, step, sequence, token): a function without hidden state, which
any compiler takes and a CUDA graph may hold. Every engine draws the same number for the same token,
so that two engines with the same logits choose the same tokens, and a choice can be looked at later.
"""

import torch
from torch import Tensor

_LOW_32 = 0xFFFFFFFF


def sampler_state(seed: int, device: torch.device | str = "cpu") -> Tensor:
    """[2], int64: the seed of a run, and the number of the step, from 0. Whoever samples adds one
    to the latter after each step, in place: on a GPU it stays there."""
    return torch.tensor([seed, 0], dtype=torch.int64, device=device)


def advantages(
    logits: Tensor, temperature: float, state: Tensor, sequences: Tensor | None = None
) -> Tensor:
    """What decides between the tokens of logits [batch, vocab], in units of logits over the
    temperature: of those that take part the largest is drawn. For whoever looks at a choice later.

    sequences: [batch], int64, which of a batch's sequences the rows are; None: all of them.
    """
    tokens = torch.arange(logits.shape[-1], device=logits.device).unsqueeze(0)
    return _advantage(logits, tokens, temperature, state, sequences)


def sample(logits: Tensor, temperature: float, top_k: int | None, state: Tensor) -> Tensor:
    """
    Args:
        logits: [batch, vocab].
        temperature: what logits are divided by; 0 means the largest one is chosen.
        top_k: only so many largest logits take part; None: all of them.
        state: [2], as sampler_state makes it; not changed here.

    Returns:
        [batch, 1], int64: one token of each sequence, drawn independently.
    """
    if temperature == 0:
        return torch.argmax(logits, dim=-1, keepdim=True)
    if top_k is None or top_k >= logits.shape[-1]:
        return torch.argmax(advantages(logits, temperature, state), dim=-1, keepdim=True)
    largest, tokens = torch.topk(logits, top_k, dim=-1)
    winner = torch.argmax(_advantage(largest, tokens, temperature, state), dim=-1, keepdim=True)
    return torch.gather(tokens, 1, winner)


def _advantage(
    logits: Tensor,
    tokens: Tensor,
    temperature: float,
    state: Tensor,
    sequences: Tensor | None = None,
) -> Tensor:
    """logits [batch, n] of tokens [batch or 1, n] -> [batch, n], the largest of which wins."""
    if sequences is None:
        sequences = torch.arange(logits.shape[0], device=logits.device)
    times = _exponential(_hash(state, sequences.unsqueeze(1), tokens))
    return logits.float() / temperature - torch.log(times)


def _hash(state: Tensor, sequences: Tensor, tokens: Tensor) -> Tensor:
    """[batch, n], int64: 32 random bits each."""
    seed, step = state[0], state[1]
    row = _mix(_mix(_mix(seed) ^ (step & _LOW_32)) ^ sequences)
    return _mix(_mix(tokens ^ row) + _mix(row + 1))


def _mix(x: Tensor) -> Tensor:
    """MurmurHash3's last step on 32 bits: each bit of x changes about half of the result's."""
    x = x & _LOW_32
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _LOW_32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _LOW_32
    return x ^ (x >> 16)


def _exponential(bits: Tensor) -> Tensor:
    """Exponentially distributed fp32 numbers, finest where they are small, which is where races are
    decided: never 0, infinite for the largest few."""
    uniform = (bits.float() + 0.5) * 2.0**-32
    return -torch.log1p(-uniform)
