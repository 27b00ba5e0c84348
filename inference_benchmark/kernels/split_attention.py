"""What the kernels share that attend to a context in parts: tiles, and how parts are combined.

A program runs over the tiles of its part with an online softmax; it leaves the normalised result of
its part and the log2 of the softmax's denominator, and the last program of a (sequence, KV head) to
arrive combines what all of them left.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, prefetch, tl
from inference_benchmark.kernels.arrivals import is_last


@jit
def _combine_partials(
    partial_ptr,  # [pairs, splits, GROUP, HEAD_DIM]
    lse_ptr,  # [pairs, splits, GROUP]
    out_ptr,  # [pairs, GROUP, HEAD_DIM]
    pair,
    active_splits,
    ROWS: tl.constexpr,
    SPLITS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    UNROLL: tl.constexpr,
):
    rows = tl.arange(0, ROWS)
    dims = tl.arange(0, HEAD_DIM)
    # Padding rows repeat the last one instead of being masked, which keeps NaN out of them.
    source_rows = tl.minimum(rows, GROUP - 1)
    running_max = tl.full([ROWS], float("-inf"), tl.float32)
    weight_sum = tl.zeros([ROWS], tl.float32)
    mean = tl.zeros([ROWS, HEAD_DIM], tl.float32)
    for first_split in range(0, active_splits, UNROLL):
        # Unrolled, not a tile with an axis of splits: sums over that axis would cross threads. And
        # a running mean, not a sum divided at the end: that would need the weights in two layouts.
        for offset in tl.static_range(UNROLL):
            split = first_split + offset
            active = split < active_splits
            index = (pair * SPLITS + split) * GROUP + source_rows
            # .cg: other multiprocessors wrote these; read them where they meet, in L2.
            lse = tl.load(lse_ptr + index, mask=active, other=float("-inf"), cache_modifier=".cg")
            partial = tl.load(
                partial_ptr + index[:, None] * HEAD_DIM + dims[None, :],
                mask=active,
                other=0.0,
                cache_modifier=".cg",
            )
            new_max = tl.maximum(running_max, lse)
            weight = tl.exp2(lse - new_max)
            weight_sum = weight_sum * tl.exp2(running_max - new_max) + weight
            mean += (partial - mean) * (weight / weight_sum)[:, None]
            running_max = new_max
    out_offsets = (pair * GROUP + rows)[:, None] * HEAD_DIM + dims[None, :]
    tl.store(out_ptr + out_offsets, mean.to(out_ptr.dtype.element_ty), rows[:, None] < GROUP)


@jit
def chunk_tokens(length, SPLITS: tl.constexpr, STEP_TOKENS: tl.constexpr):
    """Tokens per program: the filled part spread over all programs, in whole steps."""
    return tl.cdiv(tl.cdiv(length, SPLITS), STEP_TOKENS) * STEP_TOKENS


@jit
def load_tile(head_ptr, offsets, stride_t, start, filled, CACHE: tl.constexpr):
    """Keys or values of the tokens from start on, zero where none is filled: an unwritten slot may
    hold NaN, and 0 * NaN is NaN."""
    pointers = head_ptr + tl.cast(start, tl.int64) * stride_t + offsets
    return tl.load(pointers, mask=filled[:, None], other=0.0, cache_modifier=CACHE)


@jit
def prefetch_tiles(
    k_head_ptr,
    v_head_ptr,
    strides_t,
    begin,
    end,
    TILES: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
):
    """Send so many tiles of keys and values, of the tokens begin .. end - 1, on their way to L2."""
    lines = tl.arange(0, (HEAD_DIM + 63) // 64) * 64
    ahead = tl.minimum(end, begin + TILES * TILE_TOKENS)
    for start in range(begin, ahead, TILE_TOKENS):
        row = tl.minimum(start + tl.arange(0, TILE_TOKENS), end - 1).to(tl.int64)
        prefetch(k_head_ptr + row[:, None] * strides_t[0] + lines[None, :])
        prefetch(v_head_ptr + row[:, None] * strides_t[1] + lines[None, :])


@jit
def _attend_tile(q, k, v, filled, scale_log2, running_max, weight_sums, acc):
    """A tile, k and v [TILE_TOKENS, HEAD_DIM], joins the online softmax."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
    scores = tl.where(filled[None, :], scores, float("-inf"))
    new_max = tl.maximum(running_max, tl.max(scores, axis=1))
    decay = tl.exp2(running_max - new_max)
    weights = tl.exp2(scores - new_max[:, None])
    weight_sums = weight_sums * decay[:, None] + weights
    acc = tl.dot(weights.to(v.dtype), v, acc * decay[:, None], input_precision="ieee")
    return new_max, weight_sums, acc


