"""Sums over the threads of a program, of rows of a matrix that all its threads have a part of.

A sum over a warp's 32 lanes takes five shuffles. Of four rows at once two lanes need not exchange both
their parts of two rows: each sends the one that the other goes on with, and four lanes have a row each
in the end. That is three shuffles for four rows instead of eight, and three for what remains.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl


@jit
def _exchange(even, odd, LANE: tl.constexpr):
    """Of each two lanes that differ in the bit LANE, the sum of both parts: of even where it is 0, of odd
    where it is 1."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 l, s, k; .reg .pred p; mov.u32 l, %laneid; and.b32 l, l, $3; "
        "setp.ne.u32 p, l, 0; selp.b32 s, $1, $2, p; selp.b32 k, $2, $1, p; "
        "shfl.sync.bfly.b32 s, s, $3, 0x1f, 0xffffffff; add.f32 $0, k, s; }",
        "=f,r,r,r",
        [even.to(tl.uint32, bitcast=True), odd.to(tl.uint32, bitcast=True), LANE],
        dtype=tl.float32,
        is_pure=True,
        pack=1,
    )


@jit
def sum_threads(parts, EXCHANGED: tl.constexpr):
    """Parts [blocks, rows, 4 neighbouring lanes] -> [blocks, rows]. EXCHANGED: by the lanes' numbers, if
    no other dimension stands in the last two bits of these, and rows in none."""
    BLOCKS: tl.constexpr = parts.shape[0]
    ROWS: tl.constexpr = parts.shape[1]
    if EXCHANGED and ROWS % 4 == 0:
        fours = tl.permute(tl.reshape(parts, (BLOCKS, ROWS // 4, 2, 2, 4)), (0, 1, 4, 2, 3))
        even, odd = tl.split(fours)
        row0, row2 = tl.split(even)
        row1, row3 = tl.split(odd)
        sums = _exchange(_exchange(row0, row1, 1), _exchange(row2, row3, 1), 2)
        sums = tl.reshape(sums, (BLOCKS, ROWS))
    elif EXCHANGED and ROWS == 2:
        row0, row1 = tl.split(tl.permute(parts, (0, 2, 1)))
        sums = tl.sum(tl.reshape(_exchange(row0, row1, 1), (BLOCKS, 2, 2)), axis=1)
    else:
        sums = tl.sum(parts, axis=2)
    return sums


@jit
def sum_tiles(tiles, TILES: tl.constexpr):
    """Sums [blocks, rows] of 1, 2, 4 or 8 tiles -> [TILES * rows], tile after tile.

    All at once: if each tile were summed in its turn, the warps would wait for each other every time.
    """
    if TILES == 1:
        sums = tl.sum(tiles[0], axis=0)
    elif TILES == 2:
        sums = tl.permute(tl.sum(tl.join(tiles[0], tiles[1]), axis=0), (1, 0))
    elif TILES == 4:
        parts = tl.join(tl.join(tiles[0], tiles[2]), tl.join(tiles[1], tiles[3]))
        sums = tl.permute(tl.sum(parts, axis=0), (1, 2, 0))
    else:
        tl.static_assert(TILES == 8)
        even = tl.join(tl.join(tiles[0], tiles[4]), tl.join(tiles[2], tiles[6]))
        odd = tl.join(tl.join(tiles[1], tiles[5]), tl.join(tiles[3], tiles[7]))
        sums = tl.permute(tl.sum(tl.join(even, odd), axis=0), (1, 2, 3, 0))
    return tl.reshape(sums, (sums.numel,))
