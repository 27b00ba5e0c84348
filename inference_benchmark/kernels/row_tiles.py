"""How kernels for one row read weights, each once: a few whole rows of a matrix, a tile of columns at a
time, or two such tiles, of rows that go in pairs, which the same part of x is multiplied by.

Whoever reads the last row again, where the matrix has no more, needs no mask for rows: rows_at [rows,
columns] then points to the columns of the rows' first tiles. With inside_rows [rows, 1], those that the
matrix has, rows_at [rows, 1] points to where the rows begin. Of pairs there are two of it, as of tiles and
of sums, which are [rows, columns].
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl


@jit
def load_tile(
    rows_at, inside_rows, start, columns, IN_FEATURES: tl.constexpr, COLUMNS: tl.constexpr
):
    """The columns from start on; zero beyond the last one and the matrix's last row."""
    if inside_rows is not None:
        numbers = start + columns[None, :]
        inside = inside_rows & (numbers < IN_FEATURES)
        tile = tl.load(rows_at + numbers, mask=inside, other=0.0, eviction_policy="evict_first")
    elif IN_FEATURES % COLUMNS == 0:
        tile = tl.load(rows_at + start, eviction_policy="evict_first")
    else:
        inside = (start + columns < IN_FEATURES)[None, :]
        tile = tl.load(rows_at + start, mask=inside, other=0.0, eviction_policy="evict_first")
    return tile


@jit
def load_pair(
    rows_at, inside_rows, start, columns, IN_FEATURES: tl.constexpr, COLUMNS: tl.constexpr
):
    first = load_tile(rows_at[0], inside_rows, start, columns, IN_FEATURES, COLUMNS)
    second = load_tile(rows_at[1], inside_rows, start, columns, IN_FEATURES, COLUMNS)
    return first, second


@jit
def load_x(x_ptr, start, columns, IN_FEATURES: tl.constexpr):
    """What the columns from start on are multiplied by."""
    return tl.load(x_ptr + start + columns, mask=start + columns < IN_FEATURES, other=0.0)


@jit
def add_pair(sums, tiles, x):
    x = x.to(tl.float32)[None, :]
    return sums[0] + tiles[0].to(tl.float32) * x, sums[1] + tiles[1].to(tl.float32) * x


@jit
def sum_pairs(
    tiles, rows_at, inside_rows, columns, x_ptr, share,
    IN_FEATURES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The sums of all columns, of which the first tiles are here. share: what x is multiplied by, and
    rounded, before; or None."""
    zeros = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    sums = zeros, zeros
    for start in tl.static_range(0, IN_FEATURES, COLUMNS):
        x = load_x(x_ptr, start, columns, IN_FEATURES)
        if share is not None:
            x = (x.to(tl.float32) * share).to(x.dtype)
        sums = add_pair(sums, tiles, x)
        if start + COLUMNS < IN_FEATURES:
            tiles = load_pair(rows_at, inside_rows, start + COLUMNS, columns, IN_FEATURES, COLUMNS)
    return sums
