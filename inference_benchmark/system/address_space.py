"""Whether a limit on address space (ulimit -v) leaves enough for the libraries that are to be loaded.

Asked before they are: without memory torch aborts, and OpenBLAS tries again without end.
"""

import resource

from inference_benchmark.errors import CannotRun

TORCH_BYTES = 3.5e9  # measured with torch 2.11
SCIPY_BYTES = 1.0e9  # 0.35e9 on two cores; OpenBLAS takes 35e6 for each further one


def check_address_space(needed_bytes: float, noun: str) -> None:
    """
    Raises:
        CannotRun: the limit is lower.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < needed_bytes:
        raise CannotRun(
            f"ulimit -v leaves {limit / 1e9:.1f} GB of address space; {noun} alone needs about "
            f"{needed_bytes / 1e9:.1f} GB"
        )
