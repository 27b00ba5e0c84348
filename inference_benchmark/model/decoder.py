"""The decoder: weights in modules, computation in pure functions that a mode may compile.

A forward is `begin` (embedding, RoPE rows, mask), one function per layer and `finish` (norm, head,
greedy choice), all in functions.py. A layer is made of an attention and a feed-forward part
(part_modules.py). All equal layers share one pure function of their tensors, so a compiler that
compiles or traces a layer once serves all of them. A layer takes the residual stream and the previous
layer's update, which is not yet summed over the ranks, nor added to the stream: both then stand before
the norm that reads the result, and can be fused with it by a compiler that sees one layer only.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from inference_benchmark.model.cache import LayerCache
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.functions import make_begin, make_finish, make_finish_all, make_layer
from inference_benchmark.model.kernel_choice import KernelConfig, needs_mask
from inference_benchmark.model.part_modules import file_of, weight_shards
from inference_benchmark.model.parts import Attention, FeedForward, LayerConfig
from inference_benchmark.model.rope import rope_tables
from inference_benchmark.model.sampling import Sampling
from inference_benchmark.model.weight_format import WeightFormat
from inference_benchmark.parallel.sharding import Shard, WeightShards

Transform = Callable[[Callable], Callable]
LayerTransform = Callable[["DecoderLayer", Callable], Callable]


class DecoderLayer(nn.Module):
    """One layer's weights; those that read the same input are fused into one matrix."""

    def __init__(self, config: LayerConfig, hidden_size: int, norm_eps: float) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(hidden_size, norm_eps)
        self._attention = self._add(config.attention, hidden_size)
        self.post_attention_layernorm = nn.RMSNorm(hidden_size, norm_eps)
        self._feed_forward = self._add(config.feed_forward, hidden_size)

    def _add(self, part: Attention | FeedForward, hidden_size: int) -> tuple[str, ...]:
        modules = file_of(part).modules(part, hidden_size)
        for name, module in modules.items():
            self.add_module(name, module)
        return tuple(modules)

    def weights(self) -> tuple:
        """(norms, attention weights, feed-forward weights), as the layer function takes them."""
        return (
            (self.input_layernorm.weight, self.post_attention_layernorm.weight),
            tuple([getattr(self, name).weight for name in self._attention]),
            tuple([getattr(self, name).weight for name in self._feed_forward]),
        )


class Decoder(nn.Module):
    """All weights of a model, or one rank's share, with RoPE tables for context_length positions.

    `config` is that of the share, `shards` says which part of a module's weight it keeps,
    `weight_format` how the layers' matrices are stored, `head_format` the head's.
    """

    def __init__(
        self,
        full_config: ModelConfig,
        shard: Shard | None = None,
        weight_format: WeightFormat | None = None,
    ) -> None:
        super().__init__()
        shard = shard or Shard()
        self.config = config = full_config.sharded(shard.size)
        self.shards: WeightShards = weight_shards(full_config, shard)
        self.weight_format = weight_format
        self.head_format: WeightFormat | None = None
        # Weights are filled in later. nn.Embedding would draw some now, for which PyTorch loads all
        # of torch._dynamo on the meta device: more than a second.
        table = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=table)
        self.layers = nn.ModuleList(
            DecoderLayer(layer, config.hidden_size, config.norm_eps) for layer in config.layers
        )
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        head_rows = config.vocab_size // config.tensor_parallel
        self.lm_head = nn.Linear(config.hidden_size, head_rows, bias=False)
        self.tie_head()

    def tie_head(self) -> None:
        """Where the head is the embedding table, let it be the same memory, or this rank's rows."""
        if not self.config.tied_embeddings:
            return
        table, shard = self.embed_tokens.weight, self.shards.get("lm_head")
        if shard is not None:
            (rows,) = shard.ranges
            table = nn.Parameter(table.detach()[rows.start : rows.start + rows.count], False)
        self.lm_head.weight = table

    def prefix(self, num_layers: int) -> "Decoder":
        """The model that ends after its first num_layers layers: these very modules and tables, so
        that it takes no memory of its own. To be made once the RoPE tables are there."""
        prefix = Decoder.__new__(Decoder)
        nn.Module.__init__(prefix)
        prefix.config = self.config.with_layers(num_layers)
        prefix.shards = self.shards
        prefix.weight_format, prefix.head_format = self.weight_format, self.head_format
        prefix.embed_tokens = self.embed_tokens
        prefix.layers = self.layers[:num_layers]
        prefix.norm = self.norm
        prefix.lm_head = self.lm_head
        prefix.register_buffer("rope_cos", self.rope_cos, persistent=False)
        prefix.register_buffer("rope_sin", self.rope_sin, persistent=False)
        return prefix.eval()

    def set_context_length(self, length: int) -> None:
        """(Re)build the RoPE tables [length, rope_dim] in the weights' dtype and on their device."""
        weight, config = self.norm.weight, self.config
        tables = rope_tables(config.rope, config.rope_dim, length, weight.dtype, weight.device)
        self.register_buffer("rope_cos", tables[0], persistent=False)
        self.register_buffer("rope_sin", tables[1], persistent=False)


