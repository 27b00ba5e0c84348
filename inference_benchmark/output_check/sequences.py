"""Which sequences of a large batch are compared before the timing.

The replay of the timed runs looks at all of them; before the timing, where the reference goes
through many steps, a few from all over the batch stand for the others.
"""

_MOST_SEQUENCES = 16
_BLOCK = 4


def compared_blocks(batch: int) -> list[slice]:
    """Of a large batch blocks of sequences, the first and the last among them; else none."""
    if batch <= _MOST_SEQUENCES:
        return []
    count = _MOST_SEQUENCES // _BLOCK
    starts = [number * (batch - _BLOCK) // (count - 1) for number in range(count)]
    return [slice(start, start + _BLOCK) for start in starts]


def compared_rows(batch: int) -> list[int] | slice:
    """An index of all sequences, or of those in the blocks."""
    blocks = compared_blocks(batch)
    return [row for block in blocks for row in range(batch)[block]] or slice(None)
