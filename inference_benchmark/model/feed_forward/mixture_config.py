"""A mixture of experts and its routers: their configuration and what they cost. No torch.

It stores many feed-forward networks and uses a few of them per token, so a step over n tokens reads
those experts which at least one token chose: all of them only for large n.
"""

from dataclasses import dataclass, replace

from inference_benchmark.model.feed_forward.dense_config import swiglu_matrices
from inference_benchmark.model.weight_format import Matrix
from inference_benchmark.parallel.sharding import divide


@dataclass(frozen=True)
class GroupLimitedRouter:
    """DeepSeek V3: sigmoid scores in fp32, which weigh the experts' outputs.

    Experts lie in num_groups groups. The groups_per_token groups with the largest sum of their two
    best scores are kept, and among their experts the best are chosen. A bias, learnt to even out
    the load, joins the scores for choosing only.
    """

    num_groups: int
    groups_per_token: int
    scale: float
    normalizes: bool = True  # the chosen scores are divided by their sum

    gates_input = False
    in_fp32 = True

    def fp32_parameters(self, hidden_size: int, num_experts: int) -> int:
        return num_experts * (hidden_size + 1)


@dataclass(frozen=True)
class InputRouter:
    """Llama 4: the sigmoid of a chosen expert's score multiplies what goes into it."""

    gates_input = True
    in_fp32 = False

    def fp32_parameters(self, hidden_size: int, num_experts: int) -> int:
        return 0


@dataclass(frozen=True)
class MixtureOfExperts:
    """Each token uses experts_per_token of num_experts SwiGLU networks, and one that all share."""

    num_experts: int
    experts_per_token: int
    intermediate_size: int  # of one expert
    shared_intermediate_size: int
    router: GroupLimitedRouter | InputRouter

    is_plain = False  # experts are products of another kind than linear layers

    def sharded(self, size: int) -> "MixtureOfExperts":
        """A share of every expert's columns: ranks are equally busy whatever the router chooses."""
        return replace(
            self,
            intermediate_size=divide(self.intermediate_size, size, "columns of an expert"),
            shared_intermediate_size=divide(
                self.shared_intermediate_size, size, "columns of the shared expert"
            ),
        )

    def _matrices(self, hidden_size: int, num_experts: float) -> tuple[Matrix, ...]:
        experts = swiglu_matrices(self.intermediate_size, hidden_size, num_experts)
        shared = swiglu_matrices(self.shared_intermediate_size, hidden_size)
        router = (
            ()
            if self.router.in_fp32
            else (Matrix(self.num_experts, hidden_size, keeps_base_type=True),)
        )
        return (*experts, *shared, *router)

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """The matrices of all experts, and of a router that is not kept in fp32."""
        return self._matrices(hidden_size, self.num_experts)

    def matrices_used(self, hidden_size: int, num_tokens: int) -> tuple[Matrix, ...]:
        """Those that a step over num_tokens tokens must read: of the experts the expected number."""
        return self._matrices(hidden_size, self.experts_touched(num_tokens))

    def fp32_parameters(self, hidden_size: int) -> int:
        return self.router.fp32_parameters(hidden_size, self.num_experts)

    def experts_touched(self, num_tokens: int) -> float:
        """Expected number of distinct experts that num_tokens tokens choose, if all are alike."""
        missed = (1 - self.experts_per_token / self.num_experts) ** num_tokens
        return self.num_experts * (1 - missed)

    def activation_values_per_token(self, hidden_size: int) -> int:
        """Per chosen expert its input, its output in order of experts and of tokens, gate and up
        and their product; the shared one is done by then."""
        chosen = self.experts_per_token * (3 * hidden_size + 3 * self.intermediate_size)
        return max(chosen, 3 * self.shared_intermediate_size)
