"""What the reference holds on the device beside the engine, for the prediction of memory."""

from inference_benchmark.model.config import ModelConfig, Precision

# The logits that are kept of an engine's steps.
KEPT_LOGIT_BYTES = 256_000_000
# Logits of the reference that exist at a time, in values: in their own type, and a few times in
# fp32 while they are compared.
LOGITS_AT_A_TIME = 64_000_000
_LOGIT_BYTES = 2 + 3 * 4
_WIDE_BYTES = 4
_MASKED_TOKENS = 2112  # at most, that go through the exact forward at a time


def sequences_at_a_time(batch: int, input_length: int, length: int) -> int:
    """Sequences of this length that go through the reference at a time: no more tokens than a
    prefill of the engine has, or one sequence."""
    return max(1, batch * input_length // length)


def replay_bytes(
    config: ModelConfig,
    precision: Precision,
    batch: int,
    input_length: int,
    output_length: int,
    context_depth: int = 0,
) -> int:
    """The most that the check holds at a time: activations of its sequences, the cache of one layer,
    logits, and one sequence and one matrix in the wider type.

    config: what one rank holds. context_depth: filled slots before the prompt; these are there as
    they were before, as the reference has them, and for some sequences in the wider type, and a
    mask says which of them each token of one sequence may see.
    """
    length = input_length + output_length
    sequences = sequences_at_a_time(batch, input_length, length)
    if config.is_foreign:
        return config.check_bytes(precision, sequences * length)
    kinds = config.layer_kinds
    values = 4 * config.hidden_size + config.widest_activation_values()
    cache = max(layer.attention.cache_values_per_token() for layer in kinds)
    tokens = sequences * length
    narrow = tokens * ((values + cache) * precision.base_bytes + 4 * cache * _WIDE_BYTES)
    exact = length * (values + cache) * _WIDE_BYTES
    matrix = max(_largest_matrix(config), config.head_parameters) * _WIDE_BYTES
    vocabulary = config.vocab_size * batch * (precision.base_bytes + 3 * 4)
    logits = max(LOGITS_AT_A_TIME * _LOGIT_BYTES, vocabulary)
    kept = max(KEPT_LOGIT_BYTES, 2 * config.vocab_size * batch * precision.base_bytes)
    in_front = context_depth * batch * cache * (2 * precision.base_bytes + _WIDE_BYTES)
    masks = context_depth * min(length, _MASKED_TOKENS) * 2 * _WIDE_BYTES
    return narrow + exact + matrix + logits + kept + in_front + masks


def _largest_matrix(config: ModelConfig) -> int:
    """Weights of the largest single matrix of any layer; of a mixture one expert's at a time."""
    return max(
        matrix.rows * matrix.columns
        for layer in config.layer_kinds
        for part in (layer.attention, layer.feed_forward)
        for matrix in part.matrices(config.hidden_size)
    )
