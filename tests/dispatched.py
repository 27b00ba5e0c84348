"""Which of this project's operators run."""

from torch.utils._python_dispatch import TorchDispatchMode

from inference_benchmark.kernels._registration import NAMESPACE


class Operators(TorchDispatchMode):
    """`seen`: our operators that ran while this was entered, by name, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function.namespace == NAMESPACE:
            self.seen.append(function._opname)
        return function(*arguments, **(options or {}))
