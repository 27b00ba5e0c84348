"""What torchrun says about this process, in environment variables. Imports no torch."""

import os

from inference_benchmark.errors import RequestError


def num_ranks() -> int:
    """How many processes torchrun started for this session; 1 without it.

    Raises:
        RequestError: the variables are no numbers of ranks.
    """
    if "RANK" not in os.environ:
        return 1
    size, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if not rank < size:
        raise RequestError(f"RANK={rank} with WORLD_SIZE={size}: start the ranks with torchrun")
    _number("LOCAL_RANK", 0)
    _number("LOCAL_WORLD_SIZE", 1)
    return size


def is_first_here() -> bool:
    """Whether this process speaks for its host."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def is_one_of_several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


def _number(name: str, least: int) -> int:
    text = os.environ.get(name, str(least))
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) or len(text) > 9:
        raise RequestError(
            f"{name} is '{text}' in the environment, which torchrun sets to a number"
        )
    return int(text)
