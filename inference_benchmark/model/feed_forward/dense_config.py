"""One SwiGLU network for every token: its configuration and what it costs. No torch."""

from dataclasses import dataclass

from inference_benchmark.model.weight_format import Matrix
from inference_benchmark.parallel.sharding import divide


def swiglu_matrices(width: int, hidden_size: int, count: float = 1) -> tuple[Matrix, ...]:
    """Gate and up in one; down."""
    return Matrix(2 * width, hidden_size, count), Matrix(hidden_size, width, count)


@dataclass(frozen=True)
class DenseFeedForward:
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    intermediate_size: int

    is_plain = True  # every matrix belongs to a linear layer

    def sharded(self, size: int) -> "DenseFeedForward":
        return DenseFeedForward(divide(self.intermediate_size, size, "feed-forward columns"))

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """The matrices of its linear layers."""
        return swiglu_matrices(self.intermediate_size, hidden_size)

    def matrices_used(self, hidden_size: int, num_tokens: int) -> tuple[Matrix, ...]:
        """Those that a step over num_tokens tokens must read."""
        return self.matrices(hidden_size)

    def fp32_parameters(self, hidden_size: int) -> int:
        """Weights kept in fp32 in every precision."""
        return 0

    def activation_values_per_token(self, hidden_size: int) -> int:
        """Gate and up, and their product."""
        return 3 * self.intermediate_size
