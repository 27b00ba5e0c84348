"""What of a request a result file records, and in what two results have to agree. No torch."""

from typing import Any

from inference_benchmark.options.flag import Role, flags_of
from inference_benchmark.options.flags import Flags
from inference_benchmark.options.request import Request


def _with_role(*roles: Role) -> tuple[str, ...]:
    return tuple(name for name, flag in flags_of(Flags).items() if flag.role in roles)


# The same work: the configuration's fields in which comparable results agree. A cell has further
# ones of its own (batch_size), and in num_layers and precision goes before the configuration.
IDENTITY_FIELDS = _with_role("work")


def identity_config(request: Request) -> dict[str, Any]:
    """The result file's `config`: what the flags resolved to, by their names."""
    recorded = _with_role("work", "condition", "record")
    config = {name: _plain(getattr(request, name)) for name in recorded}
    extrapolation = request.extrapolation
    return config | {
        "full_num_layers": request.model.full_num_layers or request.model.num_layers,
        "extrapolated_from": extrapolation and list(extrapolation.from_layers),
        "tensor_parallel": request.tensor_parallel,
        "all_reduce": None if request.tensor_parallel == 1 else request.all_reduce,
    }


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