class Forward(nn.Module):
    """One forward over a prompt or a single token: (logits of the last position, next token).

    A model with mixtures of experts also returns what each of them chose, layer by layer.

    Args:
        decoder: the weights.
        kernels: what computes attention, linear layers and experts, in those layers that can; the
            others use plain PyTorch.
        transform: applied once to each distinct pure function, say torch.compile.
        layer_transform: applied to each layer and its function instead, where a compiler has to
            own the layer's weights.
        all_positions: whether it returns the logits of all positions and no next token.
        sampling: how the next token is drawn; None: the most likely one is taken.
        context_depth: filled slots of the cache that a prompt stands behind and attends to.
    """

    def __init__(
        self,
        decoder: Decoder,
        kernels: KernelConfig,
        transform: Transform | None = None,
        layer_transform: LayerTransform | None = None,
        all_positions: bool = False,
        sampling: Sampling | None = None,
        context_depth: int = 0,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        transform = transform or (lambda function: function)
        config = decoder.config
        uses_mask = any(needs_mask(layer.attention, kernels) for layer in config.layer_kinds)
        self.begin = transform(make_begin(uses_mask, context_depth))
        functions = {
            layer: make_layer(layer, config.norm_eps, kernels, decoder.weight_format, context_depth)
            for layer in config.layer_kinds
        }
        if layer_transform is None:
            functions = {layer: transform(function) for layer, function in functions.items()}
            self.layer_functions = [functions[layer] for layer in config.layers]
        else:
            self.layer_functions = [
                layer_transform(module, functions[layer])
                for module, layer in zip(decoder.layers, config.layers, strict=True)
            ]
        head = (config.norm_eps, kernels.linear, kernels.all_reduce, config.tensor_parallel)
        head = (*head, decoder.head_format)
        finish = make_finish_all(*head) if all_positions else make_finish(*head, sampling)
        self.finish = transform(finish)
        self._samples = sampling is not None

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        caches: list[LayerCache] | None,
        chosen: list[Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """
        Args:
            tokens: [batch, length], int64: a prompt from position context_depth on, or one token
                per sequence.
            position: [1], int64: where a single token stands; ignored for a prompt.
            caches: one tuple of tensors per layer, updated in place; None: a prompt that leaves
                nothing behind.
            chosen: experts that each mixture has to use, as another forward returned them.

        Returns:
            logits [batch, vocab] of the last position, the next token [batch, 1] (with
            all_positions: logits [batch, length, vocab] alone), and for each mixture of experts its
            own choice [batch * length, experts per token].
        """
        decoder = self.decoder
        residual, update, cos, sin, mask = self.begin(
            tokens,
            position,
            None if caches is None else caches[0][0],
            decoder.embed_tokens.weight,
            decoder.rope_cos,
            decoder.rope_sin,
        )
        choices: list[Tensor] = []
        layer_caches = [()] * len(decoder.layers) if caches is None else caches
        layers: Iterable = zip(decoder.layers, self.layer_functions, layer_caches, strict=True)
        for layer, function, cache in layers:
            weights = layer.weights()
            # A dense layer gets the next mixture's choice, if any, and ignores it.
            replayed = (chosen or [])[len(choices) : len(choices) + 1]
            update, residual, *choice = function(
                update, residual, cos, sin, position, mask, weights, cache, *replayed
            )
            choices += choice
        drawn = (position,) if self._samples else ()
        head = self.finish(update, residual, decoder.norm.weight, decoder.lm_head.weight, *drawn)
        return (*head, *choices)


class DecodeStep(nn.Module):
    """The whole of a decode step: a forward, and what it leaves for the next step, in place.

    (token [batch, 1], position [1], tokens [batch, slots], caches) -> (logits, *choices).
    """

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.run_forward = forward

    def forward(self, token, position, tokens, caches) -> tuple[Tensor, ...]:
        logits, chosen_token, *choices = self.run_forward(token, position, caches)
        token.copy_(chosen_token)
        position.add_(1)
        tokens.index_copy_(1, position, token)
        return (logits, *choices)
