"""What quantised weights cost in accuracy: how far the model still is itself.

The check of engines says that a kernel computes what the stored weights say. Here the stored weights
are held against the ones that they were made of: both models read the same tokens, and their
next-token distributions are compared. It happens layer by layer, while the weights are stored, so
that the original need not be kept for it.

Random weights make a hard case: nothing in them is redundant, and no distribution is sharp.
"""

import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from inference_benchmark.model.quantized import FormatDecoders
from inference_benchmark.output_check.reference import Reference, Stream

TOKENS = 512
_POSITIONS_AT_A_TIME = 32


def random_text(vocab_size: int, seed: int, most_tokens: int) -> Tensor:
    """Tokens for a model whose weights know no text."""
    generator = torch.Generator().manual_seed(seed * 13 + 3)
    return torch.randint(vocab_size, (min(TOKENS, most_tokens),), generator=generator)


class Accuracy:
    """Takes tokens through a model and its quantised siblings; call it with each layer's number.

    tokens: [count], which the model has positions for.
    """

    def __init__(self, decoders: FormatDecoders, tokens: Tensor) -> None:
        base = decoders.base
        self._tokens = tokens[None].to(base.norm.weight.device)
        self._base = Reference(base)
        self._formats = {
            name: Reference(decoder, linear="torch") for name, decoder in decoders.decoders.items()
        }
        self._streams: dict[str | None, Stream] = {}
        self._seconds = 0.0

    @torch.inference_mode()
    def __call__(self, index: int) -> None:
        """To be told of each layer in turn, once all decoders have it."""
        started = time.perf_counter()
        if not self._streams:  # the embedding table is there by now
            references: Mapping = {None: self._base, **self._formats}
            self._streams = {
                name: reference.stream(self._tokens) for name, reference in references.items()
            }
        for name, stream in self._streams.items():
            reference = self._base if name is None else self._formats[name]
            stream.layer(index, reference.empty_cache(index, 1, self._tokens.shape[1]))
        self._seconds += time.perf_counter() - started

    @torch.inference_mode()
    def findings(self) -> dict[str, dict]:
        """Of each precision, once the last layer and the head are there:

        {"tokens", "kl_mean", "kl_max", "top1_agreement", "perplexity_ratio", "seconds"}; KL
        divergences are from the model's own distribution, in nats per token.
        """
        return {name: self._compare(name) for name in self._formats}

    def _compare(self, name: str) -> dict:
        started = time.perf_counter()
        count = self._tokens.shape[1]
        kl, agreed, surprise = [], [], []
        for first in range(0, count, _POSITIONS_AT_A_TIME):
            positions = range(first, min(first + _POSITIONS_AT_A_TIME, count))
            unquantized, other = (
                self._log_probabilities(format_name, positions) for format_name in (None, name)
            )
            kl.append((unquantized.exp() * (unquantized - other)).sum(dim=-1))
            agreed.append(unquantized.argmax(dim=-1) == other.argmax(dim=-1))
            surprise.append(
                self._surprise(unquantized, positions) - self._surprise(other, positions)
            )
        divergence = torch.cat(kl).clamp(min=0.0)  # rounding alone puts some below
        return {
            "tokens": count,
            "kl_mean": float(divergence.mean()),
            "kl_max": float(divergence.max()),
            "top1_agreement": float(torch.cat(agreed).double().mean()),
            "perplexity_ratio": math.exp(float(torch.cat(surprise).mean())) if count > 1 else None,
            "seconds": self._seconds / len(self._formats) + time.perf_counter() - started,
        }

    def _log_probabilities(self, name: str | None, positions: range) -> Tensor:
        """[positions, vocab], fp32."""
        parts = [logits[0] for _, logits in self._streams[name].logits(positions)]
        return torch.log_softmax(torch.cat(parts).float(), dim=-1)

    def _surprise(self, log_probabilities: Tensor, positions: range) -> Tensor:
        """Log probability of each next token of the text; the last one has none."""
        following = self._tokens[0, positions.start + 1 : positions.stop + 1]
        return log_probabilities[: len(following)].gather(-1, following[:, None])[:, 0]