@jit
def attend_tiles(
    q,  # [GROUP_PADDED, HEAD_DIM]
    k,  # [TILE_TOKENS, HEAD_DIM]: the tile at begin, where it is here already; else None
    v,
    k_head_ptr,
    v_head_ptr,
    k_offsets,  # [TILE_TOKENS, HEAD_DIM], of the elements of a tile
    v_offsets,
    k_stride_t,
    v_stride_t,
    begin,
    end,
    scale_log2,
    running_max,
    GROUP_PADDED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
):
    """The tokens begin .. end - 1 join the online softmax, a tile at a time: its maximum, the sum of
    its weights and the weighted sum of the values. With the first tile here, all are in registers, the
    next one on its way while one joins; else the compiler makes a pipeline of them."""
    tokens = tl.arange(0, TILE_TOKENS)
    # The sum over a tile's columns crosses warps, so it is taken once, after the loop.
    weight_sums = tl.zeros([GROUP_PADDED, TILE_TOKENS], tl.float32)
    acc = tl.zeros([GROUP_PADDED, HEAD_DIM], tl.float32)
    for start in range(begin, end, TILE_TOKENS):
        if k is None:
            filled = start + tokens < end
            tile_k = load_tile(k_head_ptr, k_offsets, k_stride_t, start, filled, "")
            tile_v = load_tile(v_head_ptr, v_offsets, v_stride_t, start, filled, "")
        else:
            tile_k, tile_v = k, v
            following = start + TILE_TOKENS
            are_filled = following + tokens < end
            k = load_tile(k_head_ptr, k_offsets, k_stride_t, following, are_filled, "")
            v = load_tile(v_head_ptr, v_offsets, v_stride_t, following, are_filled, "")
            filled = start + tokens < end
        running_max, weight_sums, acc = _attend_tile(
            q, tile_k, tile_v, filled, scale_log2, running_max, weight_sums, acc
        )
    return running_max, tl.sum(weight_sums, axis=1), acc


@jit
def leave_result(
    acc,  # [GROUP_PADDED, HEAD_DIM], the weighted sum of values
    running_max,
    weight_sum,
    out_ptr,  # [pairs, GROUP, HEAD_DIM]
    partial_ptr,  # [pairs, SPLITS, GROUP, HEAD_DIM]
    lse_ptr,  # [pairs, SPLITS, GROUP]
    arrivals_ptr,  # [pairs]
    pair,
    split,
    active_splits,
    SPLITS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_PADDED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    COMBINE_ROWS: tl.constexpr,
    COMBINE_UNROLL: tl.constexpr,
):
    """A program's result: the output, or a part that the last program of the pair combines."""
    rows = tl.arange(0, GROUP_PADDED)
    dims = tl.arange(0, HEAD_DIM)
    is_head = rows < GROUP
    result = acc / weight_sum[:, None]
    if SPLITS == 1:
        out_offsets = (pair * GROUP + rows)[:, None] * HEAD_DIM + dims[None, :]
        tl.store(out_ptr + out_offsets, result.to(out_ptr.dtype.element_ty), is_head[:, None])
    else:
        index = (pair * SPLITS + split) * GROUP + rows
        partial_offsets = index[:, None] * HEAD_DIM + dims[None, :]
        tl.store(partial_ptr + partial_offsets, result, is_head[:, None])
        tl.store(lse_ptr + index, running_max + tl.log2(weight_sum), is_head)
        if is_last(arrivals_ptr + pair, active_splits):
            _combine_partials(
                partial_ptr,
                lse_ptr,
                out_ptr,
                pair,
                active_splits,
                COMBINE_ROWS,
                SPLITS,
                GROUP,
                HEAD_DIM,
                COMBINE_UNROLL,
            )
